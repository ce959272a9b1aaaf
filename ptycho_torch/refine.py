"""Refinement: from a first object (a network's, or a flat one) to the likelihood's own answer, for object and probe.

Full-batch gradient of the amplitude likelihood `sum (|F| - A)^2`, preconditioned by the illumination
`sum_j |P_j|^2` (object) and by `sum_j |O_j|^2` (probe), with Nesterov's acceleration and a restart of the momentum
whenever the error rises (O'Donoghue & Candes, Found. Comput. Math. 15, 715 (2015)). Sub-pixel positions move the
probe (`fourier` rule), not the object.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho.core.diffraction import as_modes
from ptycho.errors import DataError
from ptycho_torch.physics import safe_sqrt, squared_modulus

__all__ = ["Refinement", "add_patches", "cut_patches", "refine"]

logger = logging.getLogger(__name__)

OBJECT_STEP = 0.7
PROBE_STEP = 0.7
"""Steps of object and probe, as fractions of the preconditioned full step, when both move."""
PROBE_WAITS = 3
"""Iterations before the probe moves, so that a poor start is not taken for a poor probe."""
ILLUMINATION_FLOOR = 0.02
"""Added to a preconditioner, relative to its maximum."""
FIELD_FLOOR = 1e-4
"""Added to |F|, relative to the root mean square amplitude: below it the phase of F is rounding, not information."""
BATCH_PIXELS = 1 << 21
"""Exit-wave pixels in flight: bounds the memory beside data, object and probe."""


@dataclass(frozen=True)
class Refinement:
    """What `refine` found; `error_history[0]` is the start's error and `error_history[-1]` the result's."""

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    error_history: tuple[float, ...]
    restarts: int
    seconds: float


def cut_patches(canvas: Tensor, rows: Tensor, cols: Tensor, N: int) -> Tensor:
    """Patches `(b, N, N)` of `canvas (H, W)` that begin at whole pixels `rows`, `cols` (b,)."""
    return canvas.unfold(0, N, 1).unfold(1, N, 1)[rows, cols]


def add_patches(canvas: Tensor, patches: Tensor, rows: Tensor, cols: Tensor) -> None:
    """Add `patches (b, N, N)` into `canvas (H, W)` in place: the adjoint of `cut_patches`.

    On a CPU a loop of slices costs half of an indexed sum; on a GPU each slice would be a launch of its own.
    """
    n = patches.shape[-1]
    if canvas.device.type == "cpu":
        for row, col, patch in zip(rows.tolist(), cols.tolist(), patches, strict=True):
            canvas[row : row + n, col : col + n] += patch
        return
    step = torch.arange(n, device=canvas.device)
    index = (rows[:, None, None] + step[:, None]) * canvas.shape[1] + cols[:, None, None] + step
    canvas.view(-1).index_add_(0, index.reshape(-1), patches.reshape(-1))


class _Scan:
    """The scan on the device: amplitudes with the zero frequency first, whole and fractional positions."""

    def __init__(
        self,
        amplitude: NDArray[np.float32],
        mask: NDArray[np.bool_] | None,
        xcoords: NDArray[np.float64],
        ycoords: NDArray[np.float64],
        shape: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.N = amplitude.shape[-1]
        x, y = np.rint(xcoords), np.rint(ycoords)
        rows, cols = y.astype(np.int64) - self.N // 2, x.astype(np.int64) - self.N // 2
        if rows.min() < 0 or cols.min() < 0 or rows.max() + self.N > shape[0] or cols.max() + self.N > shape[1]:
            raise DataError(f"every patch must lie inside the object {shape}, found one outside: enlarge the object")
        self.rows = torch.as_tensor(rows, device=device)
        self.cols = torch.as_tensor(cols, device=device)
        self.dx = torch.as_tensor((xcoords - x).astype(np.float32), device=device)
        self.dy = torch.as_tensor((ycoords - y).astype(np.float32), device=device)
        self.amplitude = torch.fft.ifftshift(torch.as_tensor(amplitude, device=device), dim=(-2, -1))
        self.mask = None
        if mask is not None:
            self.mask = torch.fft.ifftshift(torch.as_tensor(mask, device=device), dim=(-2, -1))
        self.energy = float(self._valid(self.amplitude, slice(None)).double().square().sum())
        self.floor = FIELD_FLOOR * math.sqrt(self.energy / self.amplitude.numel())

    def _valid(self, values: Tensor, part: slice) -> Tensor:
        if self.mask is None:
            return values
        return values * (self.mask if self.mask.ndim == 2 else self.mask[part])

    def parts(self, modes: int) -> list[slice]:
        """Slices of the scan whose exit waves fit the batch."""
        step = max(1, BATCH_PIXELS // (modes * self.N**2))
        return [slice(i, i + step) for i in range(0, len(self.rows), step)]

    def ramps(self, part: slice) -> Tensor:
        """Phase ramps `(b, 1, N, N)` that move a probe by each remainder, zero frequency first."""
        frequency = torch.fft.fftfreq(self.N, device=self.dx.device)
        along = [
            torch.polar(torch.ones(1, device=shift.device), -2 * math.pi * frequency * shift[part, None])
            for shift in (self.dy, self.dx)
        ]
        return (along[0][:, :, None] * along[1][:, None, :])[:, None]

    def residual(self, exit_waves: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Exit-wave residual `F^-1[F (1 - A / |F|)]` `(b, M, N, N)` and the squared error, 0 at invalid pixels."""
        field = torch.fft.fft2(exit_waves, norm="ortho")
        modulus = safe_sqrt(squared_modulus(field).sum(dim=1))
        excess = self._valid(modulus - self.amplitude[part], part)
        error = excess.double().square().sum()
        return torch.fft.ifft2(field * (excess / (modulus + self.floor))[:, None], norm="ortho"), error


@dataclass
class _Point:
    """Object and probe at one place of the search."""

    object: Tensor
    probe: Tensor

    def ahead(self, last: _Point, momentum: float) -> _Point:
        """Go on from here in the direction that led here from `last`."""
        return _Point(
            self.object + momentum * (self.object - last.object), self.probe + momentum * (self.probe - last.probe)
        )


def _gradients(scan: _Scan, at: _Point) -> tuple[float, Tensor, Tensor]:
    """Relative error, and the preconditioned gradients with respect to object and probe."""
    n = scan.N
    spectrum = torch.fft.fft2(at.probe)
    object_gradient, probe_gradient = torch.zeros_like(at.object), torch.zeros_like(at.probe)
    illumination = torch.zeros_like(at.object.real)
    transmission = torch.zeros_like(at.probe[0].real)
    error = torch.zeros((), dtype=torch.float64, device=at.object.device)
    for part in scan.parts(len(at.probe)):
        ramps, rows, cols = scan.ramps(part), scan.rows[part], scan.cols[part]
        probes = torch.fft.ifft2(spectrum * ramps)
        patches = cut_patches(at.object, rows, cols, n)
        residual, part_error = scan.residual(probes * patches[:, None], part)
        error += part_error
        add_patches(object_gradient, (residual * probes.conj()).sum(dim=1), rows, cols)
        add_patches(illumination, squared_modulus(probes).sum(dim=1), rows, cols)
        back = torch.fft.fft2(residual * patches[:, None].conj()) * ramps.conj()
        probe_gradient += torch.fft.ifft2(back.sum(dim=0))
        transmission += squared_modulus(patches).sum(dim=0)
    object_gradient /= illumination + ILLUMINATION_FLOOR * illumination.max()
    probe_gradient /= transmission + ILLUMINATION_FLOOR * transmission.max()
    return float(error) / scan.energy, object_gradient, probe_gradient


def refine(
    amplitude: NDArray[np.float32],
    probe: NDArray[np.complexfloating],
    xcoords: NDArray[np.float64],
    ycoords: NDArray[np.float64],
    start: NDArray[np.complexfloating],
    iterations: int,
    *,
    mask: NDArray[np.bool_] | None = None,
    refine_probe: bool = True,
    device: torch.device | str = "cpu",
    report: Callable[[int, float], None] | None = None,
) -> Refinement:
    """Refine object and probe on the amplitudes of a scan.

    Minimises the relative Fourier error `sum (|F| - A)^2 / sum A^2` over the valid pixels.

    Args:
        amplitude: `(n, N, N)` float32, zero frequency at `[N/2, N/2]`.
        probe: `(M, N, N)` or `(N, N)`, in the unit of the amplitudes.
        xcoords, ycoords: `(n,)` pixels in the frame of `start`; (x, y) is the centre of the patch.
        start: object `(H, W)` to begin with; every patch lies inside it.
        iterations: evaluations of the gradient, at least 1.
        mask: bool `(N, N)` or `(n, N, N)`, True where valid.
        refine_probe: whether the probe moves too (then both take `OBJECT_STEP`, `PROBE_STEP` of a full step).
        report: called with the iteration (0 = start) and its relative error.

    Returns:
        The best point seen, start included, with its probe: the error never ends above where it began.
    """
    if iterations < 1:
        raise DataError(f"iterations must be at least 1, found {iterations}")
    begun, device = time.perf_counter(), torch.device(device)
    scan = _Scan(amplitude, mask, xcoords, ycoords, start.shape, device)
    here = _Point(
        torch.as_tensor(start, dtype=torch.complex64, device=device),
        torch.as_tensor(np.asarray(as_modes(probe)), dtype=torch.complex64, device=device),
    )
    ahead = best = last = here
    errors: list[float] = []
    best_error, last_error, pace, restarts = math.inf, math.inf, 1.0, 0
    for iteration in range(iterations + 1):
        error, object_gradient, probe_gradient = _gradients(scan, ahead)
        if error < best_error:
            best, best_error = ahead, error
        errors.append(best_error)
        if report is not None:
            report(iteration, best_error)
        if error > last_error:
            restarts, pace, last_error = restarts + 1, 1.0, math.inf
            ahead = here = best
            continue
        last_error, last = error, here
        moves = refine_probe and iteration >= PROBE_WAITS
        here = _Point(
            ahead.object - (OBJECT_STEP if refine_probe else 1.0) * object_gradient,
            ahead.probe - PROBE_STEP * probe_gradient if moves else ahead.probe,
        )
        next_pace = (1 + math.sqrt(1 + 4 * pace**2)) / 2
        ahead, pace = here.ahead(last, (pace - 1) / next_pace), next_pace
    logger.debug("refinement: %d iterations, %d restarts", iterations, restarts)
    return Refinement(
        object=best.object.cpu().numpy(),
        probe=best.probe.cpu().numpy(),
        error_history=tuple(errors),
        restarts=restarts,
        seconds=time.perf_counter() - begun,
    )

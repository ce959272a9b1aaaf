"""The trust of a reconstruction, worked out where it is refined: by the kernels of an engine, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.core.physics.diffraction import as_modes, diffract
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.quality.trust import Dose, Trust
from ptycho.core.refinement.device.kernels import Kernels, Point
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.sums.passes import Passes
from ptycho.errors import DataError

__all__ = ["ON_HOST", "MeasuredScan", "Prediction", "TrustEngine", "measure_trust", "summed_trust"]

Array = NDArray[Any]
Float = NDArray[np.float64]
Amplitude = Callable[[NDArray[np.int64]], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class TrustEngine:
    """What works out the trust."""

    kernels: Callable[[], Kernels]
    """Of an engine, in double precision, with no floor of intensities: where many photons are counted, single precision
    makes errors that stand out of their noise."""
    memory: int | None = None
    """Bytes that they may use; None: as many as a refinement by them."""

    def scan_sums(self, prediction: Prediction, scan: MeasuredScan) -> Float:
        """What each pattern of a scan says of its prediction, (n, 8): `Prediction.sums`."""
        return prediction.sums(scan.amplitude, scan.mask, self)


ON_HOST = TrustEngine(lambda: NumpyKernels("amplitude", 0.0))
"""NumPy: where no backend is at hand."""


class MeasuredScan(Protocol):
    """The patterns of a scan, as they are compared; `ptycho.raw_data.RawData` is one."""

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """(N, N) or (n, N, N), True where valid."""

    def amplitude(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Amplitudes (b, N, N) of these patterns."""

    def shared(self, own: NDArray[np.int64]) -> dict[str, Any]:
        """What another process makes this scan of, which reads no patterns but these (k,)."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What object and probe predict of the patterns of a scan; see `Prediction.of`."""

    object: Array
    """(H, W), of a thick object (K, H, W); every patch lies in it."""
    probe: Array
    """(M, N, N)."""
    x: Float
    y: Float
    """(n,) patch centres, pixels of `object`."""
    recording: Recording
    photon_scale: float
    which: NDArray[np.int64]
    """(k,) the patterns that are compared, sorted."""

    @classmethod
    def of(
        cls, object: Array, probe: Array, xcoords: Float, ycoords: Float, recording: Recording, photon_scale: float
    ) -> Prediction:
        """That of a scan; `measure_trust` describes the arguments.

        Raises:
            DataError: a scale that is not positive, or NaN or infinity among the positions.
        """
        if not (np.isfinite(photon_scale) and photon_scale > 0):
            raise DataError(
                f"photon_scale: expected a positive number, found {photon_scale}; state the photons per pattern"
            )
        modes, x, y = as_modes(probe).astype(np.complex128), np.asarray(xcoords, float), np.asarray(ycoords, float)
        if len(x):
            object, x, y = _within(object, x, y, modes.shape[-1])
        return cls(object, modes, x, y, recording, photon_scale, np.arange(len(x)))

    def part(self, which: NDArray[np.int64]) -> Prediction:
        """That of some patterns (k,), sorted, with the box of the object that they lie in; in batches of the same
        patterns it says the same, to the last digit.
        """
        rows, columns = (_reach(at[which], self.probe.shape[-1]) for at in (self.y, self.x))
        box = self.object[..., rows, columns]
        return replace(self, object=box, x=self.x - columns.start, y=self.y - rows.start, which=which)

    def sums(self, amplitude: Amplitude, mask: NDArray[np.bool_] | None, engine: TrustEngine) -> Float:
        """What each pattern says, (k, 8) as `ptycho.core.refinement.device.kernels.Kernels.compared` has it.

        Args:
            amplitude, mask: as of `measure_trust`, of the whole scan; no others are read.
            engine: what works it out.
        """
        sums, N = np.zeros((len(self.which), 8)), self.probe.shape[-1]
        if not len(sums):
            return sums
        recording = self.recording
        patterns = _Patterns(self.x, self.y, self.probe, mask, recording.near_field, amplitude)
        vacuum = replace(recording, flux=None, fly_path=None, gap=None, variation=None)
        light = diffract(self.probe, np.ones((1, N, N)), recording=vacuum)[0]
        with closing(engine.kernels()) as kernels:
            memory = kernels.memory if engine.memory is None else engine.memory
            point = _point(self.object, self.probe, self.x, self.y, recording)
            passes = _passes(kernels, patterns, self.which, point, recording, memory)
            order, found = passes.compared(point, light, self.photon_scale)
        sums[np.searchsorted(self.which, order)] = found
        return sums


@dataclass(frozen=True, eq=False)
class _Patterns:
    """`ptycho.core.refinement.device.kernels.ScanData` of patterns that are looked at once."""

    xcoords: Float
    ycoords: Float
    probeGuess: Array
    mask: NDArray[np.bool_] | None
    near_field: NearField | None
    read: Amplitude
    flux: None = None
    background: None = None
    blur: None = None
    scan_probes: None = None

    def __len__(self) -> int:
        return len(self.xcoords)

    def amplitude(self, indices: ArrayLike | None = None) -> NDArray[np.float32]:
        """Amplitudes (b, N, N) of these patterns, 0 in invalid pixels."""
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices)
        values = self.read(chosen)
        if self.mask is not None:
            values = np.where(self.mask[chosen] if self.mask.ndim == 3 else self.mask, values, 0)
        return values.astype(np.float32, copy=False)


def measure_trust(
    object: NDArray[np.complexfloating[Any, Any]],
    probe: NDArray[np.complexfloating[Any, Any]],
    xcoords: Float,
    ycoords: Float,
    amplitude: Amplitude,
    photon_scale: float,
    dose: Dose,
    mask: NDArray[np.bool_] | None = None,
    recording: Recording = PLAIN,
    engine: TrustEngine = ON_HOST,
) -> Trust:
    """Compare every pattern of a scan with the one that object and probe predict, batch by batch.

    Patterns are read once and kept nowhere, whatever the engine.

    Args:
        object: (H, W) transmission, of a thick object (K, H, W); 0 outside.
        probe: (N, N) or (M, N, N), in the unit of the amplitudes.
        xcoords, ycoords: (n,) patch centres, pixels of `object`.
        amplitude: measured amplitudes (b, N, N) of some patterns, given their indices (b,).
        photon_scale: photons per unit of squared amplitude; 1 where the amplitude is the root of counts.
        dose: where `photon_scale` is from.
        mask: (N, N) or (n, N, N), True where valid.
        recording: of the scan.
        engine: what works it out.

    Raises:
        DataError: no pattern, a scale that is not positive, no light in the valid pixels, or NaN or infinity there or
            among the positions.
    """
    prediction = Prediction.of(object, probe, xcoords, ycoords, recording, photon_scale)
    return summed_trust(prediction.sums(amplitude, mask, engine), dose)


def summed_trust(sums: Float, dose: Dose) -> Trust:
    """The trust of a scan, from what each of its patterns says.

    Args:
        sums: (n, 8) of `Prediction.sums`.
        dose: where the scale of the prediction is from.

    Raises:
        DataError: no pattern, or no light in the valid pixels.
    """
    deviance, expected, variance, noise, misfit, counts, product, energy = sums.T
    if not counts.sum() > 0 or not energy.sum() > 0:
        raise DataError(
            f"trust: expected light in the valid pixels of {len(sums)} patterns, found none; check data and mask"
        )
    level = product.sum() / energy.sum()
    uniform = counts - 2 * level * product + level**2 * energy
    return Trust(deviance, expected, np.sqrt(variance), misfit, noise, uniform, counts, dose)


def _reach(at: Float, n: int) -> slice:
    """The pixels along an axis that patches of n pixels around these places lie on."""
    if not len(at):
        return slice(0, 0)
    middle = np.rint(at).astype(int)
    first = int(middle.min()) - n // 2
    return slice(first - first % 2, int(middle.max()) - n // 2 + n)  # from an odd one halves would round the other way


def _within(object: Array, x: Float, y: Float, n: int) -> tuple[Array, Float, Float]:
    """The object, with zeros around it where patches of n pixels need them, and their centres in it."""
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("positions: expected finite values, found NaN or infinity; replace them")
    height, width = object.shape[-2:]
    x, y = np.clip(x, -n, width + n), np.clip(y, -n, height + n)  # farther away there is nothing either
    before, after = [], []
    for at, size in zip((y, x), (height, width), strict=True):
        first = np.rint(at).astype(int) - n // 2
        missing = max(0, -int(first.min()))
        before.append(missing + missing % 2)  # an odd number would round halves the other way
        after.append(max(0, int(first.max()) + n - size))
    if not any(before + after):
        return object, x, y
    beside = [(0, 0)] * (object.ndim - 2)
    return np.pad(object, [*beside, *zip(before, after, strict=True)]), x + before[1], y + before[0]


def _point(object: Array, modes: Array, x: Float, y: Float, recording: Recording) -> Point:
    """What is held against the patterns."""
    n, N = len(x), modes.shape[-1]
    flux, background, variation = recording.flux, recording.background, recording.variation
    point = Point(
        object,
        modes,
        x,
        y,
        np.ones(n) if flux is None else flux,
        np.zeros((N, N)) if background is None else background,
        blur=np.array(recording.blur or 0.0),
        variation=np.zeros((0, N, N), complex),
        coefficients=np.zeros((n, 0), complex),
    )
    if isinstance(variation, ScanProbes):
        return point._replace(probe=variation.all(modes).reshape(-1, N, N))
    if isinstance(variation, ProbeVariation):
        return point._replace(variation=variation.modes, coefficients=variation.coefficients)
    return point


def _passes(
    kernels: Kernels, patterns: _Patterns, which: NDArray[np.int64], point: Point, recording: Recording, memory: int
) -> Passes:
    """Over these patterns, once."""
    modes, scans = len(point.vectors), None
    if isinstance(recording.variation, ScanProbes):
        modes, scans = modes // recording.variation.count, recording.variation.scan
    return Passes(
        *(kernels, patterns, [which], np.arange(0), modes, memory, recording.fly_path),
        gap=recording.gap,
        slices=1 if point.object.ndim == 2 else len(point.object),
        scans=scans,
        once=True,
    )

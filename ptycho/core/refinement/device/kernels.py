"""What a refinement engine brings: the work on a batch of patterns, and the values that it is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.refinement.device.images import Images
from ptycho.core.refinement.device.numbers import Number, Numbers

__all__ = ["Direction", "Kernels", "Measured", "Point", "ScanData", "Stream", "Terms"]

Array = NDArray[Any]
Share = TypeVar("Share")
Found = TypeVar("Found")


class ScanData(Protocol):
    """What a refinement reads of a scan; `ptycho.raw_data.RawData` has it."""

    @property
    def xcoords(self) -> NDArray[np.float64]:
        """(n,) centre of each patch, pixels."""

    @property
    def ycoords(self) -> NDArray[np.float64]:
        """(n,) likewise."""

    @property
    def probeGuess(self) -> Array:
        """(N, N) or (M, N, N)."""

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """(N, N) or (n, N, N), True where valid; None everywhere."""

    @property
    def near_field(self) -> NearField | None:
        """How waves go to a near detector; None where it is far away."""

    @property
    def flux(self) -> NDArray[np.float64] | None:
        """(n,) of the beam at each pattern, as far as it is known; None: 1."""

    @property
    def background(self) -> NDArray[np.float64] | None:
        """(N, N) that squares of amplitudes have beside the object's light, not negative, zero frequency in the middle,
        as far as it is known; None: 0.
        """

    @property
    def blur(self) -> float | None:
        """Standard deviation of the detector's blur, pixels, as far as it is known; None: it is sharp."""

    @property
    def scan_probes(self) -> ScanProbes | None:
        """The probes of the other scans, where it is several; None where it is one."""

    def __len__(self) -> int: ...

    def amplitude(self, indices: ArrayLike | None = None) -> NDArray[np.float32]:
        """Amplitudes (b, N, N) of these patterns, zero frequency of a far field in the middle."""


UNSTRETCHED: NDArray[np.float64] = np.ones(())
"""The distance between slices as it was given."""
SHARP: NDArray[np.float64] = np.zeros(())
"""The blur of a detector that has none."""


class Point(NamedTuple):
    """One place of the search, as NumPy arrays; positions are those of the patches' centres in the object."""

    object: Array
    """(H, W), of a thick object (K, H, W), the slice that the beam meets first being the first."""
    probe: Array
    """(M, N, N), of S scans of one object (S M, N, N), the modes of the first scan being the first."""
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    """(n,) of the beam at each pattern, relative to that of the probe: the probe counts `sqrt(flux)` times."""
    background: NDArray[np.float64]
    """(N, N) incoherent light that every pattern has, whatever its flux, in the unit of squared amplitudes; not
    negative, zero frequency in the middle; 0 where there is none."""
    stretch: NDArray[np.float64] = UNSTRETCHED
    """() distance between two slices of the object, relative to the one given."""
    blur: NDArray[np.float64] = SHARP
    """() standard deviation of the detector's blur, pixels (`ptycho.core.physics.detector_blur`); 0: it is sharp."""
    variation: Array = np.zeros((0, 0, 0))
    """(K, N, N) modes of variation of the first mode of the probe (`ptycho.core.physics.variable_probe`); none where it
    is the same for all patterns."""
    coefficients: Array = np.zeros((0, 0))
    """(n, K) of each of them in each pattern."""

    @property
    def vectors(self) -> Array:
        """(M + K, N, N) what the probes of the patterns are made of: the modes of the probe, those of variation."""
        return np.concatenate([self.probe, self.variation]) if len(self.variation) else self.probe

    def with_vectors(self, vectors: Array) -> Point:
        """The point with other modes of the probe and of variation."""
        if not len(self.variation):
            return self._replace(probe=vectors)
        return self._replace(probe=vectors[: len(self.probe)], variation=vectors[len(self.probe) :])

    def in_precision(self, complex_bytes: int) -> Point:
        """A copy whose object and probe are complex numbers of so many bytes."""
        dtype = np.complex64 if complex_bytes == np.dtype(np.complex64).itemsize else np.complex128
        image, probe, variation = (np.array(one, dtype) for one in (self.object, self.probe, self.variation))
        return self._replace(object=image, probe=probe, variation=variation)


class Direction(NamedTuple):
    """A change of object and probe; None where the probe stays."""

    object: Array
    probe: Array | None
    """(M + K, N, N) as `Point.vectors`."""


class Terms(NamedTuple):
    """Normal equations of every pattern of a batch in K numbers: gradient `(b, K)` and curvature `(b, K, K)`.

    Those of a position are its x and its y.
    """

    gradient: Array
    curvature: Array


class Measured(NamedTuple):
    """A batch of patterns on the device: amplitudes, 1 where they are valid (None: everywhere), what the detector adds
    to every far field (None: nothing), and how it blurs them before (None: not at all).
    """

    amplitude: Any
    valid: Any
    background: Any = None
    blur: Any = None


class Stream(Protocol):
    """The way of patterns to a device (`ptycho.core.refinement.sums.streaming`)."""

    def hold(self, measured: Measured) -> Any:
        """Patterns and masks, NumPy's, where the device reads them fastest, in the memory of the host."""

    def send(self, held: Any) -> Any:
        """Begin to copy; nobody waits."""

    def arrived(self, sent: Any) -> Measured:
        """What was sent, on the device; the work that follows waits for it."""


class Kernels(Protocol):
    """What a backend does with a batch. Its own arrays are `Any`, NumPy's are `Array`; the zero frequency of far
    fields comes first. Normal equations in K numbers of each pattern are `(b, K, 1 + K)`: the gradient is the first
    column, the others are the curvature.

    Patches are `(b, N, N)`, waves, probes and fields `(b, S M, N, N)`: the M modes of the probe at each of the S places
    that it has while a pattern is counted, one place unless the scan flies (`ptycho.core.physics.fly_scan`).
    """

    @property
    def complex_bytes(self) -> int:
        """Of one complex number."""

    @property
    def images(self) -> Images:
        """The arithmetic of a search on objects and probes, where they stay."""

    @property
    def numbers(self) -> Numbers:
        """The numbers of a search, where they stay."""

    @property
    def memory(self) -> int:
        """Bytes for a refinement where nobody says (`ptycho.core.refinement.device.memory`)."""

    @property
    def batch_pixels(self) -> int | None:
        """Exit-wave pixels that are best worked on at once; None: as many as the memory holds."""

    @property
    def packs(self) -> bool:
        """Whether `measured` takes patterns in the types of `ptycho.core.refinement.device.packing`."""

    @property
    def stream(self) -> Stream | None:
        """How patterns go to the device beside its work; None: `measured` is as fast."""

    @property
    def lanes(self) -> int:
        """Batches that `together` works on at the same time."""

    def together(self, work: Callable[[Share], Found], shares: Sequence[Share]) -> list[Found]:
        """What `work` finds of every share, in their order; one share for each lane."""

    def close(self) -> None:
        """End what works at the same time; begun again when it is asked for."""

    def summed(self, total: Any, scalar: Any) -> Any:
        """A sum of scalars of the backend (None: begin one) with one more, on the device and in double precision."""

    def total(self, scalars: Sequence[Any]) -> Number:
        """Sum of scalars of the backend, in double precision."""

    def measured(self, amplitude: Array, valid: Array | None) -> Measured:
        """Patterns on the device, packed ones as they are: amplitudes come of them where they are used."""

    def background(self, values: Array) -> Any:
        """A background `(N, N)` on the device, in the unit of the fields' intensities."""

    def blur(self, matrix: Array) -> Any:
        """The matrix K `(N, N)` of a blur on the device, symmetric: fields of the intensity I are seen as `K I K`, and
        so are the changes of I.
        """

    def image(self, values: Array) -> Any:
        """Object or probe on the device; one that stays there as it is."""

    def pieces(self, values: Array, counts: Sequence[int]) -> list[Any]:
        """What belongs to patterns `(n, ...)`, brought to the device at once, in pieces of so many patterns each."""

    def rows(self, shape: tuple[int, ...]) -> Any:
        """Room for what is found of every pattern `(n, ...)`, in double precision."""

    def put(self, rows: Any, where: slice, piece: Any) -> None:
        """Write what is found of some patterns into their rows."""

    def corners(self, rows: Any, cols: Any) -> Any:
        """First row and column `(b,)` of every patch, NumPy's or pieces of the device, for `cut` and `add`."""

    def cut(self, image: Any, corners: Any, n: int) -> Any:
        """Patches of an object."""

    def add(self, total: Any, shape: tuple[int, int], patches: Any, corners: Any) -> Any:
        """Add patches to a sum of the given shape (None: begin one); the adjoint of `cut`."""

    def numpy(self, values: Any) -> Array:
        """Back to NumPy."""

    def ramps(self, dx: Any, dy: Any, factor: Any, n: int) -> Any:
        """What moves an image of n pixels by every remainder `(b, S)` and multiplies it with every factor `(b,)`,
        NumPy's or pieces of the device: phase ramps, or whatever the kernels like.
        """

    def shifted(self, probe: Any, ramps: Any, mixture: Any = None) -> Any:
        """The probe `(M, N, N)` moved by every remainder, times every factor.

        With weights `(b, K + 1)` of a probe that varies (`ptycho.core.physics.variable_probe.mixture`), `image` of
        them, its K modes of variation follow its M modes: the first mode is the sum of itself and them.
        """

    def transfer(self, transfer: Any, dx: Any, dy: Any) -> Any:
        """What carries waves to a near detector: `image` of a transfer function `(N, N)`
        (`ptycho.core.physics.near_field`) times the phase ramps that move them back by every remainder `(b, S)`, as far
        as the probe was moved.
        """

    def fields(self, probes: Any, patches: Any, transfer: Any = None) -> Any:
        """Fields at the detector: far ones `F = fft2(probes patches) / N`, or with a transfer function H near ones
        `F = ifft2(H fft2(probes patches))`.
        """

    def fields_along(self, probes: Any, patches: Any, probe_moves: Any, patch_moves: Any, transfer: Any = None) -> Any:
        """The change of the fields, those of `probes patch_moves + probe_moves patches`; None is no move."""

    def moved(self, values: Any, moves: Any, length: Number) -> Any:
        """`values + length moves`, of moved probes; the values may be those."""

    def advanced(self, fields: Any, moves: Any, length: Number) -> Any:
        """`fields + length moves`."""

    def error(self, fields: Any, measured: Measured) -> Any:
        """Sum of the likelihood, a scalar of the backend."""

    def errors(self, fields: Any, measured: Measured) -> Array:
        """The same of each pattern `(b,)`."""

    def pull(self, fields: Any, measured: Measured, probes: Any, transfer: Any = None) -> tuple[Any, Any, Any]:
        """Error, residual waves, and the gradient with respect to the patches; residual waves are the adjoint of the
        propagation of `r F / a`, `ifft2(r F / a) N` or `ifft2(conj(H) fft2(r F / a))`.
        """

    def back(self, waves: Any, patches: Any, incident: Any, gap: Any) -> tuple[Any, Any]:
        """Residual waves behind the slice before, and the gradient with respect to its patches: the adjoint of a way
        through free space, `ifft2(H fft2(incident patches_before))`, on which the waves behind `patches` go back.

        Args:
            waves: residual waves behind a slice.
            patches: of that slice.
            incident: waves in front of the slice before.
            gap: H `(N, N)`, the transfer function from one to the other.
        """

    def probe_gradient(self, waves: Any, patches: Any, ramps: Any, mixture: Any = None) -> Any:
        """Gradient `(M, N, N)`, `(M + K, N, N)` of one that varies, with respect to the probe, moved back and summed
        over batch and places.
        """

    def slopes(self, fields: Any, moves: Any, measured: Measured) -> Any:
        """`sum J^2`, a scalar of the backend."""

    def position_terms(
        self, probe: Any, patches: Any, measured: Measured, ramps: Any, transfer: Any = None, mixture: Any = None
    ) -> Any:
        """Normal equations `(b, 2, 3)` of the likelihood in (dx, dy)."""

    def probe_slopes(self, probe: Any, ramps: Any) -> tuple[Any, Any]:
        """How `shifted` changes with dx and with dy."""

    def variation_terms(self, fields: Any, moves: Any, places: int, mixture: Any, measured: Measured) -> Any:
        """Normal equations `(b, 2 K, 1 + 2 K)` of the likelihood in the coefficients of a probe that varies, the real
        parts first; `moves` `(b, S K, N, N)` are the fields of every mode of variation at S places.

        With weights w of the first field F and of the moves `D_k`, the slopes in `Re a_k` and `Im a_k` are
        `w_0 (Re C_k - Re w_k sum_s |F_s|^2) / a` and `-w_0 (Im C_k + Im w_k sum_s |F_s|^2) / a` with
        `C_k = sum_s conj(F_s) D_sk`.
        """

    def patch_terms(
        self, fields: Any, probes: Any, moves: Sequence[Any], measured: Measured, floor: float, transfer: Any = None
    ) -> Any:
        """Normal equations along K changes `(b, N, N)` of the patches, of intensities with the weight `1 / (a^2 + k)`,
        k the floor: whatever is counted, their mean is right, that of amplitudes is too small where it is dim.

        Those of `move_terms` along what the changes make of the fields.
        """

    def move_terms(self, fields: Any, moves: Sequence[Any], measured: Measured, floor: float | None = None) -> Any:
        """Normal equations along K changes of the fields, of the likelihood, or with a floor k of intensities.

        The latter are: gradient `sum (a^2 - Y - e) J / (2 w)` and curvature `sum J J / w`, with
        `J = Re sum_m conj(F_m) D_m` and `w = a^2 + k`.
        """

    def flux_terms(self, fields: Any, measured: Measured) -> Any:
        """Normal equations `(b, 1, 2)`, `sum r s` and `sum s^2`, of the likelihood in the logarithm of a factor:
        `s = K (sum |F|^2) K / a`.
        """

    def background_terms(self, fields: Any, measured: Measured) -> Any:
        """Gradient `sum r s` and curvature `sum s^2`, together `(2, N, N)`, summed over the batch in double precision,
        of the likelihood in the background of each pixel: `s = 1 / (2 a)`.
        """

    def compared(self, fields: Any, measured: Measured, light: Any, photon_scale: float) -> Any:
        """What patterns say of the fields, by kernels in double precision without a floor: sums over the valid pixels
        of each, `(b, 8)`, of

        * the deviance `D = 2 [Y log(Y / L) - Y + L]`, its expectation and variance;
        * the squared misfit of amplitudes `(sqrt(L) - sqrt(Y))^2`: what photon noise leaves of it, and what is found;
        * with the far field B of the bare probe `c A^2`, `c A B` and `c B^2`,

        with the counts `Y = c A^2` and the expected ones `L = c max(a^2, ROUNDING m)`
        (`ptycho.core.refinement.device.likelihood`), m the brightest pixel of the pattern's `a^2` and of `B^2`, and
        what photon noise makes of L (`ptycho.core.physics.poisson`).

        Args:
            light: `B^2`, a `background` on the device.
            photon_scale: c, photons per unit of squared amplitude.
        """

    def blur_terms(self, fields: Any, measured: Measured, blur: Any, slope: Any) -> Any:
        """Normal equations `(b, 1, 2)` of the likelihood in a number t of the blur: `s = (D I K + K I D) / (2 a)`, with
        the matrix K (`blur`, of the patterns as well) and its derivative D in t (`slope`).
        """

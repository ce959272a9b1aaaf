"""Probes: the illumination of one scan point, complex `(N, N)`, its middle at index N/2.

Every probe carries an `energy`, `sum |P|^2`, in the square of the unit of the measured amplitude. The default
is (N/2)^2, the energy that the network works with; 1 gives a unit-energy probe. A new kind is one function
and one line in `PROBES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from ptycho.core.named_functions import chosen
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.optics import aberration_phase
from ptycho.errors import ConfigError, DataError

__all__ = [
    "PROBES",
    "diffuser_probe",
    "disk_probe",
    "gaussian_probe",
    "make_probe",
    "orthogonal_modes",
    "probe_diameter",
    "probe_mask",
    "probe_overlap",
    "probe_ramp",
    "with_modes",
    "without_ramp",
    "zone_plate_probe",
]


def make_probe(kind: str, N: int, **settings: Any) -> NDArray[np.complex64]:
    """Make a probe by the name of its kind.

    Args:
        kind: 'zone_plate', 'gaussian', 'disk' or 'diffuser'.
        N: side in pixels.
        settings: settings of the kind, as its function names them, for example `fwhm=12` of 'gaussian'.

    Raises:
        ConfigError: an unknown kind or setting, or one that the kind refuses.
    """
    return chosen(PROBES, "probe", kind, settings, leading=1)(N, **settings)


def zone_plate_probe(
    N: int,
    pupil_radius: float = 14.0,
    stop: float = 0.2,
    softness: float = 1.0,
    defocus: float = 2.6,
    energy: float | None = None,
    aberrations: Mapping[int, float] | None = None,
) -> NDArray[np.complex64]:
    """Defocused focus of a Fresnel zone plate with a central stop.

    The pupil, q detector pixels from the zero frequency, is an annulus with soft edges and a quadratic phase,
    `(1 - t(q - R))/2 (1 + t(q - stop R))/2 exp(i pi defocus (q/R)^2)` with `t(u) = tanh(u / softness)`. The
    probe is its unitary inverse transform, real and positive at its middle; its geometric diameter is
    `2 N defocus / R` pixels (23.8 for N = 64 and the defaults).

    Args:
        N: side in pixels.
        pupil_radius: outer radius R of the pupil, detector pixels.
        stop: radius of the central stop, as a fraction of R.
        softness: width of the pupil's edges, detector pixels.
        defocus: quadratic phase at the pupil's edge in units of pi; 0 is the focus.
        energy: `sum |P|^2`; None is (N/2)^2.
        aberrations: Noll's index -> coefficient in radians, a further phase of the pupil
            (`ptycho.core.physics.optics.aberration_phase`).
    """
    q = _radius(N)
    outer = 0.5 - 0.5 * np.tanh((q - pupil_radius) / softness)
    inner = 0.5 + 0.5 * np.tanh((q - stop * pupil_radius) / softness)
    pupil = outer * inner * np.exp(1j * np.pi * defocus * (q / pupil_radius) ** 2)
    if aberrations:
        pupil = pupil * np.exp(1j * aberration_phase(N, pupil_radius, aberrations))
    probe = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil), norm="ortho"))
    return _with_energy(probe * np.exp(-1j * np.angle(probe[N // 2, N // 2])), energy)


def gaussian_probe(N: int, fwhm: float | None = None, energy: float | None = None) -> NDArray[np.complex64]:
    """Gaussian of flat phase whose *intensity* falls to one half at `fwhm / 2` pixels from the middle.

    Args:
        N: side in pixels.
        fwhm: pixels; None is N/4.
        energy: `sum |P|^2`; None is (N/2)^2.

    Raises:
        ConfigError: a width that is not positive.
    """
    width = N / 4 if fwhm is None else fwhm
    if not width > 0:
        raise ConfigError(f"gaussian probe: expected fwhm > 0, found {width}; leave it out for N/4")
    return _with_energy(np.exp(-2 * np.log(2) * (_radius(N) / width) ** 2), energy)


def disk_probe(
    N: int, diameter: float | None = None, sigma: float = 1.0, energy: float | None = None
) -> NDArray[np.complex64]:
    """Disk of flat phase: `probe_mask` with an energy."""
    return _with_energy(probe_mask(N, diameter, sigma), energy)


def diffuser_probe(
    N: int, grain: float = 6.0, phase: float = 2.0, seed: int = 0, energy: float | None = None
) -> NDArray[np.complex64]:
    """A beam that fills the window, behind a diffuser: modulus 1, a random phase without a seam at the rim.

    Args:
        N: side in pixels.
        grain: of the diffuser, standard deviation of the Gaussian that white noise is smoothed by, pixels.
        phase: standard deviation of the phase, radians.
        seed: of the noise.
        energy: `sum |P|^2`; None is (N/2)^2.

    Raises:
        ConfigError: a grain or a phase that is not positive.
    """
    if not grain > 0 or not phase > 0:
        raise ConfigError(f"diffuser: expected a grain and a phase above 0, found {grain}, {phase}; correct them")
    f = np.fft.fftfreq(N) ** 2
    smooth = np.exp(-2 * (np.pi * grain) ** 2 * (f[:, None] + f))
    noise = np.fft.ifft2(np.fft.fft2(np.random.default_rng(seed).standard_normal((N, N))) * smooth).real
    return _with_energy(np.exp(1j * phase * noise / noise.std()), energy)


def probe_mask(N: int, diameter: float | None = None, sigma: float = 1.0) -> NDArray[np.float32]:
    """Disk with a soft edge around the middle: the support that `probe_mask=True` multiplies the probe with.

    `m(r) = erfc((r - diameter/2) / (sqrt(2) sigma)) / 2`: a straight edge blurred by a Gaussian, 1/2 at the
    radius.

    Args:
        N: side in pixels.
        diameter: pixels; None is N/2.
        sigma: standard deviation of the edge, pixels; 0 is a hard edge that holds the radius itself.

    Raises:
        ConfigError: a diameter that is not positive or a negative sigma.
    """
    wanted = N / 2 if diameter is None else diameter
    if not wanted > 0 or not sigma >= 0:
        raise ConfigError(f"probe mask: expected diameter > 0 and sigma >= 0, found {wanted}, {sigma}; correct them")
    outside = _radius(N) - wanted / 2
    if sigma == 0:
        return (outside <= 0).astype(np.float32)
    return (0.5 * erfc(outside / (np.sqrt(2) * sigma))).astype(np.float32)


def probe_diameter(probe: NDArray[Any], fraction: float = 0.9) -> float:
    """Diameter in pixels of the disk around the centroid that holds `fraction` of the energy of all modes.

    Args:
        probe: (N, N) or (M, N, N).
        fraction: of the energy, in (0, 1].

    Raises:
        ConfigError: a fraction outside (0, 1].
        DataError: an empty probe.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction: expected a number in (0, 1], found {fraction}; 0.9 is usual")
    intensity = np.sum(np.abs(as_modes(probe)) ** 2, axis=0, dtype=np.float64)
    total = intensity.sum()
    if not total > 0:
        raise DataError(f"probe: expected a positive energy, found {total}; give an illumination")
    y, x = np.indices(intensity.shape)
    radius = np.hypot(y - (y * intensity).sum() / total, x - (x * intensity).sum() / total).ravel()
    order = np.argsort(radius)
    held = np.cumsum(intensity.ravel()[order])
    return 2 * float(radius[order][np.searchsorted(held, fraction * held[-1])])


def probe_ramp(probe: NDArray[Any]) -> tuple[float, float]:
    """Mean slope (x, y) of the phase of a probe, radians per pixel, weighted by its intensity.

    The angle of `sum_m sum P_m(r + 1) conj(P_m(r))` along each axis, which is `2 pi / N` times the circular centre of
    mass of the probe's diffraction pattern `sum_m |F_m|^2`, from the zero frequency.

    Args:
        probe: (N, N) or (M, N, N); its modes are taken together.
    """
    modes = as_modes(probe).astype(np.complex128)
    x, y = (float(np.angle(np.vdot(modes, np.roll(modes, -1, axis)))) for axis in (-1, -2))
    return x, y


def without_ramp(probe: NDArray[Any]) -> NDArray[Any]:
    """A probe without its mean phase slope: `P_m(x, y) exp(-i (k_x (x - N/2) + k_y (y - N/2)))`, k of `probe_ramp`.

    One ramp for all modes, whose diffraction pattern moves as a whole until its centre of mass lies at the zero
    frequency. Measured patterns stay where they are: where they were centred with the ramp in the probe, the object
    takes over the ramp as a phase plane through all of it; where they are centred on the zero frequency, and the probe
    came with a ramp of its own, probe and patterns fit from here on.

    Args:
        probe: (N, N) or (M, N, N), complex; the result has its shape and dtype.
    """
    x, y = probe_ramp(probe)
    line = np.arange(probe.shape[-1]) - probe.shape[-1] // 2
    ramp = np.exp(-1j * np.add.outer(y * line, x * line))
    return np.asarray((probe * ramp).astype(np.result_type(probe, np.complex64)))


def probe_overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    """How alike two probes are, from 0 to 1: `||P^H Q|| / sqrt(||P^H P|| ||Q^H Q||)`, Frobenius norms over the modes.

    For single modes it is `|<P, Q>| / (|P| |Q|)`. Energy, phase, and what set of modes a partially coherent probe is
    written in make no difference.

    Args:
        one, other: (N, N) or (M, N, N), not necessarily of the same number of modes.

    >>> probe_overlap(np.array([[1, 1], [0, 0]]), np.array([[2j, 0], [0, 0]])).__round__(3)
    0.707
    """
    p, q = (as_modes(np.asarray(probe)).astype(np.complex128) for probe in (one, other))
    p, q = p.reshape(len(p), -1), q.reshape(len(q), -1)
    between, of_one, of_other = (np.linalg.norm(a.conj() @ b.T) for a, b in ((p, q), (p, p), (q, q)))
    return float(between / np.sqrt(of_one * of_other))


def orthogonal_modes(probe: NDArray[Any], powers: tuple[float, ...]) -> NDArray[np.complex64]:
    """Split a coherent probe into incoherent modes: partial coherence at its simplest.

    Mode m is the probe times a polynomial `x^a y^b` of rising order (1, x, y, x^2, x y, ...), made orthogonal
    to the modes before it; mode 0 is the probe itself. It carries the share `powers[m] / sum(powers)` of the
    probe's energy, so that `sum_m sum |P_m|^2` is the energy of the probe.

    Args:
        probe: complex (N, N).
        powers: one positive number per mode.

    Returns:
        complex64 (M, N, N).

    Raises:
        DataError: a probe that is not one square mode.
        ConfigError: powers that are missing or not positive.
    """
    if probe.ndim != 2 or probe.shape[0] != probe.shape[1]:
        raise DataError(f"probe: expected one mode (N, N), found shape {probe.shape}; split a single mode")
    if not powers or not all(power > 0 for power in powers):
        raise ConfigError(f"powers: expected a positive number per mode, found {powers}; try (0.8, 0.2)")
    basis = _orthonormal(np.stack([probe, *_rising(probe, len(powers) - 1)]))
    energy = np.array(powers) / sum(powers) * np.linalg.norm(probe) ** 2
    return (basis * np.sqrt(energy)[:, None, None]).astype(np.complex64)


def with_modes(probe: NDArray[Any], count: int) -> NDArray[Any]:
    """A probe with so many incoherent modes, to begin a reconstruction with.

    Modes that are missing are the strongest mode times polynomials of rising order, made orthogonal to all before them
    as in `orthogonal_modes`, each with `ADDED_POWER` of the strongest one's energy. Of too many the strongest are kept,
    of those orthogonal ones that are equivalent to the set. The energy of all modes together stays.

    Args:
        probe: (N, N) or (M, N, N), complex.
        count: number of modes; M of them are left as they are.

    Raises:
        ConfigError: fewer than 1.
    """
    if count < 1:
        raise ConfigError(f"modes: expected at least 1, found {count}; 2 or 3 are usual")
    modes = as_modes(np.asarray(probe))
    if count == len(modes):
        return modes
    flat = modes.reshape(len(modes), -1).astype(np.complex128)
    _, sizes, rows = np.linalg.svd(flat, full_matrices=False)
    strongest = (sizes[:, None] * rows).reshape(modes.shape)
    if count < len(modes):
        made = strongest[:count]
    else:
        basis = _orthonormal(np.concatenate([strongest, _rising(strongest[0], count - len(modes))]))
        made = np.concatenate([modes, basis[len(modes) :] * np.sqrt(ADDED_POWER) * sizes[0]])
    return (made * np.linalg.norm(flat) / np.linalg.norm(made)).astype(np.complex64)


def _rising(probe: NDArray[Any], count: int) -> NDArray[Any]:
    """`probe x^a y^b` for `count` orders (a, b): (1, 0), (0, 1), (2, 0), (1, 1), ..."""
    line = (np.arange(probe.shape[0]) - probe.shape[0] // 2) / probe.shape[0]
    orders = [(total - b, b) for total in range(1, count + 1) for b in range(total + 1)][:count]
    made = [probe * line[None, :] ** a * line[:, None] ** b for a, b in orders]
    return np.array(made).reshape(-1, *probe.shape)


def _orthonormal(modes: NDArray[Any]) -> NDArray[np.complex128]:
    """Modes `(M, N, N)`, each made orthogonal to those before it, of energy 1; the first keeps its phase."""
    basis, triangle = np.linalg.qr(modes.reshape(len(modes), -1).T.astype(np.complex128))
    # QR leaves the sign of each mode open
    return np.asarray((basis * np.exp(1j * np.angle(np.diag(triangle)))).T.reshape(modes.shape))


ADDED_POWER = 0.1
"""Energy of a mode that is added, of that of the strongest: what a mode begins with hardly matters."""
PROBES: dict[str, Callable[..., NDArray[np.complex64]]] = {
    "zone_plate": zone_plate_probe,
    "gaussian": gaussian_probe,
    "disk": disk_probe,
    "diffuser": diffuser_probe,
}
"""Every kind of probe by its name."""


def _radius(N: int) -> NDArray[np.float64]:
    """Distance from pixel [N/2, N/2], pixels."""
    line = np.arange(N) - N // 2
    return np.hypot(line[:, None], line[None, :])


def _with_energy(probe: NDArray[Any], energy: float | None) -> NDArray[np.complex64]:
    wanted = (probe.shape[-1] / 2) ** 2 if energy is None else energy
    if not wanted > 0:
        raise ConfigError(f"energy: expected a positive number, found {wanted}; leave it out for (N/2)^2")
    return (probe * np.sqrt(wanted / np.sum(np.abs(probe) ** 2, dtype=np.float64))).astype(np.complex64)

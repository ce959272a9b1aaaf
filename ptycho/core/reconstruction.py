"""What a reconstruction is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.detector_blur import check_blur
from ptycho.core.physics.fly_scan import FlyPath, check_fly_path
from ptycho.core.physics.multislice import gap_distance_m
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.recording import Recording
from ptycho.core.physics.scan_probes import ScanProbes, check_scan_probes
from ptycho.core.physics.variable_probe import ProbeVariation, check_variation
from ptycho.core.quality.trust import Trust
from ptycho.core.quality.uncertainty import Uncertainty
from ptycho.core.result import ObjectResult, plural
from ptycho.errors import DataError

__all__ = [
    "Reconstruction",
]


@dataclass(frozen=True, eq=False, repr=False)
class Reconstruction(ObjectResult):
    """An object, how it was found, and where it lies.

    The object times the probe as given in the scan file predicts the amplitudes as given in that file.
    Positions are in the frame of `object`: pixel (0, 0) is its first element, the patch of position (x, y)
    begins at row y - N/2 and column x - N/2. Adding `frame.x0` and `frame.y0` gives the scan's own pixel
    coordinates.

    Equality compares every field, `timings`, `metadata` and `provenance` among them, so that what is read back equals
    what was written; two runs have other dates and are compared by their objects.

    Raises:
        DataError: the shapes of the parts do not belong together.
    """

    object: npt.NDArray[np.complex64]
    """(H, W) transmission; 1+0j where no patch reaches the pixel."""
    coverage: npt.NDArray[np.float32]
    """(H, W) sum of the stitching weights, 0 where no patch reaches the pixel."""
    probe: npt.NDArray[np.complex64]
    """(M, N, N) incoherent modes as used, refined when the result was refined; centred at index N/2."""
    xcoords: npt.NDArray[np.float64]
    """(n,) column of each patch centre, pixels."""
    ycoords: npt.NDArray[np.float64]
    """(n,) row of each patch centre, pixels."""
    frame: ObjectFrame
    """Where `object` lies on the scan's own pixel grid."""
    backend: str
    """Name of the backend, or of the engine that refined without a network."""
    method: Literal["network", "network+refined", "refined"]
    """'refined': without a network."""
    subpixel: Literal["bilinear", "fourier"]
    network_object: npt.NDArray[np.complex64] | None
    """(H, W) the object before refinement; None when it was not refined."""
    error_history: tuple[float, ...]
    """Relative error of what was fitted, at the start and after each refinement iteration: of amplitudes the relative
    Fourier error, of counts a quarter of the deviance (`ptycho.core.refinement.device.likelihood`), with what a prior
    of the object adds; empty when not refined."""
    timings: dict[str, float]
    """Seconds by step of the workflow."""
    synchronised: bool
    """Whether the synchronised phases were kept."""
    agreement: tuple[float, float]
    """Agreement of overlapping patches before and after synchronisation; NaN where no network predicted patches."""
    spread: npt.NDArray[np.float32] | None = None
    """(H, W) standard deviation of the network's overlapping patches, in the unit of `object`; NaN where fewer than
    two overlap; None where it was not measured."""
    trust: Trust | None = None
    """How well `object` and `probe` explain every pattern; None where it was not measured."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What is known of the scan, plain JSON values: `name`, `energy_eV`, `particle`, `distance_m`, `detector_pixel_m`,
    `object_pixel_m` (of `object`) and `nphotons`."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where it is from (`ptycho.core.provenance.provenance`), plain JSON values; empty where nobody said."""
    flux: npt.NDArray[np.float64] | None = None
    """(n,) of the beam at each pattern, relative to that of `probe`; None: 1 everywhere."""
    background: npt.NDArray[np.float64] | None = None
    """(N, N) incoherent light of every pattern, squares of the scan's amplitudes, zero frequency in the middle; None:
    none."""
    counts_from: int | None = None
    """The entry of `error_history` from which on the errors are of counts; None where all are of amplitudes."""
    fly_path: FlyPath | None = None
    """(n, S, 2) where the probe was while each pattern was counted, relative to its position, pixels; None: at rest."""
    slices: npt.NDArray[np.complex64] | None = None
    """(K, H, W) of a thick object, the one that the beam meets first being the first; their product is `object`. None:
    the object is thin."""
    gap: NearField | None = None
    """The free space between two slices; None: the object is thin."""
    variation: ProbeVariation | ScanProbes | None = None
    """How the first mode of `probe` differs from pattern to pattern, or other scans' probes; None: it is the same."""
    blur: float | None = None
    """Standard deviation of the detector's blur, pixels (`ptycho.core.physics.detector_blur`); None: it is sharp."""
    uncertainty: Uncertainty | None = None
    """How far photon noise takes every pixel of `object`; None where it was not measured."""

    @property
    def recording(self) -> Recording:
        """How the patterns were recorded."""
        return Recording(
            self.flux, self.fly_path, self.background, gap=self.gap, variation=self.variation, blur=self.blur
        )

    @property
    def probes(self) -> npt.NDArray[np.complex64]:
        """(S, M, N, N) the probe of every scan that shares the object; S = 1 for one scan."""
        return self.variation.all(self.probe) if isinstance(self.variation, ScanProbes) else self.probe[None]

    @property
    def slice_distance_m(self) -> float | None:
        """Metres between two slices; None for a thin object, or where the pixel is not known."""
        return None if self.gap is None else gap_distance_m(self.gap, self.pixel_m)

    @property
    def pixel_m(self) -> float | None:
        """Side of a pixel of `object`, metres; None where the scan does not tell."""
        pixel = self.metadata.get("object_pixel_m")
        return None if pixel is None else float(pixel)

    def __repr__(self) -> str:
        modes, N, _ = self.probe.shape
        facts = [
            f"{self.method} by {self.backend}",
            f"object {self.frame.height} x {self.frame.width}",
            plural(self.xcoords.size, "position"),
            f"N={N}",
            plural(modes, "probe mode"),
        ]
        trust = "not measured" if self.trust is None else self.trust.summary
        return f"Reconstruction({', '.join(facts)},\n  trust: {trust})"

    def __post_init__(self) -> None:
        shape = (self.frame.height, self.frame.width)
        for name in ("object", "coverage", "network_object", "spread"):
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise DataError(f"{name}: expected shape {shape} as in the frame, found {array.shape}")
        if self.uncertainty is not None and self.uncertainty.amplitude.shape != shape:
            raise DataError(f"uncertainty: expected shape {shape}, found {self.uncertainty.amplitude.shape}")
        if (self.slices is None) != (self.gap is None):
            raise DataError("slices: expected the gap between them, and no gap without slices; give both, or neither")
        if self.slices is not None and (self.slices.ndim != 3 or self.slices.shape[1:] != shape):
            raise DataError(f"slices: expected shape (K, {shape[0]}, {shape[1]}), found {self.slices.shape}")
        if self.probe.ndim != 3 or self.probe.shape[1] != self.probe.shape[2]:
            raise DataError(f"probe: expected modes first, shape (M, N, N), found {self.probe.shape}")
        if self.xcoords.ndim != 1 or self.xcoords.shape != self.ycoords.shape:
            found = f"{self.xcoords.shape} and {self.ycoords.shape}"
            raise DataError(f"xcoords and ycoords: expected one shape (n,), found {found}")
        if self.flux is not None and self.flux.shape != self.xcoords.shape:
            raise DataError(f"flux: expected one number per position, found shape {self.flux.shape}")
        if self.fly_path is not None:
            check_fly_path(self.fly_path, self.xcoords.size)
        if isinstance(self.variation, ProbeVariation):
            check_variation(self.variation, self.xcoords.size, self.probe.shape[-1])
        if isinstance(self.variation, ScanProbes):
            check_scan_probes(self.variation, self.xcoords.size, self.probe.shape[-1])
        if self.background is not None and self.background.shape != self.probe.shape[1:]:
            raise DataError(f"background: expected shape {self.probe.shape[1:]}, found {self.background.shape}")
        if self.blur is not None:
            check_blur(self.blur, self.probe.shape[-1])
        if self.trust is not None and self.trust.deviance.shape != self.xcoords.shape:
            found = f"{len(self.trust.deviance)} for {self.xcoords.size} positions"
            raise DataError(f"trust: expected one number per position, found {found}; measure it on this scan")

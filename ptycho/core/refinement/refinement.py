"""What a refinement found, and what one can begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.fly_scan import FlyPath
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.recording import Recording
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.steps.gauge import UNCHANGED, Gauge
from ptycho.core.result import ObjectResult, plural

__all__ = ["Refinement", "Start"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Refinement(ObjectResult):
    """What a refinement found: the best point it saw, the start included.

    Entry 0 of a history is the start, entry k comes after k iterations; `kept` is the entry of this result.
    """

    object: NDArray[np.complex64]
    """(H, W), in `frame`."""
    probe: NDArray[np.complex64]
    """(M, N, N)."""
    xcoords: NDArray[np.float64]
    ycoords: NDArray[np.float64]
    """(n,) centre of each patch in `object`, pixels; refined where that was asked for."""
    frame: ObjectFrame
    """Where `object` lies on the scan's own pixel grid."""
    flux: NDArray[np.float64]
    """(n,) of the beam at each pattern, relative to that of the probe; 1 where it was not refined."""
    background: NDArray[np.float64]
    """(N, N) of every pattern, in the unit of squared amplitudes, zero frequency in the middle; 0 where it was not
    refined."""
    error_history: tuple[float, ...]
    """Likelihood relative to `sum A^2`, over the patterns seen, with what the prior of the object adds."""
    unseen_history: tuple[float, ...]
    """Likelihood of the patterns held out, alone; empty where there are none."""
    kept: int
    restarts: int
    """Steps that were taken back."""
    iterations: int
    seconds: float
    stopped: str
    """Why it stopped, in words."""
    engine: str
    """Name of the engine."""
    gauge: Gauge = UNCHANGED
    """How object and probe were split anew on the way and at the end."""
    counts_from: int | None = None
    """The entry of the histories from which on the errors are of counts; None where all are of amplitudes."""
    fly_path: FlyPath | None = None
    """(n, S, 2) where the probe was while each pattern was counted, relative to its position; None: at rest."""
    slices: NDArray[np.complex64] | None = None
    """(K, H, W) of a thick object, whose product is `object`; None: it is thin."""
    gap: NearField | None = None
    """The free space between two slices; refined where that was asked for."""
    penalty: float = 0.0
    """What the prior of the object, and the price of a probe that varies, add to the error of this result, in the
    histories as well."""
    variation: ProbeVariation | ScanProbes | None = None
    """How the first mode of the probe differs from pattern to pattern, or other scans' probes; None: it is the same."""
    blur: float | None = None
    """Standard deviation of the detector's blur, pixels (`ptycho.core.physics.detector_blur`); None: it is sharp."""

    @property
    def recording(self) -> Recording:
        """How the patterns were recorded."""
        return Recording(
            self.flux, self.fly_path, self.background, gap=self.gap, variation=self.variation, blur=self.blur
        )

    def __repr__(self) -> str:
        modes, N, _ = self.probe.shape
        facts = [
            f"object {self.frame.height} x {self.frame.width}",
            plural(self.xcoords.size, "position"),
            f"N={N}",
            plural(modes, "probe mode"),
        ]
        change = f"{self.error_history[0]:.3g} -> {self.error_history[self.kept]:.3g}"
        done = f"{plural(self.iterations, 'iteration')} in {self.seconds:.3g} s ({self.stopped})"
        return f"Refinement({', '.join(facts)},\n  relative error {change}, {done})"


Start = Reconstruction | Refinement | Array
"""What a refinement can begin with: a result, or an object (H, W) in the frame of the result."""

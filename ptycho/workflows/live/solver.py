"""The object of a scan that is still being measured, by short iterations of what needs them most."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import IterationOptions
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.probes import with_modes
from ptycho.core.refinement.refinement import Refinement
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.iteration.iteration_plan import Plan
from ptycho.workflows.iteration.start_from import unmeasured
from ptycho.workflows.live.canvas import Canvas
from ptycho.workflows.solver import Solver

__all__ = ["LiveSolver", "on_the_way"]

_SECONDS = 0.8
"""That a burst of iterations is to take, about."""
_ITERATIONS, _HURRIED = 4, 2
"""Of a burst, and where more patterns wait for their first than one has time for."""
_FEWEST, _MOST = 96, 1024
"""Patterns of a burst, of 64 x 64 pixels or as many as have the pixels of so many."""
_SMALLEST = 16
_HELD = 3
"""Bursts for which a probe that the scan brings is held: at first there is no object that could correct it."""


def on_the_way(options: IterationOptions) -> IterationOptions:
    """What is asked for, less what takes all patterns to find or longer than a burst: the end has it."""
    return replace(
        options.without_prior(),
        seconds=None,
        likelihood="poisson" if options.likelihood == "poisson" else "amplitude",
        modes=options.modes if isinstance(options.modes, int) else None,
        refine_positions=False,
        refine_flux=False,
        fly_points=None,
        slices=1,
        thickness=None,
        refine_thickness=False,
        variable_probe=0,
        variable_probe_smooth=None,
        holdout=0.0,
        batch_size=None,
    )


@dataclass
class LiveSolver:
    """Goes on with an object on whichever patterns it is given.

    Args:
        solver: of a backend.
        options: what is asked for.
        canvas: the object so far.
    """

    solver: Solver
    options: IterationOptions
    canvas: Canvas
    made_probe: bool = False
    """Whether the probe was made here, so that its energy means nothing."""
    probe: NDArray[np.complex64] | None = None
    """(M, N, N), as far as it is found."""
    error: float = float("nan")
    """Relative, of the patterns of the last burst."""
    bursts: int = 0
    seconds: float = 0.0
    """Of an iteration, or a network's pass, of one pattern; 0 before the first."""

    def __post_init__(self) -> None:
        self.options = on_the_way(self.options)

    def begin(self, probe: NDArray[np.complexfloating]) -> NDArray[np.complex64]:
        """Take a probe to begin with, and return it with as many modes as are asked for."""
        modes = as_modes(np.asarray(probe)).astype(np.complex64)
        count = self.options.modes
        self.probe = with_modes(modes, count) if isinstance(count, int) and count != len(modes) else modes
        return self.probe

    def burst(self, N: int, waiting: int) -> tuple[int, int]:
        """Patterns of N x N pixels that a burst has time for, and its iterations.

        Args:
            N: side of a pattern.
            waiting: patterns that were in none yet.
        """
        hurried = self.seconds and waiting > _SECONDS / (self.seconds * _ITERATIONS)
        iterations = _HURRIED if hurried else _ITERATIONS
        return self.fitting(N, iterations), iterations

    def fitting(self, N: int, iterations: int) -> int:
        """Patterns of N x N pixels that there is time for, so many iterations of each."""
        fewest, most = (max(count * 64 * 64 // N**2, _SMALLEST) for count in (_FEWEST, _MOST))
        return int(np.clip(int(_SECONDS / (self.seconds * iterations)), fewest, most)) if self.seconds else fewest

    def advance(self, data: RawData, iterations: int = _ITERATIONS) -> Refinement:
        """Iterations on these patterns, each of which the canvas has room for; the object is better then."""
        assert self.probe is not None
        frame, begun = self.canvas.frame, time.monotonic()
        x, y = frame.local(data.xcoords, data.ycoords)
        start = unmeasured(self.canvas.object, self.probe, x, y, frame, "live")
        moves = self.options.refine_probe
        free = self.made_probe or self.bursts >= _HELD if moves == "auto" else bool(moves)
        found = iterate(
            data,
            self.solver,
            replace(self.options, iterations=iterations),
            start,
            made_probe=self.made_probe,
            tell=lambda note: None,
            plan=Plan(self.probe, free, False),
        ).refinement
        self.canvas.object, self.probe = found.object, found.probe
        self.error = found.error_history[found.kept]
        self.seconds = (time.monotonic() - begun) / (max(found.iterations, 1) * len(data))
        self.bursts += 1
        return found

"""How to refine, checked before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.multislice import MOST_SLICES
from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement.descent import Limits
from ptycho.core.refinement.device.likelihood import Likelihood
from ptycho.core.refinement.priors.object_prior import ObjectPrior
from ptycho.core.refinement.steps.background import Family
from ptycho.core.refinement.steps.gauge import Scale
from ptycho.core.refinement.steps.placement import Positions
from ptycho.errors import ConfigError

__all__ = ["Settings"]

VARIES = "0 or more modes of variation, of a probe that is refined (refine_probe)"


@dataclass(frozen=True)
class Settings:
    """How to refine; `refine_scan` describes every field."""

    iterations: int
    likelihood: Likelihood
    refine_probe: bool
    refine_positions: Positions
    position_bound_px: float
    refine_flux: bool
    batch_size: int | None
    holdout: float | NDArray[np.int64]
    patience: int
    tolerance: float
    seed: int
    device_memory: int | None
    noise: float = 0.0
    scale: Scale = "probe"
    seconds: float | None = None
    refine_background: Family | None = None
    slices: int | None = None
    refine_thickness: bool = False
    object_prior: ObjectPrior | None = None
    pupil: NDArray[np.float64] | None = None
    variable_probe: int = 0
    variable_probe_smooth: float | None = None
    refine_blur: bool = False
    strips: bool | None = None

    def __post_init__(self) -> None:
        checks = (
            ("iterations", self.iterations >= 1, "at least 1"),
            ("likelihood", self.likelihood in ("amplitude", "poisson"), "'amplitude' or 'poisson'"),
            (
                "refine_positions",
                self.refine_positions in (True, False, "stage", "search"),
                "True, False, 'stage' or 'search'",
            ),
            ("position_bound_px", 0 < self.position_bound_px < math.inf, "a number of pixels above 0"),
            ("batch_size", self.batch_size is None or self.batch_size >= 1, "at least 1, or None for all"),
            (
                "holdout",
                np.all(np.isfinite(self.holdout)) and np.all(np.asarray(self.holdout) >= 0),
                "a fraction below 1 or a number of patterns",
            ),
            ("patience", self.patience >= 1, "at least 1"),
            ("tolerance", 0 <= self.tolerance < 1, "a fraction from 0 to below 1"),
            ("device_memory", self.device_memory is None or self.device_memory >= 0, "0 bytes or more, or None"),
            ("noise", 0 <= self.noise < math.inf, "0 or more"),
            ("scale", self.scale in ("probe", "object"), "'probe' or 'object'"),
            (
                "refine_background",
                self.refine_background in (None, *get_args(Family)),
                f"one of {', '.join(get_args(Family))}, or None",
            ),
            ("seconds", self.seconds is None or self.seconds > 0, "a number above 0, or None for no limit"),
            ("slices", self.slices is None or 1 <= self.slices <= MOST_SLICES, f"1 to {MOST_SLICES}, or None"),
            ("variable_probe", self.variable_probe >= 0 and (self.refine_probe or not self.variable_probe), VARIES),
            (
                "variable_probe_smooth",
                self.variable_probe_smooth is None or 0 < self.variable_probe_smooth < math.inf,
                "a number of patterns above 0, or None",
            ),
        )
        for name, good, expected in checks:
            if not good:
                raise ConfigError(f"{name}: expected {expected}, found {getattr(self, name)!r}; correct it")

    def check(self, gap: NearField | None, varies: bool, shared: bool = False) -> None:
        """What cannot be together, of an object in slices and of one that is a spectrum.

        Args:
            gap: the free space between two slices; None: the object has one.
            varies: whether the probe differs from pattern to pattern.
            shared: whether several scans share the object.

        Raises:
            ConfigError: the setting that is to be left out.
        """
        elsewhere = gap is not None or self.pupil is not None
        if shared and (elsewhere or self.variable_probe):
            name = "variable_probe" if self.variable_probe else "slices" if gap is not None else "pupil"
            raise ConfigError(f"{name}: expected one scan, found several that share an object; leave it out")
        if varies and elsewhere:
            raise ConfigError("variable_probe: expected one slice, in space, found others; leave it out")
        if self.refine_positions == "search" and elsewhere:
            raise ConfigError("refine_positions='search': expected one slice, in space, found others; take True")
        if gap is not None and self.object_prior is not None and self.object_prior.strength:
            raise ConfigError("object_prior: expected an object of one slice, found several; leave one of both out")

    def limits(self, spent: float) -> Limits:
        """Of the descent, once so many seconds are spent."""
        seconds = None if self.seconds is None else max(self.seconds - spent, 1e-3)
        return Limits(self.iterations, self.patience, self.tolerance, self.noise, seconds)

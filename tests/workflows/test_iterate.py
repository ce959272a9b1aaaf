"""Iteration with what is left open decided by the patterns."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.exposure import ScanPlan, expose
from ptycho.core.simulation.objects import make_object
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.iterate import iterate

N = 32


@pytest.fixture(scope="module")
def scan() -> RawData:
    """49 patterns of counts with their own probe, and an object that is larger than they reach."""
    rng = np.random.default_rng(4)
    x, y = (
        axis.ravel() + rng.uniform(-0.5, 0.5, 49)
        for axis in np.meshgrid(18 + 4.0 * np.arange(7), 19 + 4.0 * np.arange(7))
    )
    plan = ScanPlan(make_object("lines", (66, 64), rng), zone_plate_probe(N, defocus=1.0), x, y, 1e6, "counts")
    made = expose(plan, rng)
    return RawData(
        x, y, None, None, made.diffraction, made.probe, objectGuess=np.ones((66, 64), np.complex64), units="counts"
    )


def test_the_result_lies_on_the_object_of_the_scan(scan: RawData) -> None:
    found = iterate(scan, refine_scan, IterationOptions(iterations=2)).refinement
    assert (found.frame.height, found.frame.width, found.frame.x0, found.frame.y0) == (66, 64, 0, 0)


def test_it_goes_on_from_a_result_and_tells_of_every_iteration(scan: RawData) -> None:
    seen: list[int] = []
    first = iterate(scan, refine_scan, IterationOptions(iterations=3)).refinement
    second = iterate(scan, refine_scan, IterationOptions(iterations=2), first, lambda k, _: seen.append(k)).refinement
    assert second.error_history[0] == pytest.approx(first.error_history[-1], rel=1e-3)
    assert seen == [0, 1, 2]


def test_options_refuse_what_cannot_work() -> None:
    for wrong in ({"modes": 0}, {"likelihood": "chi"}, {"seconds": 0.0}, {"refine_probe": "later"}, {"modes": True}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            IterationOptions(**wrong)

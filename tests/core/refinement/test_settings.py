"""Settings that cannot work, alone or together, are one line."""

from typing import Any

import numpy as np
import pytest

from ptycho.core.physics.multislice import gap_of
from ptycho.core.refinement.priors.object_prior import ObjectPrior
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData

N = 16


@pytest.fixture(scope="module")
def scan() -> RawData:
    made = make_scan("lines", 36, N, 6.0, 0.5, 1e4, 4)
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "iterations: expected at least 1, found 0"),
        ({"likelihood": "gauss"}, "likelihood: expected 'amplitude' or 'poisson', found 'gauss'"),
        ({"batch_size": 0}, "batch_size: expected at least 1"),
        ({"position_bound_px": -1.0}, "position_bound_px: expected a number of pixels above 0"),
        ({"holdout": -0.1}, "holdout: expected a fraction"),
        ({"tolerance": 1.0}, "tolerance: expected a fraction"),
        ({"slices": 99}, "slices: expected 1 to"),
        ({"variable_probe": 1, "refine_probe": False}, "variable_probe: expected 0 or more modes"),
    ],
)
def test_a_setting_that_cannot_work(scan: RawData, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refine_scan(scan, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variable_probe": 1}, "variable_probe: expected one slice, in space"),
        ({"refine_positions": "search"}, "refine_positions='search': expected one slice, in space"),
        ({"object_prior": ObjectPrior("tv", 1e-3)}, "object_prior: expected an object of one slice"),
    ],
)
def test_what_does_not_go_with_slices(scan: RawData, change: dict[str, Any], message: str) -> None:
    gap = gap_of(2, 1e-6, 1e-10, 1e-8, N)
    with pytest.raises(ConfigError, match=message):
        refine_scan(scan, slices=2, gap=gap, **change)


@pytest.mark.parametrize("change", [{"variable_probe": 1}, {"refine_positions": "search"}])
def test_what_does_not_go_with_a_pupil(scan: RawData, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected one slice, in space"):
        refine_scan(scan, pupil=np.ones((1, N, N)) / N, **change)

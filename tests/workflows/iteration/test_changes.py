"""What a user is told of an iteration that moved more than the object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.physics.stage import Stage
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.steps.gauge import Gauge
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.changes import changes

PLAIN = IterationOptions()


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> tuple[RawData, Refinement]:
    data: RawData = request.getfixturevalue("plain").part(np.arange(0, 121, 5))
    return data, refine_scan(data, iterations=1, refine_probe=False)


def test_where_only_the_object_moved_nothing_is_told(found: tuple[RawData, Refinement]) -> None:
    data, made = found
    assert changes(made, data, PLAIN) == []


def test_the_split_between_object_and_probe_is_told_above_a_hundredth(found: tuple[RawData, Refinement]) -> None:
    data, made = found
    assert changes(replace(made, gauge=Gauge(factor=1.009)), data, PLAIN) == []
    (note,) = changes(replace(made, gauge=Gauge(factor=0.8, shift=(0, -1))), data, PLAIN)
    assert "the object times 0.800, moved by (0, -1) pixels" in note
    slope = 2 * np.pi / data.N
    (note,) = changes(replace(made, gauge=Gauge(ramp=(slope, 0.0))), data, PLAIN)
    assert f"(+1.00, +0.00) periods more per {data.N} pixels" in note
    (note,) = changes(replace(made, gauge=Gauge(grid=0.02)), data, PLAIN)
    assert note.startswith("A grid with the period of the raster's steps, 2 % of the object")


def test_the_flux_is_told_with_its_trend(found: tuple[RawData, Refinement]) -> None:
    data, made = found
    falls = np.linspace(1.3, 0.7, len(data))
    (note,) = changes(replace(made, flux=falls), data, PLAIN)
    assert note.startswith("The flux of the beam fell to 0.5") and "between 0.7 and 1.3 of its mean" in note


def test_what_the_stage_did_and_what_each_position_did_are_told_apart(found: tuple[RawData, Refinement]) -> None:
    data, made = found
    x, y = made.frame.local(data.xcoords, data.ycoords)
    moved = np.stack([x, y], axis=1) + Stage.of((1.02, 1.0), 0.0, 0.0, (0.0, 0.0)).displacement(x, y)
    moved[7, 0] += 1.9
    went = replace(made, xcoords=moved[:, 0], ycoords=moved[:, 1])
    (alike,) = changes(went, data, IterationOptions(refine_positions="stage"))
    assert alike.startswith("The stage: ") and "each by itself" not in alike
    (both,) = changes(went, data, IterationOptions(refine_positions=True, position_bound_px=1.0))
    assert both.startswith(alike) and both.endswith("; 1 are at their bound of 1")

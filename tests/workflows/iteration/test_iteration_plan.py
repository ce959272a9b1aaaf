"""What an iteration leaves open: planted modes, good and poor probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.iteration_plan import Plan, planned
from ptycho_torch.refine import refine

N = 32
Simulated = Callable[..., RawData]


def plan(data: RawData, **options: Any) -> Plan:
    return planned(data, refine, IterationOptions(**options), data.probeGuess.reshape(-1, N, N), flat=True)


@pytest.mark.parametrize("powers", [(1.0,), (0.8, 0.2), (0.9, 0.1)])
def test_as_many_modes_as_were_planted(powers: tuple[float, ...], simulated: Simulated) -> None:
    """More would fit noise: what they explain better is only what they have seen."""
    found = plan(simulated(modes=powers))
    assert len(found.probe) == len(powers)
    assert f"The probe has {len(powers)} mode" in found.notes[1]
    assert np.linalg.norm(found.probe) == pytest.approx(np.linalg.norm(simulated(modes=powers).probeGuess), rel=1e-5)


@pytest.mark.parametrize("stage", [{"stage_rotation": 5.0, "step": 3.0}, {"stage_shear": 8.0}])
def test_a_stage_that_turns_or_shears_is_not_taken_for_modes(stage: dict[str, float], simulated: Simulated) -> None:
    """Several modes blur what positions put in the wrong place; the patterns are then explained by a wrong object."""
    found = plan(simulated(kind="dead_leaves", **stage))
    assert len(found.probe) == 1 and found.notes[1].endswith(" where the stage turns or stretches the scan")


def test_few_photons_are_not_taken_for_modes(simulated: Simulated) -> None:
    assert len(plan(simulated(photons=3e3)).probe) == 1


def test_nothing_is_tried_on_too_few_patterns(plain: RawData) -> None:
    found = plan(plain.subsample(9))
    assert (len(found.probe), found.held_first) == (1, False)
    assert found.notes[0].startswith("9 patterns: too few")


def test_an_exact_probe_is_held_first_and_a_poor_one_is_not(plain: RawData) -> None:
    assert plan(plain).held_first
    wrong = zone_plate_probe(N, defocus=1.5) * np.float32(np.linalg.norm(plain.probeGuess) / N * 2)
    assert not plan(plain.with_probe(wrong)).held_first


def test_what_is_said_is_not_tried(plain: RawData) -> None:
    for refine_probe in (True, False):
        found = plan(plain, refine_probe=refine_probe, modes=None)
        assert (found.moves, found.held_first, found.notes) == (refine_probe, False, ())

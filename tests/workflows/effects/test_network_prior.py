"""The network prior of an iteration: where photons are few it helps, where they suffice nothing is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.physics.near_field import NearField
from ptycho.core.quality.score import score
from ptycho.core.refinement.priors.object_prior import ObjectPrior
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.trust import ON_HOST
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.effects import network_prior as effect
from ptycho.workflows.effects.network_prior import belief_of, check_network_prior, held_by_network
from ptycho.workflows.effects.object_prior import WORDS
from ptycho.workflows.iteration.iterate import Iterated, iterate
from ptycho.workflows.solver import Solver
from ptycho_torch.refine import refine

SOLVER = Solver(refine, ON_HOST)

Simulated = Callable[..., RawData]
HELD = IterationOptions(iterations=30, modes=None, refine_probe=False)


def asked(data: RawData, **options: object) -> Iterated:
    return iterate(data, SOLVER, IterationOptions(**{**vars(HELD), **options}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dim(simulated: Simulated) -> RawData:
    return simulated(photons=1e3)


def error(found: Refinement, data: RawData) -> float:
    assert data.objectGuess is not None
    return score(found.object, data.objectGuess, (22, 54, 22, 54)).complex_nrmse


def test_few_photons_have_it_held_and_it_helps(dim: RawData) -> None:
    without, held = asked(dim), asked(dim, object_prior="network")
    told = "The object is held to what a network makes of its noise (network), with the strength"
    assert held.notes[-1].endswith("likely, not measured, and the trust map does not see it")
    assert told in held.notes[-1] and "10% of the photons, unseen, have the deviance" in held.notes[-1]
    assert held.refinement.penalty > 0 and held.refinement.iterations > without.refinement.iterations
    assert error(held.refinement, dim) < 0.85 * error(without.refinement, dim)


def test_many_photons_have_nothing_held_and_nothing_tried(simulated: Simulated) -> None:
    found = asked(simulated(photons=1e9), object_prior="network", iterations=3)
    assert found.notes[-1].startswith("Nothing is held of the object: photons and overlap leave a noise of 0.000")
    assert found.refinement.penalty == 0 and found.refinement.iterations <= 3


def test_a_strength_of_nothing_changes_no_bit(dim: RawData) -> None:
    without, none = asked(dim), asked(dim, object_prior="network", prior_strength=0.0)
    np.testing.assert_array_equal(without.refinement.object, none.refinement.object)
    assert without.refinement.error_history == none.refinement.error_history
    assert none.notes[-1] == "Nothing is held of the object: as asked for"


def test_a_belief_is_in_units_of_photons(dim: RawData) -> None:
    """Half the noise, four times the weight; nothing is thought where there is no light."""
    found = asked(dim).refinement
    belief = belief_of(found, dim)
    assert belief.mean.shape == belief.weight.shape == found.object.shape and belief.frame == found.frame
    assert belief.weight[0, 0] == 0 and belief.weight[38, 38] > 0
    spread = 1 / np.sqrt(2 * dim.photons() * belief.weight[22:54, 22:54])
    away = abs(belief.mean - found.object)[22:54, 22:54]
    assert 0.02 < np.median(spread) < 0.5 and np.median(away) < 3 * np.median(spread)


def test_a_strength_that_harms_is_not_taken(dim: RawData) -> None:
    """Unseen photons refuse what makes the object worse."""
    found = asked(dim).refinement

    def worse(start: Refinement, *_: object) -> Refinement:
        return replace(start, object=0.5 * start.object)

    same, note = held_by_network(found, dim, worse, lambda part: asked(part).refinement, ON_HOST, "auto")
    assert same is found and note.startswith("Nothing is held of the object: 10% of the photons")


@pytest.mark.parametrize(
    ("good", "expected"), [((1.0,), "1"), ((0.25,), "0.25"), ((1.0, 0.25), "1"), ((0.0, 1.0), "0")]
)
def test_the_strength_is_what_foretells_best(dim: RawData, good: tuple[float, ...], expected: str) -> None:
    """The truth comes out with some strengths, half of it with others; 1 where both are alike, 0 where it is alike."""
    found = asked(dim).refinement

    def held(start: Refinement, prior: ObjectPrior, *_: object) -> Refinement:
        assert dim.objectGuess is not None
        return replace(start, object=dim.objectGuess * (1.0 if prior.strength in good else 0.5))

    _, note = held_by_network(found, dim, held, lambda part: asked(part).refinement, ON_HOST, "auto")
    assert note.startswith(
        "Nothing" if expected == "0" else f"{WORDS['network']} (network), with the strength {expected}:"
    )


def test_the_scan_may_teach_it_first(dim: RawData) -> None:
    """A single step of training, in no time; what was tried and what was done is told."""
    told: list[str] = []
    options = IterationOptions(**{**vars(HELD), "iterations": 8, "object_prior": "network", "prior_seconds": 1e-3})
    found = iterate(dim, SOLVER, options, tell=told.append)
    assert "The two halves of the photons teach the network the scan for 0.001 s" in told
    assert " less with 0.25, " in found.notes[-1] and " less with taught 16" in found.notes[-1]
    options = replace(options, prior_strength=1.0)
    asked_for = iterate(dim, SOLVER, options).notes[-1]
    assert "as asked for; the network was taught by the scan itself for 0.001 s, 1 step. What it adds" in asked_for


def test_the_taught_network_is_taken_where_it_foretells_better(dim: RawData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The truth is what it makes; as it comes, something darker."""
    found, truth = asked(dim).refinement, dim.objectGuess
    assert truth is not None
    own = {"own": np.zeros(1, np.float32)}
    monkeypatch.setattr(effect, "network_of_scan", lambda *_: (own, 7))

    def posterior(image: np.ndarray, *_: object, own: object = None) -> tuple[np.ndarray, np.ndarray]:
        return truth * (0.95 if own is None else 1.0), np.full(image.shape, 0.1)

    def held(start: Refinement, prior: ObjectPrior, image: np.ndarray, _: RawData) -> Refinement:
        return replace(start, object=image if prior.strength else start.object)

    monkeypatch.setattr(effect, "posterior", posterior)
    result, note = held_by_network(found, dim, held, lambda part: asked(part).refinement, ON_HOST, "auto", seconds=5.0)
    lit = abs(result.object - found.object) > 0
    np.testing.assert_array_equal(result.object[lit], truth[lit])
    assert lit[22:54, 22:54].all()
    assert "the network was taught by the scan itself for 5 s, 7 steps" in note and "the strength 16:" in note


def test_what_it_cannot_know_is_refused(simulated: Simulated, plain: RawData) -> None:
    near = simulated(fresnel_number=0.05, probe="diffuser").replaced(metadata=NearField(0.05).noted())
    with pytest.raises(ConfigError, match="object_prior='network': expected one scan of a far field, found a near"):
        check_network_prior(near)
    unknown = plain.replaced(diff3d=plain.amplitude() * np.float32(0.37), units="amplitude", metadata={})
    with pytest.raises(DataError, match="object_prior='network': expected counts, or amplitudes with the dose"):
        check_network_prior(unknown)
    with pytest.raises(ConfigError, match=r"prior_seconds=5\.0: expected object_prior=network beside it"):
        IterationOptions(object_prior="tv", prior_seconds=5.0)
    with pytest.raises(ConfigError, match="slices=2: expected 1 beside an object_prior"):
        IterationOptions(object_prior="network", slices=2)

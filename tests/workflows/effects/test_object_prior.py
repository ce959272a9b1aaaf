"""What is known of an object: how it is said, and how strongly unseen patterns have it held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptycho.config.options import NETWORK, OBJECT_PRIORS, IterationOptions
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.refinement.priors.object_prior import PRIORS, ObjectPrior
from ptycho.core.refinement.trust import ON_HOST
from ptycho.errors import ConfigError, DataError, MissingFileError
from ptycho.raw_data import RawData
from ptycho.workflows.effects.object_prior import asked_prior, best_strength, prior_note, sample_of
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.iteration.iteration_plan import Plan, planned
from ptycho.workflows.solver import Solver
from ptycho_torch.refine import refine

SOLVER = Solver(refine, ON_HOST)

N = 32


def plan(data: RawData, **options: object) -> Plan:
    asked = IterationOptions(modes=None, refine_probe=True, **options)  # type: ignore[arg-type]
    return planned(data, refine, asked, data.probeGuess.reshape(-1, N, N), flat=True)


def test_every_prior_has_a_word() -> None:
    assert set(OBJECT_PRIORS) == {*PRIORS, NETWORK}


@pytest.mark.parametrize("first", [1e-2, 1.0, 1e2])
def test_the_best_strength_is_walked_to(first: float) -> None:
    """Whichever way it lies; then the weakest that saves nearly as much is taken."""

    def error(strength: float) -> float:
        return 0.5 + 0.5 * min(1.0, np.log(strength / 2.0) ** 2 / 20)

    best, errors = best_strength(error, 1.0, first)
    assert 0.2 < best < 3 and min(errors.values()) < 0.51
    assert len(errors) < 15


def test_no_strength_is_taken_that_saves_nothing() -> None:
    best, errors = best_strength(lambda strength: 1 + strength, 1.0, 0.01)
    assert best == 0 and errors[0.0] == 1.0
    assert best_strength(lambda strength: 0.9995, 1.0, 0.01)[0] == 0


def test_few_photons_have_it_held_and_many_do_not(simulated: Callable[..., RawData]) -> None:
    dim = plan(simulated(photons=1e3, kind="siemens_star", amplitude=(1.0, 1.0)), object_prior="phase")
    assert dim.prior is not None and dim.prior.strength > 0
    assert "The object is held to taking no light (phase), with the strength" in dim.notes[-1]
    lit = plan(simulated(), object_prior="phase")
    assert lit.prior is None and lit.notes[-1].startswith("Nothing is held of the object: ")


def test_a_strength_that_is_asked_for_is_not_tried(plain: RawData) -> None:
    found = plan(plain, object_prior="tv", prior_strength=0.25)
    assert found.prior is not None and (found.prior.name, found.prior.strength) == ("tv", 0.25)
    assert found.notes == (prior_note(found.prior, "as asked for"),)
    few = plan(plain.subsample(9), object_prior="tv")
    assert few.prior is None and few.notes[0].startswith("9 patterns: too few to try anything on; nothing is held")


def test_the_iteration_is_held_by_it(plain: RawData) -> None:
    asked = IterationOptions(iterations=3, modes=None, refine_probe=True, object_prior="tv", prior_strength=1e-3)
    found = iterate(plain, SOLVER, asked)
    assert found.refinement.penalty > 0 and "few edges (tv)" in found.notes[0]


def test_a_mask_lies_on_the_pixels_of_a_result(plain: RawData, tmp_path: Path) -> None:
    frame = object_frame(plain.xcoords, plain.ycoords, N)
    for number, one in enumerate((frame, ObjectFrame(*plain.objectGuess.shape[:2], 0, 0))):
        mask = np.zeros(one.shape, np.uint8)
        mask[5:9, 3] = 7
        path = tmp_path / f"{number}.npy"
        np.save(path, mask)
        known = asked_prior(IterationOptions(object_prior=f"support={path}"), plain, 2.0)
        assert known is not None and known.sample is not None and known.name == "support"
        assert known.sample.frame == one and known.sample.inside.sum() == 4
    assert asked_prior(IterationOptions(), plain, 2.0) is None


def test_a_mask_of_another_scan_is_refused(plain: RawData, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"support=.*expected a .npy file, found none there"):
        sample_of(tmp_path / "none.npy", plain)
    np.save(tmp_path / "small.npy", np.ones((3, 4)))
    with pytest.raises(DataError, match=r"expected numbers of the shape \(\d+, \d+\) of a result of this scan, found"):
        sample_of(tmp_path / "small.npy", plain)
    (tmp_path / "no.npy").write_bytes(b"none")
    with pytest.raises(DataError, match="the mask of the sample"):
        sample_of(tmp_path / "no.npy", plain)


@pytest.mark.parametrize("asked", ["flat", "support=", "support", ""])
def test_other_words_are_refused(asked: str) -> None:
    with pytest.raises(
        ConfigError, match=r"object_prior=.*expected one of tv, l1, absorbing, phase, network, support=FILE"
    ):
        IterationOptions(object_prior=asked)


def test_a_strength_of_no_prior_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prior_strength=0.5: expected an object_prior beside it"):
        IterationOptions(prior_strength=0.5)
    assert ObjectPrior("tv", 0.5).sample is None

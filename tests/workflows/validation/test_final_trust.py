"""What stands between a result and a green verdict."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.doctor.findings import Diagnosis, Finding
from ptycho.core.physics.probes import with_modes
from ptycho.core.quality.foretold import Foretold
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.scan_part import taken
from ptycho.workflows.solver import Solver
from ptycho.workflows.validation.final_trust import (
    beam_fault,
    doctors_faults,
    passed_or_refined,
    weak_region,
    with_final_trust,
)
from ptycho.workflows.validation.next_step import Finished

REFINE = partial(refine_scan, dtype=np.float32)
SOLVER = Solver(REFINE, ON_HOST)
HEALTHY = Diagnosis(())


@pytest.fixture(scope="module")
def found(plain):
    return measured_reconstruction(REFINE(plain, None, 40), plain, ON_HOST)


def finished(found, data, diagnosis=HEALTHY, **options):
    return with_final_trust(Finished(found, data, SOLVER, IterationOptions(**options), False), diagnosis).trust


def told(share: float) -> Foretold:
    return Foretold(np.arange(2), 100 - 100 * share * np.ones(2), np.zeros(2), np.full(2, 100.0), np.ones(2))


def test_a_clean_result_is_green(found, plain):
    trust = finished(found, plain)
    assert trust.grade == "to the noise" and trust.foretold.share > 0.95 and not trust.faults and not trust.advice


def test_a_fault_of_the_doctors_stays(found, plain):
    mask = Finding("mask", "fault", "Nothing is valid.")
    trust = finished(found, plain, Diagnosis((mask, Finding("dose", "warning", "Dim."))))
    assert trust.grade == "usable" and trust.faults == ("fault of the scan, mask: Nothing is valid",)


def test_what_unseen_patterns_answer_is_no_fault(found):
    order = Diagnosis((Finding("order", "fault", "Shuffled."), Finding("overlap", "fault", "None.")))
    assert doctors_faults(order, replace(found.trust, foretold=told(0.9))) == ()
    assert len(doctors_faults(order, replace(found.trust, foretold=told(0.1)))) == 2
    assert len(doctors_faults(order, found.trust)) == 2


def test_little_overlap_is_at_fault_where_patterns_foretell_nothing(found):
    def faults(overlap, trust, doubted=False):
        numbers = {"overlap": overlap, "probe_doubted": doubted}
        return doctors_faults(Diagnosis((Finding("overlap", "warning", "Little.", numbers),)), trust)

    told_nothing = replace(found.trust, foretold=told(0.2))
    assert faults(0.16, told_nothing) == ("fault of the scan, overlap: Little",)
    assert faults(0.16, told_nothing, doubted=True) == ()
    assert faults(0.4, told_nothing) == ()  # something is wrong with patterns that overlap and foretell nothing
    assert faults(0.16, replace(found.trust, foretold=told(0.9))) == faults(0.16, found.trust) == ()
    unexplained = replace(told_nothing, deviance=50 * found.trust.deviance, misfit=50 * found.trust.misfit)
    assert not unexplained.explained and faults(0.16, unexplained) == ()


def test_a_beam_that_falls_is_named(found, plain):
    steady = found.trust
    assert beam_fault(steady) == ""
    left = 0.3 ** np.linspace(0, 1, len(plain))
    assert "change in brightness to" in beam_fault(replace(steady, counts=1e6 * left))
    assert "to 333 % from" in beam_fault(replace(steady, counts=1e6 / left))
    places = np.random.default_rng(0).permutation(left)
    assert beam_fault(replace(steady, counts=1e6 * places)) == ""


def test_a_region_that_is_explained_worse_is_named(found):
    """A quarter more deviance is within the scatter of a pattern; of a dozen neighbours it is not."""
    assert weak_region(found) == ""
    near = np.hypot(found.xcoords - 30, found.ycoords - 45) < 9
    said = weak_region(raised(found, near))
    x, y = (int(said.split(f"{axis} ")[1].split(",")[0].split(":")[0]) for axis in ("near x", " y"))
    assert abs(x - 30) < 5 and abs(y - 45) < 5 and "leave 1.3 times what the others leave" in said
    apart = np.random.default_rng(0).permutation(near)
    assert weak_region(raised(found, apart)) == ""


def raised(found, places):
    """Deviance and misfit 1.3 times as large in some places."""
    factor, trust = np.where(places, 1.3, 1), found.trust
    return replace(found, trust=replace(trust, deviance=factor * trust.deviance, misfit=factor * trust.misfit))


def test_too_few_patterns_are_not_green(found, plain):
    few = taken(plain, np.arange(9))
    small = measured_reconstruction(REFINE(few, None, 20), few, ON_HOST, nominal_photons=1e6)
    trust = finished(small, few)
    assert trust.grade != "to the noise" and "too few to keep some back" in trust.verdict


@pytest.mark.slow
def test_more_modes_than_unseen_patterns_want_are_not_green(simulated):
    """The noise of few photons is explained by six modes as well as by the one that is there."""
    dim = simulated(photons=1e3)
    six = REFINE(dim, None, 40, probe=with_modes(dim.probeGuess[None], 6), likelihood="poisson")
    found = measured_reconstruction(six, dim, ON_HOST)
    trust = finished(found, dim, modes=6)
    assert trust.grade == "usable" and "too many modes, unseen patterns prefer 1 to 6" in trust.verdict


def test_a_pass_alone_is_to_be_refined(found, plain):
    """And a green one has to foretell, too."""
    poor = replace(
        found,
        method="network",
        trust=replace(found.trust, misfit=50 * found.trust.misfit, deviance=50 * found.trust.deviance),
    )
    assert "--refine" in passed_or_refined(poor, plain, SOLVER).trust.advice
    far = passed_or_refined(poor, plain, SOLVER, "modes 5 (trained from 1 to 3)").trust.advice
    assert far.startswith("one pass of the network only, on a scan beyond its training, modes 5 (trained from 1 to 3):")
    good = passed_or_refined(replace(found, method="network"), plain, SOLVER).trust
    assert good.grade == "to the noise" and good.foretold.share > 0.95 and not good.advice

"""Values taken for the wrong unit are told by what unseen patterns are foretold by."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.validation.units_doubt import noise_factor, other_units

REFINE = partial(refine_scan, dtype=np.float32)


@pytest.fixture(scope="module")
def small(simulated: Callable[..., RawData]) -> RawData:
    return simulated(shape=(60, 60))


def read_as(scan: RawData, values: np.ndarray, units: str) -> RawData:
    return RawData(scan.xcoords, scan.ycoords, None, None, values, scan.probeGuess, units=units)


def test_what_was_measured_is_not_doubted(small: RawData) -> None:
    assert other_units(small, REFINE) == ""
    assert other_units(read_as(small, small.amplitude(), "amplitude"), REFINE) == ""


def test_whole_amplitudes_taken_for_counts(small: RawData) -> None:
    said = other_units(read_as(small, np.rint(small.amplitude()).astype(np.uint16), "counts"), REFINE)
    assert said.startswith("the values are not counts: add --units amplitude, ") and said.endswith(" times better")


def test_counts_taken_for_amplitudes(small: RawData) -> None:
    said = other_units(read_as(small, small.diff3d.astype(np.float32), "amplitude"), REFINE)
    assert said.startswith("the values are not amplitudes: add --units counts, ")


def test_a_scan_that_few_iterations_do_not_explain_is_not_doubted(simulated: Callable[..., RawData]) -> None:
    """Little overlap under a flat phase: neither reading foretells much, whichever error is the smaller."""
    probe = {"probe": "gaussian", "probe_settings": {"fwhm": 8.0}, "path": "fermat"}
    scan = simulated(kind="siemens_star", step=None, overlap=0.41, shape=(118, 118), photons=8e7, **probe)
    assert other_units(scan, REFINE) == ""


def test_a_few_patterns_say_nothing(small: RawData) -> None:
    few = read_as(small.subsample(9), small.subsample(9).diff3d.astype(np.float32), "amplitude")
    assert other_units(few, REFINE) == ""


def test_noise_of_photons_is_white_and_a_wrong_model_is_not(small: RawData, simulated: Callable[..., RawData]) -> None:
    found = measured_reconstruction(REFINE(small, None, 60), small, ON_HOST)
    factor, alike = noise_factor(found, small)
    assert factor == pytest.approx(1, abs=0.15) and alike < 0.1
    astray = simulated(shape=(60, 60), position_error=1.5)
    factor, alike = noise_factor(measured_reconstruction(REFINE(astray, None, 30), astray, ON_HOST), astray)
    assert factor > 5 and alike > 0.4

"""Comparison of two objects: placed by what they say, searched for, or turned."""

import numpy as np
import pytest

from ptycho.core.quality.comparison import PlacedObject, compare, correlate, scanned_region
from ptycho.core.quality.orientation import Orientation
from ptycho.core.simulation.objects import make_object
from ptycho.errors import DataError


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return make_object("lines", (90, 100), np.random.default_rng(8)).astype(np.complex128)


def test_what_both_say_of_their_place_is_believed(truth: np.ndarray) -> None:
    first = PlacedObject("a", 2 * truth[7:80, 9:95], origin=(107.0, 29.0))
    second = PlacedObject(
        "b", truth, origin=(100.0, 20.0), xcoords=np.array([20.0, 80.0]), ycoords=np.array([15.5, 70.0])
    )
    found = compare(first, second)
    assert found.alignment.offset == (7, 9)
    assert found.score.region == (18, 68, 22, 78)
    assert found.score.scale == pytest.approx(0.5)
    assert found.score.complex_nrmse < 1e-6
    assert found.threshold == "one-bit"
    assert found.cutoff == 0.5


def test_positions_of_the_first_serve_where_the_second_has_none(truth: np.ndarray) -> None:
    first = PlacedObject("a", truth, (5.0, 0.0), np.array([10.0, 40.0]), np.array([10.0, 40.0]))
    assert scanned_region(first, PlacedObject("b", truth, (0.0, 3.0))) == (17, 43, 9, 35)
    assert scanned_region(first, PlacedObject("b", truth)) is None


def test_a_place_that_nobody_knows_is_searched_for(truth: np.ndarray) -> None:
    found = compare(PlacedObject("a", truth[12:80, 20:90]), PlacedObject("b", truth))
    assert found.alignment.offset == (12, 20)
    wrong = PlacedObject("a", truth[12:80, 20:90], origin=(0.0, 0.0))
    assert compare(wrong, PlacedObject("b", truth, (0.0, 0.0)), search=True).alignment.offset == (12, 20)


def test_a_turned_object_is_turned_back(truth: np.ndarray) -> None:
    turned = np.conj(Orientation(False, True, False).image(truth))
    found = compare(PlacedObject("a", turned), PlacedObject("b", truth), turn=True)
    assert found.conjugated
    assert found.orientation.name == "flip-y"
    assert found.score.complex_nrmse < 1e-6


def test_half_data_are_judged_by_the_half_bit(truth: np.ndarray, rng: np.random.Generator) -> None:
    halves = [
        truth + 0.3 * (rng.standard_normal(truth.shape) + 1j * rng.standard_normal(truth.shape)) for _ in range(2)
    ]
    one, two = (PlacedObject(name, half) for name, half in zip("ab", halves, strict=True))
    found, full = compare(one, two, halves=True), compare(one, two)
    assert found.threshold == "half-bit"
    assert found.cutoff == found.score.frc_half_bit_complex
    assert found.cutoff > full.cutoff
    np.testing.assert_array_equal(correlate(one, two).correlation, found.curve.correlation)


def test_a_stack_is_no_object(truth: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"b: expected an object \(H, W\), found shape \(1, 90, 100\)"):
        compare(PlacedObject("a", truth), PlacedObject("b", truth[None]), region=(0, 20, 0, 20))

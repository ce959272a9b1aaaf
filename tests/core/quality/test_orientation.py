"""The eight orientations: a group, about the zero frequency, and found again."""

import numpy as np
import pytest

from ptycho.core.physics.diffraction import far_field
from ptycho.core.quality.orientation import ORIENTATIONS, Orientation, rank_orientations
from ptycho.core.simulation.objects import make_object


def test_there_are_eight_different_ones() -> None:
    image = np.arange(6.0).reshape(2, 3)
    turned = {
        orientation.image(image).tobytes() + str(orientation.image(image).shape).encode()
        for orientation in ORIENTATIONS
    }
    assert len(turned) == 8
    assert ORIENTATIONS[0].name == "as it is"
    assert Orientation(True, False, True).name == "transpose+flip-x"
    np.testing.assert_array_equal(Orientation(True, True, False).image(image), [[2, 5], [1, 4], [0, 3]])


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: o.name)
def test_patterns_turn_as_their_exit_waves_do(orientation: Orientation, rng: np.random.Generator) -> None:
    """About [N/2, N/2] both: the pattern of a turned wave is the turned pattern."""
    wave = rng.standard_normal((6, 6)) + 1j * rng.standard_normal((6, 6))
    np.testing.assert_allclose(
        np.abs(far_field(orientation.patterns(wave))), orientation.patterns(np.abs(far_field(wave))), atol=1e-12
    )
    assert orientation.half_turn.half_turn == orientation
    pattern = np.abs(far_field(wave))
    assert orientation.patterns(pattern)[3, 3] == pattern[3, 3]


def test_a_half_turn_is_the_conjugate_wave(rng: np.random.Generator) -> None:
    wave = rng.standard_normal((8, 8)) + 1j * rng.standard_normal((8, 8))
    turned = ORIENTATIONS[0].half_turn.patterns(np.abs(far_field(wave)))
    np.testing.assert_allclose(np.abs(far_field(np.conj(wave))), turned, atol=1e-12)


def test_a_turned_and_conjugated_object_is_recognised() -> None:
    truth = make_object("lines", (64, 64), np.random.default_rng(2)).astype(np.complex128)
    planted = Orientation(True, False, True)
    best, second = rank_orientations(np.conj(planted.image(truth)), truth)[:2]
    assert best.conjugate
    np.testing.assert_allclose(best.orientation.image(planted.image(truth)), truth)
    assert best.correlation > 0.999 > second.correlation + 0.01

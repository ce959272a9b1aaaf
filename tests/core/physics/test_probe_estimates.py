"""What a mean pattern says of the beam, on patterns that can be checked by hand."""

import numpy as np
import pytest

from ptycho.core.physics.diffraction import far_field
from ptycho.core.physics.near_field import NearField, carried
from ptycho.core.physics.probe_estimates import (
    carried_back,
    defocused_pupil,
    filled_modulus,
    light_radius,
    light_side,
    matching_disk,
)
from ptycho.core.physics.probes import disk_probe, probe_overlap, zone_plate_probe


def test_pixels_without_data_are_filled_from_their_surroundings() -> None:
    mean, valid = np.full((12, 12), 9.0), np.ones((12, 12), bool)
    valid[2:9, 4:11] = False
    mean[~valid] = 1e6
    np.testing.assert_allclose(filled_modulus(mean, valid), 3.0, rtol=1e-9)
    assert filled_modulus(np.full((4, 4), -1.0), np.ones((4, 4), bool)).max() == 0
    assert filled_modulus(mean, np.zeros((12, 12), bool)).max() == 0


def test_a_bare_beam_of_the_near_field_is_carried_back() -> None:
    """Where it has no phase at the detector nothing else could be there."""
    near, modulus = NearField(0.2), np.abs(disk_probe(32, 12.0))
    probe = carried_back(modulus, near)
    assert probe.shape == (1, 32, 32)
    np.testing.assert_allclose(carried(probe[0], near), modulus, atol=1e-5)


def test_where_the_light_is() -> None:
    modulus = np.zeros((16, 16))
    modulus[8, 8], modulus[8, 12], modulus[3, 8] = 3.0, 1.0, 1.0
    assert light_radius(modulus, 0.95) == 5.0
    assert light_radius(modulus, 0.85) == 4.0
    assert light_radius(modulus, 0.5) == 1.0
    assert (light_side(modulus, 0.8), light_side(modulus, 0.85), light_side(modulus, 1.0)) == (2, 10, 12)


def test_the_pupil_out_of_focus_is_the_beam_of_a_zone_plate() -> None:
    N, R, defocus = 64, 14.0, 2.6
    truth = zone_plate_probe(N, R, defocus=defocus)
    modulus = np.abs(far_field(truth))
    made = defocused_pupil(modulus, defocus / R**2)
    assert probe_overlap(made, truth) == pytest.approx(1, abs=1e-6)
    assert probe_overlap(defocused_pupil(modulus, -defocus / R**2), truth) < 0.2
    assert np.sum(np.abs(made) ** 2) == pytest.approx(np.sum(modulus**2), rel=1e-6)


@pytest.mark.parametrize("diameter", [6.0, 21.0, 40.0])
def test_the_disk_of_a_pattern_is_found_within_its_steps(diameter: float) -> None:
    modulus = np.abs(far_field(disk_probe(64, diameter)))
    disk, found = matching_disk(modulus)
    assert found == pytest.approx(diameter, rel=0.08)
    assert np.sum(np.abs(disk) ** 2) == pytest.approx(np.sum(modulus**2), rel=1e-5)

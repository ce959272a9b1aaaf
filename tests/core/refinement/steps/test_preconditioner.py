"""Curvatures of modulations in their limits, and the map from gradients to steps."""

import numpy as np
import pytest

from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probes import gaussian_probe
from ptycho.core.refinement.steps.preconditioner import (
    Preconditioner,
    illumination,
    modulation_curvature,
)


def test_a_constant_phase_is_free_and_a_constant_amplitude_held_twice() -> None:
    """At a third of a cycle, beyond the structure of the probe, both are held as unrelated pixels are."""
    frequency, phase, amplitude = modulation_curvature(gaussian_probe(32, 6.0))
    assert frequency[0] == 0
    assert (phase[0], amplitude[0]) == pytest.approx((0, 2), abs=1e-6)
    far = int(np.argmin(abs(frequency - 1 / 3)))
    assert (phase[far], amplitude[far]) == pytest.approx((1, 1), abs=1e-3)


def test_the_curves_of_high_frequencies_are_part_of_the_whole_ones() -> None:
    """A filter of 50 pixels asks for nothing between 0 and 1/50."""
    probe = np.stack([gaussian_probe(16, 3.0), 0.2j * gaussian_probe(16, 5.0)])
    whole, part = modulation_curvature(probe), modulation_curvature(probe, lowest=1 / 50)
    assert len(part[0]) < len(whole[0]) and part[0][1] <= 1 / 50
    asked = np.concatenate([[0], np.linspace(1 / 50, 0.7, 40)])
    for curve in (1, 2):
        found, expected = (np.interp(asked, curves[0], curves[curve]) for curves in (part, whole))
        np.testing.assert_array_equal(found, expected)


def test_light_is_added_where_each_patch_lies() -> None:
    total = illumination(np.ones((2, 2)), np.array([0, 1]), np.array([0, 1]), (3, 3))
    assert total.tolist() == [[1, 1, 0], [1, 2, 1], [0, 1, 1]]


def test_the_map_is_symmetric_and_positive(rng: np.random.Generator) -> None:
    probe = gaussian_probe(8, 3.0).reshape(1, 8, 8)
    image = np.exp(1j * rng.normal(size=(12, 12)))
    rows, cols = (np.array(values) for values in ([0, 0, 4, 4], [0, 4, 0, 4]))
    step = Preconditioner(image, probe, rows, cols, with_probe=False)
    one, other = (_complex(rng) for _ in range(2))
    applied = step.object_step(one, image), step.object_step(other, image)
    forth, back = (np.vdot(a, b).real for a, b in ((other, applied[0]), (applied[1], one)))
    assert forth == pytest.approx(back, rel=1e-6)
    assert np.vdot(one, applied[0]).real > 0
    with pytest.raises(ValueError, match="found one for the object alone"):
        step.probe_step(one, probe)


def test_scans_with_one_probe_are_preconditioned_as_one_scan(rng: np.random.Generator) -> None:
    """Of the object; a probe goes by the patterns of its own scan."""
    probe = gaussian_probe(8, 3.0).reshape(1, 8, 8)
    image = np.exp(1j * rng.normal(size=(12, 12)))
    rows, cols, scans = (np.array(values) for values in ([0, 0, 4, 4], [0, 4, 0, 4], [0, 1, 0, 1]))
    one = Preconditioner(image, probe, rows, cols, with_probe=True)
    shared = Preconditioner(image, np.stack([probe, probe]), rows, cols, with_probe=True, scans=scans)
    gradient = _complex(rng)
    np.testing.assert_allclose(shared.object_step(gradient, image), one.object_step(gradient, image), rtol=1e-6)
    np.testing.assert_allclose(shared.light, one.light)
    slopes = rng.normal(size=(2, 8, 8)) + 0j
    found = shared.probe_step(slopes, np.concatenate([probe, probe]))
    for k in range(2):
        alone = Preconditioner(image, probe, rows[scans == k], cols[scans == k], with_probe=True)
        np.testing.assert_allclose(found[k : k + 1], alone.probe_step(slopes[k : k + 1], probe))
    with pytest.raises(ValueError, match="found one for the object alone"):
        Preconditioner(image, np.stack([probe, probe]), rows, cols, False, scans=scans).probe_step(slopes, probe)


def _complex(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(12, 12)) + 1j * rng.normal(size=(12, 12))


def test_a_near_detector_sees_phases_by_how_far_their_waves_have_come() -> None:
    """Of a beam without structure: `2 sin^2(pi q^2 / F)` of a phase is seen, `2 cos^2` of an amplitude."""
    near = NearField(0.1)
    frequency, phase, amplitude = modulation_curvature(np.ones((64, 64)), near.transfer_function(64))
    np.testing.assert_allclose(phase + amplitude, 2, atol=1e-5)
    seen = (frequency > 0.1) & (frequency < 0.3)
    np.testing.assert_allclose(phase[seen], 2 * np.sin(np.pi * frequency[seen] ** 2 / 0.1) ** 2, atol=0.15)
    assert phase[0] == pytest.approx(0, abs=1e-6)

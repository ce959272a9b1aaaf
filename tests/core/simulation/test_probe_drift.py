"""A focus that drifts: the few modes are the whole drift, and the scan has it."""

import numpy as np
import pytest

from ptycho.core.physics.diffraction import far_field
from ptycho.core.physics.probes import make_probe, probe_diameter
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.core.simulation.probe_drift import defocused, drifting
from ptycho.errors import ConfigError

N = 16


def test_a_focus_changes_the_phase_of_the_far_field_alone() -> None:
    probe = make_probe("zone_plate", N).astype(complex)
    before, after = far_field(probe), far_field(defocused(probe, np.array([0.3]))[0])
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-6 * np.abs(before).max())
    edge = probe_diameter(before) / 2
    expected = 2 * np.pi * 0.3 * (2 / edge) ** 2
    row, column = N // 2 + 2, N // 2
    assert np.angle(after[row, column] / before[row, column]) == pytest.approx(expected, abs=1e-5)


def test_few_modes_are_the_drift() -> None:
    probe = np.stack([make_probe("zone_plate", N).astype(complex), np.ones((N, N), complex)])
    mean, varied = drifting(probe, 7, 0.5)
    assert len(varied.modes) < 8 and varied.coefficients.shape == (7, len(varied.modes))
    np.testing.assert_array_equal(mean[1], probe[1])
    truth = defocused(probe[0], np.linspace(-0.25, 0.25, 7))
    for one, other in zip(varied.probes(mean)[:, 0], truth, strict=True):
        assert abs(np.vdot(one, other)) / np.vdot(other, other).real == pytest.approx(1, abs=1e-6)


def test_a_scan_has_the_drift_that_is_asked_for() -> None:
    settings = ScanSettings(N=N, shape=(40, 40), probe_drift=0.5)
    plan, _ = plan_scan(settings)
    assert plan.variation is not None and len(plan.variation.coefficients) == len(plan.xcoords)
    assert plan_scan(ScanSettings(N=N, shape=(40, 40)))[0].variation is None
    with pytest.raises(ConfigError, match="probe_drift: expected a number of waves, found inf"):
        plan_scan(ScanSettings(N=N, shape=(40, 40), probe_drift=float("inf")))

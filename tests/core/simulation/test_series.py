"""Several probes and objects at once."""

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.physics.diffraction import far_field
from ptycho.core.physics.probes import gaussian_probe, zone_plate_probe
from ptycho.core.scan.npz_file import read_scan
from ptycho.core.simulation.plan import ScanSettings
from ptycho.core.simulation.series import simulate_experiments, synthetic_probes
from ptycho.errors import ConfigError

SETTINGS = ScanSettings(kind="smooth", shape=(80, 84), path="random", count=5, photons=1e4, units="counts", seed=3)
PROBES = (zone_plate_probe(64), gaussian_probe(64, 9.0))


def test_there_is_one_file_per_probe_and_object(tmp_path: Path) -> None:
    files = simulate_experiments(tmp_path / "new", SETTINGS, PROBES, objects_per_probe=2)
    assert [file.name for file in files] == [f"probe{p}_object{o}.npz" for p in (0, 1) for o in (0, 1)]
    scans = [read_scan(file) for file in files]
    for scan, probe in zip(scans, [p for p in PROBES for _ in (0, 1)], strict=True):
        assert scan.diff3d.shape == (5, 64, 64)
        shape = scan.probeGuess / np.linalg.norm(scan.probeGuess)
        np.testing.assert_allclose(shape, probe / np.linalg.norm(probe), atol=1e-6)
    for i in range(4):
        for j in range(i):
            assert np.linalg.norm(scans[i].objectGuess - scans[j].objectGuess) > 1
            assert np.abs(scans[i].xcoords - scans[j].xcoords).max() > 0.1


def test_more_objects_leave_the_others_as_they_are(tmp_path: Path) -> None:
    few = simulate_experiments(tmp_path / "few", SETTINGS, PROBES[:1], 1)
    many = simulate_experiments(tmp_path / "many", SETTINGS, PROBES, 2)
    assert few[0].read_bytes() == many[0].read_bytes()


def test_synthetic_probes_differ_in_defocus_and_aberrations() -> None:
    probes = synthetic_probes(64, 3, np.random.default_rng(1))
    np.testing.assert_allclose(np.sum(np.abs(probes) ** 2, axis=(1, 2)), 32**2, rtol=1e-5)
    np.testing.assert_array_equal(probes[:2], synthetic_probes(64, 2, np.random.default_rng(1)))
    pupils = far_field(probes)
    np.testing.assert_allclose(*(np.abs(pupil) / np.abs(pupil).max() for pupil in pupils[:2]), atol=1e-4)
    assert abs(np.vdot(probes[0], probes[1])) < 0.9 * 32**2


@pytest.mark.parametrize(("probes", "objects"), [((), 1), (PROBES, 0)])
def test_nothing_to_simulate_is_refused(probes: tuple, objects: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one probe and one object or more"):
        simulate_experiments(tmp_path, SETTINGS, probes, objects)
    with pytest.raises(ConfigError, match="found 0"):
        synthetic_probes(64, 0, np.random.default_rng(1))

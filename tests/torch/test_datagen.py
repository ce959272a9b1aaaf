"""Simulated data sets under the names of the PyTorch package."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho.core.physics.probes import gaussian_probe, zone_plate_probe
from ptycho.core.simulation.objects import make_object
from ptycho.core.simulation.plan import simulate_scan
from ptycho.core.simulation.series import synthetic_probes
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho_torch.config_params import DatagenConfig
from ptycho_torch.datagen import (
    from_simulation,
    simulate_multiple_experiments,
    simulate_synthetic_objects,
    simulate_synthetic_probes,
)
from ptycho_torch.datagen.probes import load_probes


def datagen(**changes: Any) -> DatagenConfig:
    """A small one."""
    return DatagenConfig(**{"objects_per_probe": 2, "diff_per_object": 7, "image_size": (80, 90), **changes})


def test_objects_are_those_of_the_core() -> None:
    found = simulate_synthetic_objects((40, 50), 2, np.random.default_rng(3), "perlin", period=20.0)
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(found, [make_object("perlin", (40, 50), rng, period=20.0) for _ in range(2)])
    with pytest.raises(ConfigError, match="found 0"):
        simulate_synthetic_objects((40, 50), 0, rng)


def test_probes_are_those_of_the_core() -> None:
    found = simulate_synthetic_probes(64, 2, np.random.default_rng(3))
    np.testing.assert_array_equal(found, synthetic_probes(64, 2, np.random.default_rng(3)))


def test_a_scan_from_given_truth_is_that_of_the_core(rng: np.random.Generator) -> None:
    truth, positions = make_object("smooth", (80, 84), rng), (np.array([40.0, 43.5]), np.array([41.25, 38.0]))
    found = from_simulation(*positions, zone_plate_probe(64), truth, 1e4, np.random.default_rng(1))
    expected = simulate_scan(truth, zone_plate_probe(64), *positions, 1e4, np.random.default_rng(1))
    np.testing.assert_array_equal(found.diff3d, expected.diffraction)
    np.testing.assert_array_equal(found.probeGuess, expected.probe)
    assert (found.units, found.metadata) == ("amplitude", {"nphotons": 1e4})


def test_every_field_of_the_configuration_does_what_it_says(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", zone_plate_probe(64))
    np.savez(tmp_path / "b.npz", probeGuess=gaussian_probe(64))
    config = datagen(probe_paths=[tmp_path / "a.npy", str(tmp_path / "b.npz")])
    files = simulate_multiple_experiments(tmp_path / "out", config, nphotons=1e4, seed=5)
    assert [file.name for file in files] == [f"probe{p}_object{o}.npz" for p in (0, 1) for o in (0, 1)]
    for file in files:
        scan = RawData.from_file(file)
        assert scan.diff3d.shape == (7, 64, 64)
        assert scan.objectGuess is not None
        assert scan.objectGuess.shape == (80, 90)
        assert scan.mask is not None
        assert np.sum(~scan.mask) == 13  # a disk of 4 pixels
        assert scan.metadata is not None
        assert 1e3 < scan.metadata["nphotons"] < 9999  # what the beam stop lets through
        assert scan.metadata["simulation"]["kind"] == "dead_leaves"
    assert RawData.from_file(files[2]).probeGuess[32, 32] != RawData.from_file(files[0]).probeGuess[32, 32]


def test_without_probes_there_is_a_zone_plate_and_settings_win(tmp_path: Path) -> None:
    config = datagen(objects_per_probe=1, beamstop_diameter=0, object_class="perlin")
    (file,) = simulate_multiple_experiments(tmp_path, config, nphotons=1e4, units="counts", path="raster", count=9)
    scan = RawData.from_file(file)
    assert (scan.units, scan.mask) == ("counts", None)
    shape = scan.probeGuess / np.linalg.norm(scan.probeGuess)
    np.testing.assert_allclose(shape, zone_plate_probe(64) / 32, atol=1e-6)


def test_probes_of_one_set_have_one_side(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", zone_plate_probe(64))
    np.save(tmp_path / "b.npy", gaussian_probe(128))
    with pytest.raises(DataError, match=r"b\.npy: expected a probe of 64 x 64 pixels, found 128"):
        load_probes([tmp_path / "a.npy", tmp_path / "b.npy"])
    with pytest.raises(ConfigError, match="expected one file or more, found none"):
        load_probes([])

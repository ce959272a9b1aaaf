"""Archives as a scan takes them: of one experiment, and of many simulated ones."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho.core.archive import load_archive, save_archive
from ptycho.core.physics.probes import disk_probe, orthogonal_modes
from ptycho.core.quality.score import score
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.core.simulation.scan_paths import step_for_overlap
from ptycho.errors import ArchiveError, ConfigError
from ptycho.networks.universal import taught, weights_file
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.networks.stored_model import (
    archive_for,
    beyond_training,
    model_path,
    shaped_like,
    started_from,
    starting_weights,
)
from ptycho.workflows.reconstruct import load_and_reconstruct
from ptycho.workflows.run_options import NEUTRAL_RUN

UNIVERSAL = Path("universal")
RANGES = {"N": [64], "overlap": [0.0, 0.8], "photons": [1e3, 1e6], "modes": [1, 2]}


def scan_under(probe: np.ndarray, photons: float = 1e5, overlap: float = 0.6) -> RawData:
    n = probe.shape[-1]
    settings = ScanSettings(
        kind="dead_leaves", shape=(n + 26, n + 22), N=n, overlap=overlap, photons=photons, phase=(-0.6, 0.6), seed=5
    )
    made = expose(*plan_scan(settings, probe=probe))
    found = RawData(
        made.xcoords,
        made.ycoords,
        None,
        None,
        made.diffraction,
        made.probe,
        objectGuess=made.object,
        metadata={"nphotons": photons},
    )
    return found if n > 64 else replace_mask(found)


def replace_mask(scan: RawData) -> RawData:
    scan.mask = np.arange(64 * 64).reshape(64, 64) % 97 > 0
    return scan


@pytest.fixture(scope="module")
def scan() -> RawData:
    return scan_under(orthogonal_modes(disk_probe(64, 22.0), (1.0, 0.2)))


def test_the_weights_of_the_package_take_what_a_scan_has(scan) -> None:
    found = archive_for(UNIVERSAL, None, scan)
    assert np.allclose(found.probe, scan.probeGuess) and found.probe.shape == (2, 64, 64)
    assert np.array_equal(found.mask, scan.mask)
    assert found.input_scale == pytest.approx(scan.input_scale())
    photons = scan.photons()
    assert found.intensity_scale_nominal == pytest.approx(math.sqrt(photons) / 32)
    assert found.log_intensity_scale == pytest.approx(math.log(found.intensity_scale_nominal))
    large = archive_for(UNIVERSAL, None, scan_under(disk_probe(128, 40.0), overlap=0.3))
    assert large.configs["training"]["model"]["N"] == 128 and large.probe.shape == (1, 128, 128)


def test_they_belong_to_no_scan() -> None:
    with pytest.raises(ConfigError, match="expected a scan, whose probe these weights take"):
        archive_for(UNIVERSAL, None, None)


def test_a_network_of_one_scan_keeps_its_own(scan, tmp_path) -> None:
    own = replace(load_archive(weights_file(None)), scan={})
    path = save_archive(tmp_path / "own.zip", own)
    assert np.array_equal(archive_for(path, None, scan).probe, own.probe)


def test_no_path_means_the_package() -> None:
    assert model_path(InferenceConfig()) == weights_file(None)
    with pytest.raises(ConfigError, match="model_path is empty"):
        model_path(InferenceConfig(model_path=Path()))


@pytest.mark.parametrize(
    "photons, overlap, modes, expected",
    [
        (1e4, 0.6, 1, ""),
        (1e9, 0.6, 1, "photons 1e+09 (trained from 1e+03 to 1e+06)"),
        (1e4, 0.9, 1, "overlap 0.9 (trained from 0 to 0.8)"),
        (1e4, 0.6, 3, "modes 3 (trained from 1 to 2)"),
    ],
)
def test_what_is_beyond_the_training_is_said(photons, overlap, modes, expected) -> None:
    probe = orthogonal_modes(disk_probe(64, 30.0), (1.0, 0.2, 0.1)[:modes]).reshape(modes, 64, 64)
    step = step_for_overlap(probe, overlap)
    x, y = (axis.ravel() for axis in np.meshgrid(40 + step * np.arange(3), 40 + step * np.arange(3)))
    frames = np.ones((9, 64, 64), np.float32)
    known = RawData(x, y, None, None, frames, probe, metadata={"nphotons": photons}, units="amplitude")
    assert beyond_training(RANGES, known) == expected


def test_what_is_not_known_is_not_beyond(scan) -> None:
    unknown = RawData(scan.xcoords, scan.ycoords, None, None, scan.diff3d * 1.37, scan.probeGuess, units="amplitude")
    assert "photons" not in beyond_training({**RANGES, "photons": [1.0, 2.0]}, unknown)
    assert "N=64 (trained with 128)" in beyond_training({**RANGES, "N": [128]}, unknown)


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.slow), "pytorch"])
def test_a_pass_on_a_scan_that_nobody_trained_for(backend, scan, caplog) -> None:
    bare = scan.with_probe(scan.probeGuess)
    with caplog.at_level(logging.WARNING):
        found = load_and_reconstruct(backend_named(backend), bare, InferenceConfig(backend=backend), NEUTRAL_RUN)
    assert found.method == "network" and found.provenance["model"]["architecture"] == "unrolled"
    box = (34, 56, 34, 52)
    truth = scan.objectGuess
    flat = score(np.full_like(truth, np.abs(truth).mean()), truth, box).complex_nrmse
    assert score(found.object, truth, box).complex_nrmse < 0.3 * flat
    assert "energy of those" not in caplog.text and "overlaps with that of the network" not in caplog.text


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.slow), "pytorch"])
def test_a_training_begins_with_given_weights(backend, scan) -> None:
    from ptycho.workflows.networks.training_data import prepare_experiments

    module, config = backend_named(backend), TrainingConfig(backend=backend)
    assert shaped_like(UNIVERSAL, config, ("batch_size",)) == "From universal: architecture unrolled, gridsize 2"
    sets = prepare_experiments(scan, None, config, module.container)
    given, _ = starting_weights(UNIVERSAL)
    (model,) = module.build(sets, config, replace(NEUTRAL_RUN, start_from=UNIVERSAL))
    (fresh,) = module.build(sets, config, NEUTRAL_RUN)
    weights = {"pytorch": "ptycho_torch.model_manager", "tensorflow": "ptycho.tf.model_manager"}[backend]
    named = __import__(weights, fromlist=["canonical_weights"]).canonical_weights
    assert all(np.array_equal(array, given[name]) for name, array in named(model.network).items())
    assert not np.array_equal(named(fresh.network)["step"], given["step"])


def test_weights_of_another_shape_are_refused(scan) -> None:
    from ptycho.workflows.networks.training_data import prepare_experiments

    module = backend_named("pytorch")
    config = TrainingConfig(model=ModelConfig(architecture="unrolled", n_filters_scale=1), backend="pytorch")
    sets = prepare_experiments(scan, None, config, module.container)
    with pytest.raises(ArchiveError, match=r"universal: weight .* must be of shape"):
        module.build(sets, config, replace(NEUTRAL_RUN, start_from=UNIVERSAL))


def test_a_model_says_with_which_weights_it_began() -> None:
    [known] = started_from(UNIVERSAL, {"metadata": {"a": 1}, "source": {"name": "scan"}})
    assert known["metadata"] == {"a": 1} and known["source"]["name"] == "scan"
    assert known["source"]["started_from"]["file"] == "universal.wts.h5.zip" and taught(known)


def test_what_was_stated_stays() -> None:
    config = TrainingConfig(model=ModelConfig(N=128, gridsize=1))
    shaped_like(UNIVERSAL, config, ("gridsize",))
    assert (config.model.N, config.model.gridsize, config.model.architecture) == (128, 1, "unrolled")

"""A pass on the canvas of a scan: what does not depend on the backend, and when groups are asked for."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho.config.config import InferenceConfig, ModelConfig
from ptycho.config.options import StitchOptions
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.group_gradient import FIELD_FLOOR
from ptycho.core.physics.probes import disk_probe
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.simulation.plan import simulate_scan
from ptycho.networks.spec import ScanStages
from ptycho.raw_data import RawData
from ptycho.workflows.backend import ScanNetwork
from ptycho.workflows.networks import canvas_pass as module
from ptycho.workflows.networks.canvas_pass import FIRST, LAST, MORE, Canvas, Descents, canvas_pass, in_tiles, staged
from ptycho.workflows.run_options import NEUTRAL_RUN

FRAME = ObjectFrame(64, 64, 0, 0)
MODEL = ModelConfig(N=64, gridsize=2, architecture="unrolled")


def network(correct: Any) -> ScanNetwork:
    stages = ScanStages((1.0,), (0.7,), correct)
    return ScanNetwork(stages, 1.0, 1.0, 40, lambda floor: None)  # type: ignore[arg-type, return-value]


def mean_of_blocks(stage: int, pictures: np.ndarray) -> np.ndarray:
    """Looks as far as a correction does, and in its blocks."""
    channels, height, width = pictures.shape
    blocks = pictures.reshape(channels, height // 8, 8, width // 8, 8).mean(axis=(2, 4))
    reach = np.pad(blocks, ((0, 0), (5, 5), (5, 5)))
    seen = sum(reach[:, r : r + height // 8, c : c + width // 8] for r in range(11) for c in range(11))
    return np.repeat(np.repeat(seen[:2], 8, axis=1), 8, axis=2).astype(np.float32)


def test_tiles_with_a_rim_are_the_whole(rng, monkeypatch) -> None:
    pictures = rng.standard_normal((7, 144, 216)).astype(np.float32)
    whole = mean_of_blocks(0, pictures)
    monkeypatch.setattr(module, "TILE", 64)
    assert np.allclose(in_tiles(network(mean_of_blocks), 0, pictures), whole, atol=1e-5)
    monkeypatch.setattr(module, "RIM", 24)
    assert not np.allclose(in_tiles(network(mean_of_blocks), 0, pictures), whole, atol=1e-2), "the rim counts"


def test_processes_share_the_tiles(rng, monkeypatch) -> None:
    monkeypatch.setattr(module, "TILE", 64)
    pictures = rng.standard_normal((7, 144, 216)).astype(np.float32)
    processes = [SimpleNamespace(rank=rank, size=5, sum=lambda *arrays: arrays) for rank in range(5)]
    parts = [in_tiles(network(mean_of_blocks), 0, pictures, each) for each in processes]
    assert np.array_equal(sum(parts), in_tiles(network(mean_of_blocks), 0, pictures))
    assert [int(part.any(axis=0).sum()) for part in parts] != [0] * 5
    assert not np.any(sum(part.any(axis=0).astype(int) for part in parts) > 1), "one of them each"


@pytest.mark.parametrize(
    "what, reason",
    [
        ({}, None),
        ({"even_groups": True}, "scale of its own"),
        ({"sigma": 0.7}, "smoothed"),
        ({"n_groups": 8}, "only some groups"),
        ({"n_groups": 9}, None),
        ({"stitching": StitchOptions(middle_trim=20)}, "stitching"),
        ({"stitching": StitchOptions(patch_weighting="uniform")}, "stitching"),
        ({"stitching": StitchOptions(window=3)}, None),
        ({"diagnostics": SimpleNamespace()}, "statistics"),
    ],
)
def test_groups_where_they_are_asked_for(what, reason, caplog) -> None:
    class Reached(Exception):
        pass

    def kernels(floor: float) -> None:
        raise Reached

    backend = SimpleNamespace(scan_network=lambda *_: replace(network(mean_of_blocks), kernels=kernels))
    model = SimpleNamespace(
        scan={},
        scaling=SimpleNamespace(even_groups=what.get("even_groups", False)),
        config=replace(MODEL, gaussian_smoothing_sigma=what.get("sigma", 0.0)),
        probe=SimpleNamespace(file_units=lambda: np.ones((1, 64, 64), np.complex64)),
    )
    config = InferenceConfig(
        model=MODEL, n_groups=what.get("n_groups"), stitching=what.get("stitching", StitchOptions())
    )
    run = replace(NEUTRAL_RUN, diagnostics=what.get("diagnostics"))
    with caplog.at_level(logging.INFO), nullcontext() if reason else pytest.raises(Reached):
        assert canvas_pass(backend, model, range(9), FRAME, config, run) is None  # type: ignore[arg-type]
    assert (reason or "") in caplog.text and bool(caplog.text) == (reason is not None)


def test_a_network_without_that_form_says_nothing(caplog) -> None:
    backend = SimpleNamespace(scan_network=lambda *_: None)
    with caplog.at_level(logging.INFO):
        assert canvas_pass(backend, None, range(9), FRAME, None, NEUTRAL_RUN) is None  # type: ignore[arg-type]
    assert not caplog.text


def test_the_light_of_a_canvas_is_that_of_all_probes(rng) -> None:
    x = 32.0 + np.array([0, 3.3, 200])
    probe = (rng.standard_normal((2, 64, 64)) + 1j * rng.standard_normal((2, 64, 64))).astype(np.complex64)
    flux = np.array([1.0, 0.5, 2.0])
    data = RawData(
        x, np.full(3, 32.0), None, None, np.ones((3, 64, 64), np.float32), probe, units="amplitude", flux=flux
    )
    canvas = Canvas(NumpyKernels("amplitude", 1e-2), data, probe, ObjectFrame(64, 272, 0, 0))
    power = np.sum(np.abs(probe) ** 2, axis=0)
    assert np.allclose(canvas.illumination[:, 200:264], 2 * power, rtol=1e-5)
    assert canvas.illumination.sum() == pytest.approx(3.5 * power.sum(), rel=1e-5)


@pytest.mark.parametrize(
    "knows, change, kept",
    [
        (True, 0.0, "stages"),
        (True, 0.02, "stages"),
        (True, 3.0, "plain"),
        (False, 0.0, "plain"),
        (False, 3.0, "plain"),
    ],
)
def test_what_truths_have_taught_is_the_object_where_the_patterns_allow_it(knows, change, kept, rng) -> None:
    probe = disk_probe(64, 24.0)[None]
    x, y = (axis.ravel() for axis in np.meshgrid(33.0 + 7 * np.arange(4), 33.0 + 7 * np.arange(4)))
    truth = np.exp(1j * gaussian_filter(rng.standard_normal((88, 88)), 4) * 6).astype(np.complex64)
    made = simulate_scan(truth, probe, x, y, 3e4, rng)
    data = RawData(x, y, None, None, made.diffraction, made.probe, units="amplitude")
    added = np.full((2, 88, 88), change, np.float32)
    stages = ScanStages((0.0,), (0.0,), lambda stage, seen: added[:, : seen.shape[1], : seen.shape[2]])
    k = data.input_scale()

    def kernels(floor: float) -> NumpyKernels:
        return NumpyKernels("amplitude", floor)

    backend = SimpleNamespace(name="numpy", scan_network=lambda *_: ScanNetwork(stages, 1.0, k, 40, kernels))
    model = SimpleNamespace(
        scan={"source": {"simulated": {"ranges": {"N": [64]}}}} if knows else {},
        scaling=SimpleNamespace(even_groups=False),
        config=MODEL,
        probe=SimpleNamespace(file_units=lambda: made.probe.reshape(1, 64, 64)),
    )
    frame = ObjectFrame(88, 88, 0, 0)
    found = canvas_pass(backend, model, data, frame, InferenceConfig(model=MODEL), NEUTRAL_RUN)  # type: ignore[arg-type]
    descended = Descents("numpy", backend.scan_network(), data, made.probe.reshape(1, 64, 64), frame)
    canvas = Canvas(kernels(FIELD_FLOOR / k**2), data, made.probe.reshape(1, 64, 64), frame)
    first, _ = descended(descended.begun(canvas).object, FIRST, FIELD_FLOOR / k**2)
    if knows:
        first, _ = descended(first, MORE, 0.0)
    expected, _ = descended(staged(backend.scan_network(), canvas, first) if kept == "stages" else first, LAST, 0.0)
    lit = found.coverage > 0
    assert lit.mean() > 0.2 and np.allclose(found.object[lit], expected[lit], atol=1e-5)

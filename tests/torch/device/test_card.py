"""All that PyTorch does on a GPU, on a stand-in that has values and refuses what a GPU refuses (`conftest.py`)."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ptycho
from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.refinement import position_search
from ptycho.core.refinement.device.engine import Engine
from ptycho.core.refinement.priors.object_prior import Belief, ObjectPrior
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.state_file import StateFile
from ptycho.core.refinement.sums import batches
from ptycho.core.stitching.overlaps import Turns
from ptycho.core.stitching.stitch import probe_weight, stitch_variants
from ptycho.core.stitching.sums import NumpySums
from ptycho.raw_data import RawData
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.trust import scan_trust
from ptycho_torch import backend
from ptycho_torch.device.streaming import TorchStream
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.refine import refine
from ptycho_torch.refinement_kernels import RefinementKernels

N, SIZE = 16, 44
NEAR = NearField(0.2)
FIXTURE = Path(__file__).parents[2] / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz"
THOUGHT = ObjectPrior(
    "network", 0.01, belief=Belief(np.full((30, 20), 0.8 + 0.1j), np.full((30, 20), 0.5), ObjectFrame(30, 20, 4, 3))
)
LAWS: dict[str, dict[str, Any]] = {
    "known probe": {"refine_probe": False},
    "moving probe": {"deterministic": True},
    "positions": {"refine_positions": True},
    "stage, held out": {"refine_positions": "stage", "holdout": 5, "deterministic": True},
    "positions searched for": {"refine_positions": "search", "position_bound_px": 3.0},
    "poisson": {"likelihood": "poisson", "deterministic": True},
    "mini-batches": {"batch_size": 10, "seed": 3},
    "flux": {"refine_flux": True, "deterministic": True},
    "fly scan": {"refine_positions": True, "refine_flux": True},
    "near field": {"refine_positions": True, "deterministic": True},
    "fly scan, near field": {"deterministic": True},
    "background": {"refine_background": "smooth"},
    "blur": {"refine_blur": True, "blur": 0.5, "deterministic": True},
    "thick": {"slices": 2, "gap": NearField(3.0), "refine_thickness": True, "refine_positions": True},
    "few edges": {"object_prior": ObjectPrior("tv", 1e-3)},
    "near to what a network thinks": {"object_prior": THOUGHT, "deterministic": True},
    "variable probe": {"variable_probe": 2, "refine_flux": True},
    "smooth variable probe": {"variable_probe": 1, "variable_probe_smooth": 10.0, "deterministic": True},
    "scans with own probes": {"refine_positions": True, "batch_size": 20},
}
"""What is refined, each on a scan with a mask for every pattern and two modes."""


def on_cuda() -> RunOptions:
    return RunOptions(execution=PyTorchExecutionConfig(accelerator="cuda"))


@pytest.fixture
def scan(masked_scan) -> RawData:
    return masked_scan


@pytest.fixture
def modes(scan) -> np.ndarray:
    first = np.asarray(scan.probeGuess, complex)
    return np.stack([first, 0.4j * np.roll(first, 3, axis=1)]).astype(np.complex64)


def assert_same(found: Any, expected: Any) -> None:
    """The same way to the same point, but for the order of sums."""
    assert (found.restarts, found.stopped) == (expected.restarts, expected.stopped)
    np.testing.assert_allclose(found.error_history, expected.error_history, rtol=1e-5)
    np.testing.assert_allclose(found.object, expected.object, atol=1e-5)
    np.testing.assert_allclose(found.probe, expected.probe, atol=1e-5 * abs(expected.probe).max())
    np.testing.assert_allclose(found.xcoords, expected.xcoords, atol=1e-5)
    np.testing.assert_allclose(found.flux, expected.flux, atol=1e-5)
    np.testing.assert_allclose(found.background, expected.background, atol=1e-4)


@pytest.mark.parametrize("law", LAWS)
def test_the_solver_finds_what_it_finds_on_a_cpu(law, scan, modes, rng, card, monkeypatch) -> None:
    for name, value in {"ROUNDS": 1, "BENT_FROM": 0, "PARTS": 2, "LEGS": 1, "LEG": 4}.items():
        monkeypatch.setattr(position_search, name, value)
    settings: dict[str, Any] = {"probe": modes, "tolerance": 0.0, **LAWS[law]}
    if law.startswith("fly scan"):
        settings["fly_path"] = rng.uniform(-1.5, 1.5, (len(scan), 3, 2))
    if law.endswith("near field"):
        scan.metadata = NEAR.noted()
    if law.startswith("scans"):
        others = np.stack([np.roll(modes, 1, axis=1), 0.9j * np.roll(modes, 1, axis=2)])
        settings["variation"] = ScanProbes(others, np.arange(len(scan)) % 3)
    expected = refine(scan, None, 5, **settings)
    with card() as seen:
        found = refine(scan, None, 5, device="cuda", **settings)
    assert_same(found, expected)
    assert seen.faults == [] and seen.seen["page-locked"] == 0


def test_a_step_waits_for_one_number(scan, card) -> None:
    with card() as seen:
        found = refine(scan, None, 8, device="cuda", tolerance=0.0)
    assert seen.seen["number"] == found.iterations + 1


def test_a_spectrum_and_its_pupil(lit_scan, card) -> None:
    lit, start, asked = lit_scan
    expected = refine(lit, start, 4, refine_positions="stage", **asked)
    with card() as seen:
        found = refine(lit, start, 4, refine_positions="stage", device="cuda", **asked)
    np.testing.assert_allclose(found.error_history, expected.error_history, rtol=1e-4)
    assert seen.faults == []


class Few(RefinementKernels):
    """Batches of some patterns each, none of which is kept where nothing may be."""

    def __init__(self, *options: Any, **named: Any) -> None:
        super().__init__(*options, **named)
        self.batch_pixels = 15 * N * N


STREAMED: dict[str, Any] = {
    **{"engine": Engine("few", Few, ("device", "deterministic")), "device_memory": 0, "refine_flux": True},
    **{"holdout": 5, "refine_background": "smooth", "tolerance": 0.0},
}


@pytest.mark.parametrize("room", [None, 0], ids=["held in the host", "read again"])
def test_patterns_that_do_not_fit_come_in_time(room, scan, card, monkeypatch) -> None:
    expected = refine_scan(scan, None, 4, **STREAMED)
    if room is not None:
        monkeypatch.setattr(batches, "available_bytes", lambda: room)
    with card() as seen:
        found = refine_scan(scan, None, 4, device="cuda", **STREAMED)
    assert_same(found, expected)
    assert seen.faults == [] and seen.seen["page-locked"] > 0


def test_without_page_locked_memory_they_come_all_the_same(scan, card, caplog) -> None:
    expected = refine_scan(scan, None, 2, **STREAMED)
    with card() as seen, caplog.at_level(logging.WARNING, "ptycho_torch"):
        seen.locked = False
        assert_same(refine_scan(scan, None, 2, device="cuda", **STREAMED), expected)
    assert [record.getMessage() for record in caplog.records] == [
        "no page-locked memory (CUDA error: OS call failed or operation not supported on this OS): patterns go to the "
        "GPU more slowly"
    ]


def test_the_stand_in_sees_a_copy_that_nobody_waits_for_and_memory_that_goes_too_early(scan, card, monkeypatch) -> None:
    monkeypatch.setattr(TorchStream, "arrived", lambda self, sent: sent.measured)
    with card() as seen:
        refine_scan(scan, None, 1, device="cuda", **STREAMED)
    assert set(seen.faults) == {
        "used on the stream of the work before it was waited for",
        "let go while a stream may use it",
    }


def test_the_stand_in_refuses_what_a_gpu_refuses(card) -> None:
    with card():
        there, here = torch.ones(3, device="cuda", requires_grad=True), torch.ones(3)
        assert there.device == torch.device("cuda:0") and (there + torch.tensor(2.0)).sum().item() == 9
        for mixed in (lambda: there + here, lambda: here.index_add_(0, torch.arange(3, device="cuda"), here)):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        for taken in (np.asarray, lambda values: values.detach().numpy()):
            with pytest.raises(TypeError, match="numpy"):
                taken(there)
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(3, device="cuda", generator=torch.Generator())
        (there * torch.tensor([1.0, 2.0, 3.0]).cuda()).square().sum().backward()
        assert there.grad is not None and there.grad.tolist() == [2, 8, 18]


def test_a_search_goes_on_from_its_file(scan, tmp_path, card) -> None:
    """Its numbers are Python's at first."""
    state = tmp_path / "state.npz"
    settings: dict[str, Any] = {"device": "cuda", "tolerance": 0.0, "refine_positions": True}
    with card():
        whole = refine(scan, None, 13, **settings)
        refine(scan, None, 11, state_file=StateFile(state, "this", seconds=0), **settings)
        assert state.exists()
        found = refine(scan, None, 13, state_file=StateFile(state, "this", seconds=0), **settings)
    np.testing.assert_allclose(found.error_history, whole.error_history, rtol=1e-3)


def test_trust_is_that_of_a_cpu(scan, card) -> None:
    found = refine(scan, None, 4)
    arguments: Any = (found.object, found.probe, found.xcoords, found.ycoords, scan, 1e4)
    expected = scan_trust(*arguments, engine=backend.trust_engine(RunOptions()))
    with card() as seen:
        there = scan_trust(*arguments, engine=backend.trust_engine(on_cuda()))
    np.testing.assert_allclose(there.deviance, expected.deviance, rtol=1e-12)
    assert seen.faults == []


@pytest.mark.parametrize("deterministic", [False, True])
def test_patches_are_stitched_as_by_numpy(deterministic, scan, rng, card) -> None:
    patches = (rng.standard_normal((len(scan), N, N, 2)) @ [1, 1j]).astype(np.complex64)
    turns = Turns(
        np.exp(2j * np.pi * rng.random(len(scan))).astype(np.complex64), rng.uniform(-0.4, 0.4, (len(scan), 2))
    )
    frame = object_frame(scan.xcoords, scan.ycoords, N)
    arguments: Any = (patches, scan.xcoords, scan.ycoords, probe_weight(scan.probeGuess), frame, [None, turns])
    execution = PyTorchExecutionConfig(accelerator="cuda", deterministic=deterministic)
    with card():
        found = stitch_variants(*arguments, sums=backend.canvas_sums(RunOptions(execution=execution)))
    for one, other in zip(found, stitch_variants(*arguments, sums=NumpySums), strict=True):
        np.testing.assert_allclose(one.object, other.object, atol=1e-5)
        np.testing.assert_allclose(one.spread**2, other.spread**2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "gridsize", "precision"),
    [("cnn", 2, "bf16-mixed"), ("unrolled", 2, "32-true"), ("unrolled", 1, "16-mixed")],
)
def test_networks_are_trained_and_asked_as_on_a_cpu(architecture, gridsize, precision, tmp_path, card) -> None:
    """In groups and on one canvas; the program around finds its settings as they were."""
    known = RawData.from_file(FIXTURE).part(np.arange(16))
    model = ModelConfig(N=64, gridsize=gridsize, n_filters_scale=1, architecture=architecture)
    config = TrainingConfig(model=model, nepochs=1, n_groups=2, batch_size=2, backend="pytorch")
    execution = PyTorchExecutionConfig(enable_progress_bar=False, logger_backend=None)

    def trained_and_asked(name: str, **asked: Any) -> tuple[Any, np.ndarray]:
        runs = replace(execution, accelerator=name, **asked)
        trained = ptycho.train(known, replace(config, output_dir=tmp_path / name), execution=runs)
        return trained.history["train_loss"], ptycho.infer(trained, known, execution=runs).object

    loss, found = trained_and_asked("cpu")
    torch.backends.cudnn.benchmark, before = True, dict(os.environ)
    try:
        with card() as seen:
            there = trained_and_asked("cuda", precision=precision)
        assert torch.backends.cudnn.benchmark and dict(os.environ) == before
    finally:
        torch.backends.cudnn.benchmark = False
    exact = precision == "32-true"
    np.testing.assert_allclose(there[0], loss, rtol=1e-4 if exact else 1e-2)
    np.testing.assert_allclose(there[1], found, atol=1e-3 if exact else 5e-2)
    assert seen.faults == []


def test_the_defaults_of_the_program_around_are_its_own(tmp_path, card) -> None:
    """A default type and a default device that a notebook has chosen, with a GPU and beside one; and no word of it."""
    known = RawData.from_file(FIXTURE).part(np.arange(9))
    model = ModelConfig(N=64, gridsize=1, n_filters_scale=1)
    config = TrainingConfig(model=model, nepochs=1, n_groups=2, batch_size=2, backend="pytorch")

    def object_of(accelerator: Any, folder: str) -> np.ndarray:
        runs = PyTorchExecutionConfig(accelerator=accelerator, enable_progress_bar=False, logger_backend=None)
        trained = ptycho.train(known, replace(config, output_dir=tmp_path / folder), execution=runs)
        return ptycho.infer(trained, known, execution=runs).object

    expected = object_of("cpu", "plain")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with card(), torch.device("cuda"), warnings.catch_warnings():
            warnings.simplefilter("error")
            found = [object_of(accelerator, accelerator) for accelerator in ("cuda", "cpu")]
            assert torch.get_default_device().type == "cuda"
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before)
    for each in found:
        np.testing.assert_allclose(each, expected, atol=1e-3)


def test_a_model_on_a_gpu_takes_the_tensors_of_a_caller_wherever_they_are(card, rng) -> None:
    model = PtychoPINN(ModelConfig(N=64, gridsize=2, n_filters_scale=1), np.ones((64, 64), complex), 0.5, 30.0).eval()
    x, positions = torch.as_tensor(rng.random((2, 4, 64, 64), np.float32)), torch.zeros(2, 4, 1, 2)
    with card(), torch.no_grad():
        expected = model.forward_predict(x, positions)
        model.cuda()
        found, there = model.forward_predict(x, positions), model.forward_predict(x.cuda(), positions.cuda())
        assert (found.device.type, there.device.type) == ("cpu", "cuda")
        for each in (found, there.cpu()):
            torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5)


def test_a_model_goes_to_another_process_without_its_gpu(card) -> None:
    """Which would be opened there, beside the one that the process has; a copy stays where the model is."""
    model = PtychoPINN(ModelConfig(N=64, gridsize=1, n_filters_scale=1), np.ones((64, 64), complex), 0.5, 30.0)
    with card():
        model.cuda()
        sent, copied = pickle.loads(pickle.dumps(model)), copy.deepcopy(model)  # noqa: S301
        expected = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        for other, place in ((sent, "cpu"), (copied, "cuda"), (model, "cuda")):
            tensors = [*other.named_parameters(), *other.named_buffers()]
            assert {tensor.device.type for _, tensor in tensors} == {place} and len(tensors) == len(expected)
            for name, tensor in tensors:
                assert isinstance(tensor, torch.nn.Parameter) == (name in dict(model.named_parameters()))
                torch.testing.assert_close(tensor.detach().cpu(), expected[name], rtol=0, atol=0)
        assert sent.config == model.config and copied.network is not model.network


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{"uncertainty": True}, {"model": "universal"}, {"train": 5.0}])
def test_the_one_command_takes_a_gpu_by_itself(asked, tmp_path, card) -> None:
    with card() as seen:
        found = ptycho.reconstruct(FIXTURE, iterations=3, **asked)
    assert np.isfinite(found.object).all() and seen.seen["number"] > 0 and seen.faults == []

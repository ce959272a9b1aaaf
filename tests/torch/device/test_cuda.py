"""Whether a CUDA device computes, and what becomes of work that its memory does not hold."""

from __future__ import annotations

import logging
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import BackendError
from ptycho.raw_data import RawData
from ptycho.workflows.run_options import RunOptions
from ptycho_torch import backend, fit
from ptycho_torch.cli.shared import resolve_accelerator
from ptycho_torch.device import cuda
from ptycho_torch.distributed import crew
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.refine import refine
from ptycho_torch.refinement_kernels import RefinementKernels

TOLD = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB free."
FULL = TOLD + " Of the allocated memory 70.00 GiB is allocated by PyTorch, and so on\nSee the documentation"


@pytest.fixture(autouse=True)
def _asked_anew() -> Any:
    cuda.why_unusable.cache_clear()
    yield
    cuda.why_unusable.cache_clear()


@pytest.fixture
def scan() -> RawData:
    made = make_scan("lines", 44, 16, 4.0, 0.5, 1e4, 4)
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")


@pytest.fixture
def too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that the driver lists and this PyTorch has no code for."""

    def ones(*_shape: int, **_named: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nadvice of ten lines")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", ones)


def test_a_card_that_computes_is_taken(card) -> None:
    with card():
        assert cuda.why_unusable() == ""
        assert [resolve_accelerator(name) for name in ("auto", "gpu", "cuda", "cpu")] == ["cuda", "cuda", "cuda", "cpu"]


def test_a_card_that_does_not_compute_is_left_for_the_cpu_in_a_line(too_old, caplog) -> None:
    assert resolve_accelerator("auto") == "cpu"
    reason = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"the CUDA device found does not compute ({reason}): running on the CPU"]
    with pytest.raises(BackendError) as told:
        resolve_accelerator("cuda")
    assert str(told.value) == f"accelerator 'cuda': expected a GPU that computes, found {reason}; ask for 'cpu'"


def test_a_card_is_asked_once(card, monkeypatch) -> None:
    with card() as seen:
        for _ in range(3):
            resolve_accelerator("auto")
        assert seen.seen["number"] == 1


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A card whose memory holds no more than 30 patterns at once, and the numbers that it was given."""
    given: list[int] = []
    pull = RefinementKernels.pull

    def crowded_pull(self: RefinementKernels, fields: Any, *arguments: Any) -> Any:
        given.append(len(fields.waves))
        if len(fields.waves) > 30 and self.device.type == "cuda":
            raise torch.OutOfMemoryError(FULL)
        return pull(self, fields, *arguments)

    monkeypatch.setattr(RefinementKernels, "pull", crowded_pull)
    return given


EACH = (6 + 9) * 8 * 16**2
"""Bytes at once for a pattern."""


def test_an_iteration_that_does_not_fit_is_begun_again_with_half(crowded, scan, card, caplog) -> None:
    expected = refine(scan, None, 4, tolerance=0.0)
    crowded.clear()
    with card(), caplog.at_level(logging.WARNING, "ptycho_torch"):
        found = refine(scan, None, 4, tolerance=0.0, device="cuda", device_memory=4 * 100 * EACH)
    np.testing.assert_allclose(found.error_history, expected.error_history, rtol=1e-4)
    assert max(crowded) > 30 and crowded[-1] <= 30
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == (
        "0.0114 GiB for patterns did not fit the memory of the GPU, begun again with 0.00572 GiB (--device-memory says "
        "how much)"
    )
    assert 1 <= len(said) <= cuda.TRIES


def test_what_another_program_has_meanwhile_is_not_asked_for(card, monkeypatch) -> None:
    """And what the work had is let go before."""
    asked: list[int | None] = []
    left: list[weakref.ref[torch.Tensor]] = []

    def work(memory: int | None) -> str:
        asked.append(memory)
        if len(asked) == 1:
            batch = torch.zeros(3)
            left.append(weakref.ref(batch))
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_device: (800, 8000))
            raise torch.OutOfMemoryError(FULL)
        assert left[0]() is None
        return "done"

    with card(memory=8000):
        assert cuda.smaller_where_full(work, None, "cuda") == "done"
    assert asked == [None, 300]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(FULL),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_memory_that_stays_full_is_told_in_a_line(error, card) -> None:
    calls: list[int | None] = []

    def work(memory: int | None) -> None:
        calls.append(memory)
        raise error

    with card(), pytest.raises(BackendError) as told, backend.team(RunOptions()):
        cuda.smaller_where_full(work, 1600, "cuda")
    assert calls == [1600, 800, 400, 200]
    line = str(told.value)
    assert line.startswith(f"GPU: expected room for the work, found its memory full ({type(error).__name__}: ")
    assert "--device-memory" in line and "\n" not in line and "allocated by" not in line


def test_a_card_that_fails_is_told_in_a_line(card) -> None:
    error = RuntimeError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be reported later")
    with card(), pytest.raises(BackendError) as told, backend.team(RunOptions()):
        raise error
    assert str(told.value) == (
        "GPU: expected it to compute, found RuntimeError: CUDA error: uncorrectable ECC error encountered; go on with "
        "--resume, or take --device cpu"
    )


def test_beside_a_device_without_double_precision_the_cpu_iterates(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    asked: list[Any] = []
    monkeypatch.setattr(backend.refinement, "refine", lambda *_arguments, **settings: asked.append(settings["device"]))
    run: Any = RunOptions(execution=PyTorchExecutionConfig(accelerator="mps"))
    backend.refine(None, None, 1, None, run)
    assert asked == ["cpu"]


def test_other_errors_are_what_they_are(card) -> None:
    def work(memory: int | None) -> None:
        raise RuntimeError("an assertion of the device")

    with card(), pytest.raises(RuntimeError, match="an assertion of the device"), backend.team(RunOptions()):
        cuda.smaller_where_full(work, None, "cuda")


def test_three_quarters_of_what_is_free_are_taken(monkeypatch) -> None:
    """What PyTorch keeps of work that is over is free, too; a device without a number is that of the process."""
    asked: list[Any] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 500)
    assert cuda.free_memory(torch.device("cuda")) == cuda.free_memory(torch.device("cuda", 1)) == 900
    assert asked == [None, 1]


@pytest.mark.parametrize(("accelerator", "size", "expected"), [("cuda", 1, [3]), ("cuda", 6, [3]), ("cpu", 6, 1)])
def test_the_training_stays_on_the_gpu_of_its_process(accelerator, size, expected, scan, monkeypatch, tmp_path) -> None:
    """The one that the caller is at, or that the team has given it, whatever others there are on the machine."""
    config = TrainingConfig(model=ModelConfig(N=64, n_filters_scale=1), output_dir=tmp_path)
    model = PtychoPINN(config.model, np.ones((64, 64), complex), 1.0, 10.0)
    execution, asked = PyTorchExecutionConfig(accelerator=accelerator, nodes=1), {}
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(fit.pl, "Trainer", lambda **settings: asked.update(settings))
    team = SimpleNamespace(rank=5, size=size)
    fit._trainer(fit.PtychoPINN_Lightning(model, config, execution, 80), [], accelerator, None, False, team)
    assert (asked["devices"], asked["num_nodes"]) == (expected, size)


def test_a_process_that_sees_its_gpu_alone_takes_it(monkeypatch) -> None:
    """The third of a machine, started by others; without a bond to one GPU there are too few."""
    at: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", at.append)
    monkeypatch.setattr(crew, "why_unusable", lambda: "a card that is too old" if at else "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(BackendError, match="devices=4: expected as many GPUs, found 1; ask for fewer"):
        crew._take_gpu(2, 4, bound=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937")
    with pytest.raises(BackendError, match="devices=3: expected as many GPUs, found 1"):
        crew._take_gpu(2, 3)
    assert at == []
    with pytest.raises(BackendError, match="GPU 0: expected one that computes, found a card that is too old"):
        crew._take_gpu(2, 4, bound=True)
    assert at == [0]


def test_the_execution_says_who_is_asked(card) -> None:
    with card():
        run = backend.settled(RunOptions(execution=PyTorchExecutionConfig()))
        assert run.execution is not None and run.execution.accelerator == "cuda"
        assert backend.device(run) == "cuda (a card that is none)"

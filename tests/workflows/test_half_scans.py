"""The resolution of a scan: less light, less of it; what both halves begin with, and what is left in the folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.config.options import IterationOptions
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.quality.arithmetic import NumpyArithmetic
from ptycho.core.quality.resolution import read_resolution
from ptycho.core.scan_edit.halves import half_scans
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.front_door import Request
from ptycho.workflows.half_scans import HalfScans, reconstruct_halves, save_halves
from ptycho_torch import backend

Simulated = Callable[..., RawData]
QUICK = IterationOptions(iterations=16, modes=None, refine_probe=False)


def halved(data: RawData, **asked: object) -> tuple[HalfScans, list[str]]:
    told: list[str] = []
    request = Request(backend="pytorch", iteration=QUICK, tell=told.append)
    return reconstruct_halves(data, replace(request, **asked)), told


def test_less_light_is_less_resolution(simulated: Simulated) -> None:
    bright, dim = (halved(simulated(photons=photons))[0].resolution for photons in (1e6, 500))
    assert dim.cutoff < 0.6 * bright.cutoff
    assert dim.cutoff > 0.02


def test_each_half_is_a_result_of_its_own(plain: RawData, tmp_path: Path) -> None:
    found, told = halved(plain)
    assert found.resolution.patterns == (61, 60)
    assert found.resolution.scan == plain.source["content_sha256"]
    assert [line for line in told if line.startswith("Half")] == [
        "Half 1: 61 of 121 patterns",
        "Half 2: 60 of 121 patterns",
    ]
    for half, chosen in zip(found.halves, half_scans(plain.xcoords, plain.ycoords), strict=True):
        np.testing.assert_allclose(half.xcoords + half.frame.x0, plain.xcoords[chosen])
        assert half.trust is not None and half.trust.dose == "measured"
    written = save_halves(found, tmp_path)
    assert [path.name for path in written] == ["frc.json", "frc.csv", "frc.png", "half_1.npz", "half_2.npz"]
    assert read_resolution(tmp_path / "frc.json") == found.resolution
    assert read_npz(tmp_path / "half_2.npz").xcoords.size == 60


def test_the_device_of_the_run_brings_the_halves_together(plain: RawData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked with the options of the run; all transforms, and the sums by rings, go there."""
    asked, done = [], []

    class There(NumpyArithmetic):
        def fft2(self, *arguments: Any, **named: Any) -> np.ndarray:
            done.append("fft2")
            return super().fft2(*arguments, **named)

        def ring_sums(self, *arguments: Any) -> np.ndarray:
            done.append("rings")
            return super().ring_sums(*arguments)

    monkeypatch.setattr(backend, "image_arithmetic", lambda run: asked.append(run.execution.accelerator) or There())
    request = Request(backend="pytorch", iteration=QUICK, tell=str)
    execution = PyTorchExecutionConfig(accelerator="cpu")
    found = reconstruct_halves(plain, replace(request, execution=execution)).resolution
    assert asked == ["cpu"]
    assert done.count("rings") == 1 and done.count("fft2") >= 8
    assert found.cutoff > 0.1


def test_a_fault_of_the_whole_is_refused_once(plain: RawData) -> None:
    stacked = plain.part(np.arange(len(plain)))
    stacked.xcoords = np.full(len(plain), plain.xcoords[0])
    stacked.ycoords = np.full(len(plain), plain.ycoords[0])
    with pytest.raises(DataError):
        halved(stacked)


def test_halves_of_the_photons_have_all_positions_and_less_light_is_less_resolution(simulated: Simulated) -> None:
    """Here the halves of the patterns overlap enough, so that both tell much the same."""
    scan = simulated(photons=2000)
    found = reconstruct_halves(scan, Request(backend="pytorch", iteration=QUICK, tell=str), "photons")
    bright = reconstruct_halves(
        simulated(photons=1e6), Request(backend="pytorch", iteration=QUICK, tell=str), "photons"
    )
    assert found.resolution.patterns == (121, 121)
    assert found.resolution.halves_of == "photons"
    assert "halves of the photons" in found.resolution.summary
    assert found.resolution.cutoff < 0.8 * bright.resolution.cutoff
    halves = halved(scan)[0].resolution
    assert found.resolution.cutoff == pytest.approx(halves.cutoff, rel=0.4)
    first, second = found.halves
    assert (first.object != second.object).any()
    assert first.trust is not None
    assert first.trust.dose == "stated"
    assert first.trust.overall_ratio < 1.3

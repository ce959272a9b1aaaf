"""The benchmark of the error bars of a pass: shares within both bars, and what counts as within what is asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ptycho

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import pass_error_bars

    return pass_error_bars


def test_errors_are_held_against_both_bars(bench: Any) -> None:
    """Normal errors within their deviation and within 1.96 of it; of the phase with bars of half the size."""
    scan = ptycho.simulate("lines", photons=1e6, N=32, shape=(80, 80), step=6.0)
    rng, truth = np.random.default_rng(0), scan.objectGuess
    assert truth is not None
    noise = 1e-3 * rng.normal(size=(2, *truth.shape))
    bars = np.full(truth.shape, 1e-3)
    found = SimpleNamespace(
        object=(abs(truth) + noise[0]) * np.exp(1j * (np.angle(truth) + noise[1])),
        coverage=np.ones(truth.shape),
        frame=bench.target_frame(scan),
        uncertainty=SimpleNamespace(amplitude=bars, phase=bars / 2, wide_amplitude=1.96, wide_phase=3.92),
    )
    shares = bench.within_both(found, scan)
    assert [shares["amplitude"][key] for key in ("68", "95")] == pytest.approx([68.3, 95], abs=2.5)
    assert [shares["phase"][key] for key in ("68", "95")] == pytest.approx([38.3, 95], abs=2.5)


def test_a_row_has_a_cell_for_every_column(bench: Any) -> None:
    both = {"amplitude": {"68": 64.9, "95": 95.0}, "phase": {"68": 71.0, "95": 97.1}}
    sizes = {"amplitude": 1.0, "phase": 2.0}
    row = {"kind": "dead_leaves", "photons": 1e6, "seed": 1, "within": both, "wide": sizes, "error": sizes}
    row |= {"unfinished": 0.1, "misfit": 1.0, "holds": True, "pass_seconds": 1.0, "bars_seconds": 2.0, "seconds": 3.0}
    assert bench.line_of(row).count("|") == len(bench.COLUMNS) + 1
    assert bench.line_of(row).startswith("| dead leaves | 1e6 | 1 | 64.9 | 71.0 | 95.0 | 97.1 |")
    assert bench._hits(row) == (2, 4)

"""The benchmark of error bars: which pixels count, the least error that is possible, a row of the table, the plot."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, on a scan of 36 patterns."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import error_bars

    monkeypatch.setattr(error_bars, "N", 16)
    monkeypatch.setattr(error_bars, "SIDE", 40)
    monkeypatch.setattr(error_bars, "TO_THE_END", 30)
    return error_bars


def test_a_row_holds_bars_against_the_truth(bench: ModuleType) -> None:
    case = bench.Case("lines", 1e6, refine_probe=False, iterations=40)
    least = bench.least_error(case)
    assert all(1e-5 < one < 1e-3 for one in least)
    row = bench.measure(case, least)
    for name in ("amplitude", "phase"):
        shares = [row["within"][name][str(level)] for level in bench.LEVELS]
        assert shares == sorted(shares) and 0.4 < shares[1] < 0.9
        assert 0.7 < row["error"][name] / row["least"][name] < 1.6
    assert len(bench.line_of(row).split(" | ")) == len(bench.COLUMNS)
    figure = bench.coverage_plot([row, {**row, "holds": False}])
    assert [axes.get_title() for axes in figure.axes] == ["Amplitude: 2 reconstructions", "Phase: 2 reconstructions"]


def test_what_is_free_is_no_error(bench: ModuleType) -> None:
    scan = bench.Case("lines", 1e6, refine_probe=True).scan()
    box, truth = bench.scanned_box(scan), scan.objectGuess
    found = bench.solution(truth, scan)
    errors = bench.errors_of(replace(found, object=1.1 * truth * np.exp(0.5j)), scan, box)
    amplitude, phase = errors["amplitude"], errors["phase"]
    assert len(amplitude) == box.sum() and abs(amplitude).max() < 1e-5 and abs(phase).max() < 1e-5

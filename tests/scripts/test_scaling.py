"""The benchmark of costs over two decades: its fit, its table, and that every step runs on a few points."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("scaling")


def test_the_exponent_is_the_slope(bench):
    sizes = (10, 100, 1000)
    assert bench.exponent(sizes, [0.2, 2.0, 20.0]) == pytest.approx(1)
    assert bench.exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)


def test_the_table_has_bars_and_both_exponents(bench):
    cells = [{"seconds": seconds, "mb": 1.0} for seconds in (0.1, 0.2, 4.0)]
    values = {"sizes": (1000, 10_000, 100_000), "cells": cells, "exponent": 0.8, "last": 1.3, "bar": 60}
    line = bench.table({"doctor": values}).splitlines()[-1]
    assert line == "| doctor | 1,000 | 0.1 s, 1 MB | 0.2 s, 1 MB | 4 s, 1 MB | 60 s | 0.80 | 1.30 |"


@pytest.mark.parametrize("row", ["grouping", "grouped", "opening", "stitching", "phases"])
def test_every_step_runs(bench, row, tmp_path):
    found = bench.measure(row, tmp_path, 64)
    assert found["seconds"] > 0 and found["mb"] >= 0

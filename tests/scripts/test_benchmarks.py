"""The quality benchmark's table of cases, its cache and its report; nothing is trained or reconstructed."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"
FACTORS = ("kind", "photons", "overlap", "defocus", "detector")
SETTINGS = {"train_seconds": 1.0}


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, found as a script finds those beside it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import quality
    import quality_cases
    import quality_methods
    import quality_report
    import quality_scores

    return SimpleNamespace(
        run=quality, cases=quality_cases, methods=quality_methods, report=quality_report, scores=quality_scores
    )


def row(case, method, run=0, curve=((1, 1.0, 0.5),), **figures):
    """A measured cell, by hand."""
    *_, (steps, seconds, error) = curve
    return {
        "case": case,
        "method": method,
        "run": run,
        "seconds": seconds,
        "before_seconds": 0.0,
        "steps": steps,
        "peak_mb": 12.3,
        "figures": {"complex_nrmse": error, "fourier_error": error, "deviance_ratio": 1.0, **figures},
        "curve": [list(point) for point in curve],
    }


class TestCases:
    def test_table_is_small_and_named_once(self, bench):
        names = [case.name for case in bench.cases.CASES]
        assert len(names) <= 18
        assert len(set(names)) == len(names)
        assert set(bench.cases.QUICK) <= set(names)

    def test_one_factor_at_a_time(self, bench):
        for case in bench.cases.CASES:
            changed = [name for name in FACTORS if getattr(case, name) != getattr(bench.cases.BASE, name)]
            assert len(changed) == (case.name != "base"), case.name
            assert not case.real or changed == ["kind"]

    def test_medians_of_three_where_asked_for(self, bench):
        runs = {case.name: case.runs for case in bench.cases.CASES}
        assert {name for name, count in runs.items() if count == 3} == {"base", "siemens star", "tungsten"}
        assert set(runs.values()) == {1, 3}

    def test_every_kind_can_be_drawn(self, bench):
        assert {case.kind for case in bench.cases.CASES if not case.real} == set(bench.cases.KINDS)

    def test_a_refined_pass_comes_after_its_network(self, bench):
        for case in bench.cases.CASES:
            methods = bench.methods.methods_of(case, peer=True)
            assert methods.index(bench.methods.start_of(case)) < methods.index("refine-pass"), case.name
            assert ("refine-pass-noise" in methods) == case.starved

    def test_a_pair_is_simulated_and_needs_no_network(self, bench, tmp_path):
        truth = np.exp(0.3j * np.arange(90 * 110).reshape(90, 110) / 9900).astype(np.complex64)
        probe = np.outer(*[np.hanning(32)] * 2).astype(np.complex64)
        np.savez(tmp_path / "theirs.npz", probeGuess=probe, objectGuess=truth)
        case = bench.cases.pair_case(tmp_path / "theirs.npz")
        scan = bench.cases.case_scan(case, None)
        np.testing.assert_array_equal(scan.objectGuess, truth)
        assert scan.N == 32 and scan.photons() == pytest.approx(1e9, rel=0.1) and not case.real
        assert bench.methods.methods_of(case, peer=True) == [
            *("flat", "universal", "refine", "reconstruct", "reconstruct-prior", "pty-chi", "pty-chi-bh")
        ]

    def test_bars_are_held_against_the_truth(self, bench):
        """Normal errors of a tenth within bars of a tenth, and within half of them."""
        scan = bench.cases.case_scan(bench.cases.Case("few", overlap=-0.05), None)
        rng, truth = np.random.default_rng(0), scan.objectGuess
        noise = 1e-3 * rng.normal(size=(2, *truth.shape))
        wrong = (abs(truth) + noise[0]) * np.exp(1j * (np.angle(truth) + noise[1]))
        bars = np.full(truth.shape, 1e-3)
        found = SimpleNamespace(
            object=wrong,
            coverage=np.ones(truth.shape),
            frame=bench.scores.target_frame(scan),
            uncertainty=SimpleNamespace(amplitude=bars, phase=bars / 2),
        )
        shares = bench.scores.within_bars(found, scan)
        assert shares["amplitude"]["0.6827"] == pytest.approx(0.683, abs=0.01)
        assert shares["phase"]["0.6827"] == pytest.approx(0.383, abs=0.01)  # erf(0.5 / sqrt 2)

    def test_unknown_case_is_named(self, bench):
        with pytest.raises(SystemExit, match="linse"):
            bench.cases.chosen_cases(["linse"], quick=False, real=False)

    def test_files_name_one_probe_in_one_unit(self, bench):
        """Dose and true defocus change the patterns, not the probe that a reconstruction is told."""
        case = bench.cases.Case("few", photons=1e4, overlap=-0.05, defocus=2.9)
        scan = bench.cases.case_scan(case, None)
        plain = bench.cases.case_scan(bench.cases.Case("many", overlap=-0.05), None)
        np.testing.assert_array_equal(scan.probeGuess, plain.probeGuess)
        np.testing.assert_array_equal(scan.xcoords, plain.xcoords)
        np.testing.assert_array_equal(scan.objectGuess, plain.objectGuess)
        assert np.sum(np.abs(scan.probeGuess) ** 2) == pytest.approx(32**2, rel=1e-6)
        assert scan.mean_energy == pytest.approx(plain.mean_energy, rel=0.01)
        assert scan.photons() == 1e4

    def test_an_object_that_diverged_has_no_figures(self, bench):
        scan = bench.cases.case_scan(bench.cases.Case("few", overlap=-0.05), None)
        frame = bench.scores.target_frame(scan)
        image = np.full(frame.shape, np.nan, np.complex64)
        found = bench.scores.Snapshot(1, 1.0, image, scan.probeGuess[None], frame)
        assert bench.scores.error_of(found, frame, scan) == math.inf
        assert bench.scores.figures_of_merit(image, found.probe, frame, scan) == {}

    def test_the_truth_has_perfect_figures(self, bench):
        scan = bench.cases.case_scan(bench.cases.Case("few", overlap=-0.05), None)
        frame = bench.scores.target_frame(scan)
        truth, probe = scan.objectGuess, scan.probeGuess[None]
        figures = bench.scores.figures_of_merit(truth, probe, frame, scan)
        assert figures["complex_nrmse"] < 1e-6
        assert figures["amplitude_psnr"] > 100
        assert figures["fourier_error"] == pytest.approx(0.25 * 64**2 / 1e9, rel=0.1)  # photon noise
        assert figures["deviance_ratio"] == pytest.approx(1, abs=0.02)
        found = bench.scores.Snapshot(1, 1.0, truth, probe, frame)
        assert bench.scores.error_of(found, frame, scan) == figures["complex_nrmse"]


class TestPlan:
    def test_methods_run_side_by_side(self, bench):
        cells = bench.run.plan([bench.cases.BASE], ["flat", "cnn"], peer=False, runs=2)
        assert [cell[1:] for cell in cells] == [("flat", 0), ("cnn", 0), ("flat", 1), ("cnn", 1)]

    def test_a_network_that_is_needed_comes_along(self, bench):
        cells = bench.run.plan([bench.cases.BASE], ["refine-pass"], peer=False, runs=1)
        assert [method for _, method, _ in cells] == ["unrolled", "refine-pass"]

    def test_no_peer_no_cells_of_it(self, bench):
        cells = bench.run.plan(bench.cases.CASES, None, peer=False, runs=None)
        assert "pty-chi" not in {method for _, method, _ in cells}


class TestCache:
    def test_goes_on_after_an_interrupt(self, bench, tmp_path):
        path, measured = tmp_path / "cells.jsonl", []
        cells = bench.run.plan([bench.cases.BASE], ["flat", "cnn", "refine"], peer=False, runs=1)

        def measure(case, method, run):
            if method == "cnn" and len(measured) == 1:
                raise KeyboardInterrupt
            measured.append(method)
            return row(case.name, method, run)

        with pytest.raises(KeyboardInterrupt):
            bench.run.fill(cells, bench.run.Cache(path, SETTINGS), measure)
        measured.append("again")
        bench.run.fill(cells, bench.run.Cache(path, SETTINGS), measure)
        assert measured == ["flat", "again", "cnn", "refine"]
        assert [line["method"] for line in bench.run.read_rows(path)[1:]] == ["flat", "cnn", "refine"]

    def test_torn_last_line_is_measured_again(self, bench, tmp_path):
        path = tmp_path / "cells.jsonl"
        cache = bench.run.Cache(path, SETTINGS)
        cache.add(row("base", "flat"))
        path.write_text(path.read_text() + '{"case": "base", "meth')
        cache = bench.run.Cache(path, SETTINGS)
        assert ("base", "flat", 0) in cache
        cache.add(row("base", "cnn"))
        assert [line.get("method") for line in map(json.loads, path.read_text().splitlines())] == [None, "flat", "cnn"]

    def test_torn_line_in_the_middle_is_an_error(self, bench, tmp_path):
        path = tmp_path / "cells.jsonl"
        path.write_text('{"settings": {}}\n{"case"\n{}\n')
        with pytest.raises(SystemExit, match=r"cells.jsonl:2: expected a JSON object"):
            bench.run.read_rows(path)

    def test_other_settings_are_refused(self, bench, tmp_path):
        path = tmp_path / "cells.jsonl"
        bench.run.Cache(path, SETTINGS).add(row("base", "flat"))
        with pytest.raises(SystemExit, match="choose another --output"):
            bench.run.Cache(path, {"train_seconds": 2.0})
        assert len(bench.run.read_rows(path)) == 2


class TestReport:
    def test_seconds_until_an_error(self, bench):
        curve = [(1, 2.0, 0.4), (2, 4.0, 0.1), (3, 6.0, 0.1)]
        assert bench.report.seconds_until(curve, 0.5) == 2.0
        assert bench.report.seconds_until(curve, 0.2) == pytest.approx(3.0)  # half way in the logarithm
        assert bench.report.seconds_until(curve, 0.1) == pytest.approx(4.0)
        assert bench.report.seconds_until(curve, 0.09) is None
        assert bench.report.seconds_until([(1, 1.0, math.inf), (2, 3.0, 0.1)], 0.2) == 3.0

    def test_times_are_compared_run_by_run(self, bench):
        table = {("base", "pty-chi"): [], ("base", "refine"): []}
        for run, (peer, ours) in enumerate([(10.0, 1.0), (30.0, 5.0), (20.0, 2.0)]):
            table["base", "pty-chi"].append(row("base", "pty-chi", run, [(1, 1.0, 0.5), (30, peer, 0.25)]))
            table["base", "refine"].append(row("base", "refine", run, [(4, ours, 0.25)]))
        found = bench.report.seconds_to_quality(table, bench.cases.BASE, "refine", 30)
        assert found == (0.25, 20.0, 2.0)
        assert bench.report.seconds_to_quality(table, bench.cases.BASE, "refine", 80) is None

    def test_renders_from_a_cache(self, bench, tmp_path):
        cells = [
            row("-5 % overlap", "flat", curve=[(0, 0.0, 0.3)], amplitude_range=0.5, phase_range=1.25),
            row("-5 % overlap", "refine", curve=[(1, 0.5, 0.2), (2, 1.0, 0.05)], amplitude_ssim=0.9, phase_ssim=0.8),
            row("-5 % overlap", "pty-chi", curve=[(1, 1.0, 0.3), (30, 8.0, 0.1)]),
        ]
        shares = {"amplitude": {"0.6827": 0.7, "0.95": 0.96}, "phase": {"0.6827": 0.5, "0.95": 0.9}}
        barred = row("-5 % overlap", "reconstruct", curve=[(1, 1.0, 0.2)])
        cells.append(barred | {"bars": shares, "bars_hold": False, "bars_seconds": 2.5})
        scan = bench.cases.case_scan(next(c for c in bench.cases.CASES if c.name == "-5 % overlap"), None)
        places = bench.methods.Places(tmp_path, None, None, None)
        for cell in cells:
            path = places.result(cell["case"], cell["method"], 0)
            path.parent.mkdir(exist_ok=True)
            np.savez(path, object=scan.objectGuess, probe=scan.probeGuess[None])
        text = bench.report.write_report([{"settings": SETTINGS}, *cells], tmp_path).read_text()
        assert "| -5 % overlap | 0.3000 | **0.0500** | 0.2000 | 0.1000 |" in text
        assert "| -5 % overlap | – / – | 0.900 / 0.800 | – / – | – / – |" in text
        assert "| -5 % overlap | 70.0 / 50.0 | 96.0 / 90.0 | no | 2.5 |" in text
        assert "-5 % overlap (0.50; 1.25 rad)" in text
        assert "| -5 % overlap | 30 | 0.1000 | 8.00 | 0.75 | 10.7 | – | – |" in text
        for picture in ("curves.png", "objects--5-percent-overlap.png"):
            assert picture in text
            assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")

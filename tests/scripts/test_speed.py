"""The one table of speeds: what it takes from each part, what it does not measure again, what it says of its bars."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def speed(monkeypatch):
    """The benchmark, found as a script finds those beside it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import speed

    return speed


def found_of(speed, name, values):
    return {figure.what: figure for figure in speed.PARTS[name].figures(values)}


class TestFigures:
    def test_solver(self, speed):
        row = {"n": 64, "moving": False, "backend": "pytorch", "whole": 24_999.0}
        rows = [row, row | {"moving": True, "whole": 12_000.0}, row | {"backend": "tensorflow"}]
        found = found_of(speed, "solver", {"rows": rows})
        assert found["pytorch, 64 x 64, known probe"].met is False
        assert found["pytorch, 64 x 64, moving probe"].met is True
        assert found["tensorflow, 64 x 64, known probe"].met is None

    def test_peer(self, speed):
        cells = [
            {"case": "base", "method": method, "run": 0, "curve": curve}
            for method, curve in (("pty-chi", [[30, 8.0, 0.1]]), ("refine", [[1, 0.5, 0.1]]))
        ]
        (figure,) = speed.PARTS["peer"].figures([{"settings": {}}, *cells])
        assert figure.found == 16 and "epoch 30" in figure.what

    def test_steps_fewer_seconds_are_better(self, speed):
        row = {"sizes": [10, 1000], "cells": [{"seconds": 1.0}, {"seconds": 9.0}], "last": 0.5, "bar": 10}
        found = found_of(speed, "steps", {"grouping": row, "doctor": row | {"bar": 8}, "opening": row | {"bar": None}})
        assert [found[f"{name}, 1,000"].met for name in ("grouping", "doctor", "opening")] == [True, False, None]
        assert found["grouping, exponent of the last decade"].found == 0.5

    def test_pass_and_live(self, speed):
        rows = [{"case": "base", "patterns": 9, "groups": {"seconds": 9.0}, "canvas": {"seconds": 2.0}}]
        assert found_of(speed, "pass", rows)["base, 9 patterns"].met is False
        rows = [{"source": "folder", "rate": 200.0, "joined_per_second": 196.0, "latency_median_s": 0.9}]
        assert found_of(speed, "live", rows)["from a folder"].met is False

    def test_many_patterns(self, speed):
        row = {"patterns": 1000, "MiB in the end": 300.0, "CPU s per iteration": 0.5}
        found = found_of(speed, "many", {"rows": [row]})
        assert (
            found["1,000 patterns, peak"].found == 300 and found["1,000 patterns, an iteration"].unit == "processor s"
        )

    def test_every_script_is_there(self, speed):
        assert all((SCRIPTS / part.script).is_file() for part in speed.PARTS.values())


class TestRun:
    @pytest.fixture
    def args(self, speed, monkeypatch, tmp_path):
        """One part, which writes what it is told and says one line."""
        script = tmp_path / "part.py"
        script.write_text(
            "import sys\nfrom pathlib import Path\nif sys.argv[2] == '0.0': sys.exit(3)\nprint('measured')\n"
            'Path(sys.argv[1]).write_text(\'[{"source": "folder", "rate": 200.0, "joined_per_second": 201.0, '
            '"latency_median_s": 0.5}]\')\n'
        )
        part = speed.Part(str(script), lambda args, out: [str(out), str(args.ends_well)], "live.json", speed.of_live)
        monkeypatch.setattr(speed, "PARTS", {"live": part})
        return SimpleNamespace(output=tmp_path / "out", ends_well=1.0)

    def test_is_measured_once_and_put_on_the_page(self, speed, args, capsys):
        folder = speed.run("live", args)
        assert speed.run("live", args) == folder
        assert capsys.readouterr().out.count("part.py") == 1
        text = speed.page({"live": folder})
        assert "| live | from a folder | 201 patterns / s | >= 200 | met |" in text
        assert text.endswith("## live\n\n```\nmeasured\n```\n")

    def test_a_part_that_ends_badly_is_left_out_and_measured_again(self, speed, args, capsys):
        args.ends_well = 0.0
        assert speed.run("live", args) is None
        assert "expected status 0, found 3" in capsys.readouterr().out
        args.ends_well = 1.0
        assert speed.run("live", args) is not None

    def test_what_cannot_be_measured_is_said(self, speed, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(sys, "argv", ["speed.py", "--output", str(tmp_path), "--only", "gpu", "peer"])
        with pytest.raises(SystemExit, match="expected a part that can be measured"):
            speed.main()
        said = capsys.readouterr().out
        assert "gpu: left out without --gpu" in said and "peer: left out without --ptychi-python" in said
        assert not list(tmp_path.iterdir())

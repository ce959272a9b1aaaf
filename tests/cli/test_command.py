"""The command `ptycho`: finding subcommands, help, complaints; and `ptycho simulate` with all it takes."""

import argparse
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ptycho.cli import commands
from ptycho.cli.command import main, subcommands
from ptycho.cli.console import DefaultsHelp, LineParser
from ptycho.core.scan.npz_file import read_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

SMALL = ("--size", "80", "--step", "6", "--photons", "1e4")


def simulate(folder: Path, *flags: str, status: int = 0) -> Path:
    assert main(["simulate", "--quiet", "--output", str(folder / "scan.npz"), *flags]) == status
    return folder / "scan.npz"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A subcommand `ptycho compare` that does what the test says."""
    module = types.SimpleNamespace(SUMMARY="hold two things against each other.", work=lambda options: 0)
    module.add_arguments = lambda parser: parser.add_argument("--depth", type=int, default=3, help="how deep")
    module.run = lambda options: module.work(options)
    monkeypatch.setitem(sys.modules, f"{commands.__name__}.compare", module)
    found = types.SimpleNamespace(name="compare")
    monkeypatch.setattr(
        "ptycho.cli.command.pkgutil.iter_modules", lambda path: [found, types.SimpleNamespace(name="_own")]
    )
    return module


class TestSubcommands:
    def test_every_module_of_the_package_is_one(self) -> None:
        assert {"inference", "simulate", "train"} <= set(subcommands())
        assert all(not name.startswith("_") for name in subcommands())

    def test_every_one_says_what_it_does_and_takes_no_flag_of_all(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        listed = capsys.readouterr().out
        for name in subcommands():
            assert f"\n  {name} " in listed
            with pytest.raises(SystemExit) as end:
                main([name, "--help"])
            assert end.value.code == 0
            shown = capsys.readouterr().out
            assert "--quiet" in shown
            assert "--debug" in shown

    def test_help_lists_them_with_their_summaries(self, stand_in, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--help"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "  compare      Hold two things against each other" in lines
        assert not any("_own" in line for line in lines)

    def test_help_of_one_shows_defaults(self, stand_in, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["compare", "--help"])
        shown = capsys.readouterr().out
        assert "Hold two things against each other." in shown
        assert "how deep (default: 3)" in shown

    def test_options_reach_the_subcommand_and_its_status_comes_back(self, stand_in) -> None:
        stand_in.work = lambda options: options.depth
        assert main(["compare"]) == 3
        assert main(["compare", "--depth", "5", "--quiet"]) == 5

    @pytest.mark.parametrize(
        ("argument", "words"),
        [
            ("compair", "fourier, frc, inference, live, reconstruct, train, found compair; did you mean compare?"),
            ("_own", "found _own"),
            ("--depth", "found --depth"),
        ],
    )
    def test_an_unknown_subcommand(self, stand_in, argument: str, words: str, capsys) -> None:
        assert main([argument]) == 2
        error = capsys.readouterr().err
        assert error.startswith("ptycho: error: expected a subcommand, ")
        assert words in error
        assert error.count("\n") == 1

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--dephts", "3"], "unknown argument --dephts; did you mean --depth?"),
            (["--depth", "x"], "argument --depth: invalid int value: 'x'"),
            (["--quiet", "--debug"], "argument --debug: not allowed with argument --quiet"),
        ],
    )
    def test_bad_flags_are_one_line(self, stand_in, flags: list[str], words: str, capsys) -> None:
        assert main(["compare", *flags]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error == f"ptycho compare: error: {words}"

    @pytest.mark.parametrize(
        ("raised", "status", "line"),
        [
            (DataError("no\n light"), 2, "ptycho compare: error: no light"),
            (KeyboardInterrupt(), 130, "ptycho compare: interrupted: start again with the same command"),
        ],
    )
    def test_what_a_user_causes_is_one_line_and_a_traceback_with_debug(
        self, stand_in, raised: BaseException, status: int, line: str, capsys
    ) -> None:
        def fail(options: argparse.Namespace) -> int:
            raise raised

        stand_in.work = fail
        assert main(["compare"]) == status
        assert capsys.readouterr().err == f"{line}\n"
        assert main(["compare", "--debug"]) == status
        error = capsys.readouterr().err
        assert "Traceback" in error
        assert error.endswith(f"{line}\n")

    def test_a_defect_is_not_hidden(self, stand_in) -> None:
        stand_in.work = lambda options: 1 / 0
        with pytest.raises(ZeroDivisionError):
            main(["compare"])

    def test_the_commands_of_their_own_are_aliases(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train"]) == 2
        assert "ptycho_train: error: --train-data-file is required" in capsys.readouterr().err
        assert main(["inference"]) == 2
        assert "ptycho_inference: error: --test-data is required" in capsys.readouterr().err

    def test_the_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out.split()[0] == "ptycho"

    def test_help_loads_no_framework(self) -> None:
        code = "import sys; from ptycho.cli.command import main; main([]); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert not {"torch", "tensorflow", "numpy"} & set(done.stdout.splitlines()[-1].split())


class TestHelp:
    @pytest.mark.parametrize(
        ("default", "end"),
        [(0, "(default: 0)"), (1e9, "(default: 1e+09)"), ((0.4, 1.0), "(default: 0.4,1)"), ("a", "(default: a)")]
        + [(nothing, "text") for nothing in (None, False, [])],
    )
    def test_defaults_as_a_user_would_type_them(self, default: object, end: str) -> None:
        parser = LineParser(prog="p", formatter_class=DefaultsHelp)
        parser.add_argument("--x", default=default, help="text")
        assert parser.format_help().rstrip().endswith(end)

    def test_abbreviations_are_not_taken(self) -> None:
        parser = LineParser(prog="p")
        parser.add_argument("--length")
        with pytest.raises(ConfigError, match="unknown argument --leng; did you mean --length"):
            parser.parse_flags(["--leng", "3"])

    def test_flags_stand_between_the_words_too(self) -> None:
        parser = LineParser(prog="p")
        parser.add_argument("scan", nargs="?")
        parser.add_argument("output")
        parser.add_argument("--to")
        found = parser.parse_flags(["in.npz", "--to", "cxi", "out.cxi"])
        assert (found.scan, found.output, found.to) == ("in.npz", "out.cxi", "cxi")
        with pytest.raises(ConfigError, match=r"unknown argument c$"):
            parser.parse_flags(["a", "--to", "cxi", "b", "c"])


class TestSimulate:
    @pytest.fixture
    def pictures(self) -> None:
        """They are drawn: they are looked at here."""

    def test_the_defaults_make_a_scan_that_reads_back(self, tmp_path: Path) -> None:
        scan = RawData.from_file(simulate(tmp_path))
        assert scan.diff3d.shape == (576, 64, 64)
        assert scan.objectGuess is not None
        assert scan.objectGuess.shape == (256, 256)
        assert (scan.units, scan.mask) == ("amplitude", None)
        assert np.sum(np.square(scan.diff3d, dtype=np.float64)) / 576 == pytest.approx(1e9, rel=1e-5)

    def test_every_part_has_its_flags(self, tmp_path: Path) -> None:
        flags = (
            "--size 90,100 --kind dead_leaves --object-setting radii=4,9 --amplitude 0.5 1 --phase -0.5 0.5 "
            "--probe zone_plate --probe-setting defocus=1.5 --aberration 5=0.4 --aberration 8=-0.2 --modes 0.8,0.2 "
            "--path fermat --overlap 0.6 --jitter 1 --position-error 0.5 --photons 1e5 --units counts --gap-width 2 "
            "--gap-offset 9 --bad-pixels 0.01 --beam-stop 3 --seed 7"
        )
        scan = RawData.from_file(simulate(tmp_path, *flags.split()))
        assert scan.probeGuess.shape == (2, 64, 64)
        assert np.sum(np.abs(scan.probeGuess[1]) ** 2) / np.sum(np.abs(scan.probeGuess) ** 2) == pytest.approx(0.2)
        truth = scan.objectGuess
        assert truth is not None
        assert truth.shape == (90, 100)
        assert (np.abs(truth).min(), np.abs(truth).max()) == pytest.approx((0.5, 1.0))
        assert np.angle(truth).min() == pytest.approx(-0.5)
        assert scan.diff3d.dtype == np.uint32
        assert np.abs(scan.xcoords_start - scan.xcoords).max() > 0.5
        assert scan.mask is not None
        assert not scan.mask[32, 32]
        assert scan.metadata is not None
        said = scan.metadata["simulation"]
        assert (said["path"], said["overlap"], said["seed"]) == ("fermat", 0.6, 7)
        assert said["probe_settings"] == {"defocus": 1.5, "aberrations": {"5": 0.4, "8": -0.2}}

    def test_the_same_seed_gives_the_same_file(self, tmp_path: Path) -> None:
        first = simulate(tmp_path, *SMALL, "--seed", "5").read_bytes()
        assert simulate(tmp_path, *SMALL, "--seed", "5").read_bytes() == first
        assert simulate(tmp_path, *SMALL, "--seed", "6").read_bytes() != first

    def test_object_and_probe_from_another_scan(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        other = simulate(tmp_path / "other", *SMALL, "--modes", "0.7,0.3")
        again = read_scan(simulate(tmp_path, "--object", str(other), "--probe-file", str(other), "--count", "4"))
        before = read_scan(other)
        np.testing.assert_array_equal(again.objectGuess, before.objectGuess)
        ratio = again.probeGuess / before.probeGuess
        np.testing.assert_allclose(ratio, ratio[0, 32, 32], rtol=1e-4)
        assert again.metadata is not None
        assert again.metadata["simulation"]["probe_file_from"] == "scan.npz"

    def test_an_object_from_pictures(self, tmp_path: Path) -> None:
        from matplotlib.image import imsave

        picture = np.zeros((80, 90, 3))
        picture[:40, :, 1] = 1.0
        imsave(tmp_path / "half.png", picture)
        imsave(tmp_path / "side.png", np.transpose(picture, (1, 0, 2))[:80, :80])
        flags = ("--object", str(tmp_path / "half.png"), "--phase-picture", str(tmp_path / "side.png"))
        truth = read_scan(simulate(tmp_path, *flags, *SMALL)).objectGuess
        assert truth is not None
        assert truth.shape == (80, 80)
        np.testing.assert_allclose(np.abs(truth[[10, 70]]).mean(axis=1), (1.0, 0.4), atol=1e-6)
        np.testing.assert_allclose(np.angle(truth[:, [10, 70]]).mean(axis=0), (1.0, -1.0), atol=1e-6)

    def test_without_noise_and_truth(self, tmp_path: Path) -> None:
        scan = read_scan(simulate(tmp_path, *SMALL, "--no-noise", "--no-truth"))
        assert scan.objectGuess is None
        assert np.sum(np.square(scan.diff3d, dtype=np.float64)) / len(scan.diff3d) == pytest.approx(1e4, rel=1e-5)

    def test_a_preview_shows_it(self, tmp_path: Path) -> None:
        from matplotlib.image import imread
        from scipy.ndimage import label

        simulate(tmp_path, *SMALL, "--beam-stop", "3", "--preview", str(tmp_path / "scan.png"))
        drawn = imread(tmp_path / "scan.png")[..., :3]
        assert min(drawn.shape[:2]) > 900
        red = (drawn[..., 0] > 0.8) & (drawn[..., 1] < 0.3) & (drawn[..., 2] < 0.3)
        _, count = label(red[: len(red) // 2, : red.shape[1] // 2])  # the amplitude, with the positions
        assert count == 9

    def test_it_says_what_it_made(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert main(["simulate", "--output", str(tmp_path / "scan.npz"), *SMALL, "--beam-stop", "3"]) == 0
        said = caplog.text
        assert "Object 80 x 80 pixels" in said
        assert "0.22 % of the detector is masked" in said
        assert "9 patterns of 64 x 64, amplitude, 10000 photons each" in said

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            ("--size x", "argument --size: expected one or two whole numbers, H,W, found x"),
            ("--size 8,9,10", "expected one or two whole numbers, H,W, found 8,9,10"),
            ("--aberration 5", "expected J=RADIANS, for example 5=0.8, found 5"),
            ("--modes 1,a", "expected numbers with commas between them, found 1,a"),
            ("--object-setting radius", "expected NAME=NUMBER or NAME=NUMBER,NUMBER, found radius"),
            ("--kind perlin --object-setting period=1", "expected period >= 2"),
            ("--step 3 --count 4", "argument --count: not allowed with argument --step"),
            ("--size 65", "expected an object of at least 66 pixels a side, found (65, 65)"),
            ("--overlap 1.5", "overlap: expected a fraction below 1, found 1.5"),
            ("--phase-picture a.png", "--phase-picture: expected --object with a picture beside it"),
            ("--object nothing.npy", "nothing.npy: expected a file with the object, found none"),
            ("--object nothing.png", "nothing.png: expected a picture, found no such file"),
            ("--probe-file nothing.npy", "nothing.npy: expected a file with the probe, found none"),
            ("--probe gaussian --aberration 5=1", "gaussian: expected settings among fwhm, energy, found aberrations"),
        ],
    )
    def test_what_cannot_be_is_one_line_and_no_file(self, flags: str, words: str, tmp_path: Path, capsys) -> None:
        simulate(tmp_path, *flags.split(), status=2)
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    def test_a_picture_that_is_none_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "text.png").write_text("no picture")
        simulate(tmp_path, "--object", str(tmp_path / "text.png"), status=2)
        assert "expected a picture, found" in capsys.readouterr().err

    def test_the_metadata_are_plain_json(self, tmp_path: Path) -> None:
        with np.load(simulate(tmp_path, *SMALL, "--aberration", "5=0.1")) as file:
            assert json.loads(str(file["_metadata"]))["nphotons"] == 1e4

"""The flags that put a scan together: what they say, and the commands that take them."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptycho.cli.command import main
from ptycho.cli.scan_flags import Pair, add_scan_flags, parts_of, scan_file, scan_of, stream_from, takes_parts
from ptycho.core.scan.npz_file import read_scan
from ptycho.errors import ConfigError

Parse = Callable[..., argparse.Namespace]


@pytest.fixture
def parse() -> Parse:
    def run(*arguments: object) -> argparse.Namespace:
        parser = argparse.ArgumentParser(exit_on_error=False)
        add_scan_flags(parser)
        return parser.parse_args([str(argument) for argument in arguments])

    return run


@pytest.fixture
def taken_apart(tmp_path: Path, fixture_file: Path) -> list[str]:
    """The small scan as frames, a table in um and a probe: 8 keV, 1.5 m, 75 um; 48.43 nm a pixel."""
    scan = read_scan(fixture_file)
    np.save(tmp_path / "frames.npy", scan.diff3d)
    np.save(tmp_path / "probe.npy", scan.probeGuess)
    um = 4.8431328e-2 * np.c_[scan.xcoords, scan.ycoords]
    np.savetxt(tmp_path / "pos.txt", um, header="x_um y_um")
    geometry = ["--energy-keV", "8", "--distance-m", "1.5", "--detector-pixel-um", "75"]
    files = ["--patterns", tmp_path / "frames.npy", "--scan-positions", tmp_path / "pos.txt"]
    return [*map(str, [*files, "--probe-file", tmp_path / "probe.npy"]), *geometry]


def test_what_the_flags_say(parse: Parse) -> None:
    options = parse("--patterns", "a.h5:/data", "--scan-positions", "p.csv:x,y", "--unit", "nm", "--electrons")
    parts = parts_of(options, [Path("b.cxi")])
    assert (parts.patterns, parts.positions, parts.position_unit) == ("a.h5:/data", "p.csv:x,y", "nm")
    assert (parts.particle, parts.files, parts.energy_eV) == ("electron", (Path("b.cxi"),), None)
    parts = parts_of(parse("--energy-keV", 8, "--detector-pixel-um", 75, "--object-pixel-nm", 5, "--rotation", -3.5))
    assert (parts.energy_eV, parts.rotation_deg) == (8000, -3.5)
    assert (parts.detector_pixel_m, parts.object_pixel_m) == (pytest.approx(75e-6), pytest.approx(5e-9))
    assert takes_parts(options)
    assert not takes_parts(parse("--units", "counts"))


@pytest.mark.parametrize(("flag", "value"), [("--rotation", "361"), ("--rotation", "nan"), ("--distance-m", "0")])
def test_numbers_that_cannot_be(flag: str, value: str, parse: Parse) -> None:
    with pytest.raises(argparse.ArgumentError, match=f"found {value}"):
        parse(flag, value)


def test_a_unit_belongs_to_a_table(parse: Parse, fixture_file: Path) -> None:
    with pytest.raises(ConfigError, match="--unit: expected --scan-positions"):
        scan_of(parse("--unit", "um"), [fixture_file])


def test_the_parts_are_the_scan(parse: Parse, taken_apart: list[str], fixture_file: Path) -> None:
    whole, found = read_scan(fixture_file), stream_from(parse(*taken_apart), None).scan()
    np.testing.assert_array_equal(found.diff3d, whole.diff3d)
    shift = found.xcoords - whole.xcoords
    np.testing.assert_allclose(shift, shift[0], atol=1e-6)
    np.testing.assert_array_equal(stream_from(parse("--units", "counts"), fixture_file).scan().xcoords, whole.xcoords)


def test_commands_take_them(
    taken_apart: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], fixture_file: Path
) -> None:
    assert main(["convert", *taken_apart, str(tmp_path / "scan.npz")]) == 0
    assert f"Wrote {tmp_path / 'scan.npz'}: scan NPZ, patterns " in capfd.readouterr().err
    np.testing.assert_array_equal(read_scan(tmp_path / "scan.npz").diff3d, read_scan(fixture_file).diff3d)
    assert main(["doctor", "--no-trials", *taken_apart]) in (0, 1)
    assert "frames.npy" in capfd.readouterr().out
    assert main(["doctor", "--no-trials"]) == 2
    assert "expected a scan, found no file; name one, or --patterns" in capfd.readouterr().err
    assert main(["convert", str(tmp_path / "out.npz")]) == 2


@pytest.mark.parametrize("said", [["0.6,1.0"], ["0.6", "1.0"]])
def test_a_pair_is_two_numbers_with_or_without_a_comma(said: list[str]) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--amplitude", action=Pair)
    assert parser.parse_args(["--amplitude", *said]).amplitude == (0.6, 1.0)


def test_a_pair_is_asked_for_by_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage-scale", action=Pair, metavar=("X", "Y"))
    with pytest.raises(SystemExit):
        parser.parse_args(["--stage-scale", "1.03"])
    assert "expected two numbers, X Y or X,Y, found 1.03" in capsys.readouterr().err


def test_a_scan_is_written_as_npz_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scan_file("a.NPZ") == Path("a.NPZ") and scan_file("b") == Path("b")
    assert main(["simulate", "--output", str(tmp_path / "a.h5")]) == 2
    assert "expected a name that ends in .npz" in capsys.readouterr().err
    assert main(["simulate", "--output", str(tmp_path / "a.npz"), "--amplitude", "0.6"]) == 2
    assert "expected two numbers, LOW HIGH or LOW,HIGH, found 0.6" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

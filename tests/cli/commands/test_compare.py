"""`ptycho compare` and `ptycho show`: the table, the pictures, what cannot be compared."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ptycho.cli.command import main
from ptycho.core.formats.reconstruction_npz import write_npz
from ptycho.core.formats.reconstruction_product import write_ptychodus_product
from ptycho.core.geometry import ObjectFrame
from ptycho.core.reconstruction import Reconstruction


@pytest.fixture
def pictures() -> None:
    """They are drawn: they are looked at here."""


@pytest.fixture
def results(fixture_file: Path, tmp_path: Path) -> Path:
    """A folder with the truth of the fixture scan, blurred by a phase, as reconstruction and as product."""
    scan = np.load(fixture_file)
    truth = scan["objectGuess"][5:125, 3:120]
    wrong = (0.8 * truth * np.exp(0.4j)).astype(np.complex64)
    wrong[60:70, 50:60] *= 1j
    found = Reconstruction(
        object=wrong,
        coverage=np.ones(truth.shape, np.float32),
        probe=scan["probeGuess"][None],
        xcoords=scan["xcoords"] - 3,
        ycoords=scan["ycoords"] - 5,
        frame=ObjectFrame(*truth.shape, 3, 5),
        backend="numpy",
        method="network",
        subpixel="fourier",
        network_object=None,
        error_history=(),
        timings={},
        synchronised=False,
        agreement=(1.0, 1.0),
    )
    write_npz(found, tmp_path / "a.npz")
    write_ptychodus_product(found, tmp_path / "a.h5", 1e-8, 1e4, 1.0)
    return tmp_path


@pytest.mark.parametrize("name", ["a.npz", pytest.param("a.h5", marks=pytest.mark.slow)])
def test_a_result_is_compared_with_the_scan_that_knows_the_truth(
    results: Path, fixture_file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = results / "p.png"
    assert main(["compare", str(results / name), str(fixture_file), "-o", str(picture)]) == 0
    out = capsys.readouterr().out
    lines = {line[:20].strip(): line[20:].split() for line in out.splitlines()}
    assert float(lines["scale taken out"][0]) == pytest.approx(1.25, rel=0.01)
    assert lines["offset of A in B"][:2] == ["5,", "3"]
    assert float(lines["SSIM"][0]) > 0.99 > float(lines["SSIM"][1])
    assert lines["FRC one-bit"]
    assert imread(picture).shape[1] > 1500


def test_json_instead_of_the_table(results: Path, fixture_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(results / "a.npz"), str(fixture_file), "--output", "-", "--json", "--halves"]
    assert main(["compare", *arguments, "--region", "40,90,40,90"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["region"] == [40, 90, 40, 90]
    assert found["threshold"] == "half-bit"
    assert found["amplitude_ms_ssim"] is None  # too small for its scales
    assert len(found["frc"]["frequency"]) == 26
    assert list(results.glob("*.png")) == []


def test_the_patterns_judge_both(results: Path, fixture_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(results / "a.npz"), str(fixture_file), "--scan", str(fixture_file)]
    assert main(["compare", *files, "--output", "-", "--json", "--quiet"]) == 0
    errors = json.loads(capsys.readouterr().out)["diffraction_error"]
    assert errors["B"] == pytest.approx(0.0051, rel=0.05)  # photon noise
    assert errors["A"] > 0.04  # the amplitude is 0.8 of what it should be
    assert main(["compare", *files, "--output", "-", "--quiet"]) == 0
    assert "diffraction error A 0.0" in capsys.readouterr().out


def test_the_folder_of_a_run_stands_for_its_result(
    results: Path, fixture_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    (results / "run").mkdir()
    (results / "a.npz").rename(results / "run" / "reconstruction.npz")
    for name in ("run", "run/reconstruction.npz"):
        assert main(["compare", str(results / name), str(fixture_file), "-o", "-", "--json"]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    (results / "empty").mkdir()
    assert main(["compare", str(results / "empty"), str(fixture_file)]) == 2
    assert "reconstruction.npz: expected a file to read, found nothing there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--region", "1,2,3"], "expected four whole numbers"),
        (["--region", "0,500,0,20"], "inside"),
    ],
)
def test_a_wrong_region_is_told_in_a_line(
    results: Path, fixture_file: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(results / "a.npz"), str(fixture_file), "--output", "-", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_file_without_an_object_is_named(
    results: Path, fixture_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = dict(np.load(fixture_file))
    del arrays["objectGuess"]
    np.savez(results / "bare.npz", **arrays)
    assert main(["compare", str(results / "bare.npz"), str(fixture_file)]) == 2
    assert "bare.npz: expected an object to compare, found none" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.npz", pytest.param("a.h5", marks=pytest.mark.slow), "scan"])
def test_show_draws_one_sheet(results: Path, fixture_file: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture = results / "sheet.png"
    file = fixture_file if name == "scan" else results / name
    assert main(["show", str(file), "--output", str(picture)]) == 0
    assert capsys.readouterr().out == f"picture: {picture}\n"
    pixels = imread(picture)
    assert pixels.shape[1] > 1200
    assert pixels[..., :3].std() > 0.1

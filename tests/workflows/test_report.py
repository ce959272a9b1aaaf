"""What a report is held against: patterns, a truth, an earlier result, the resolution in its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ptycho
from ptycho.core.formats.reconstruction_npz import write_npz
from ptycho.core.quality.resolution import Resolution, resolution_json
from ptycho.core.quality.ring_correlation import FrcCurve
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.report.elements import breakable
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.outputs import save_reconstruction
from ptycho.workflows.report import write_report


@pytest.fixture(scope="module")
def result(plain: RawData) -> Reconstruction:
    found = measured_reconstruction(refine_scan(plain, iterations=4, dtype=np.float32), plain, ON_HOST)
    return replace(found, provenance={**found.provenance, "told": ["Checks: nothing wrong found"]})


def page(result: Reconstruction, folder: Path, *arguments: object) -> str:
    return write_report(result, folder / "report.html", *arguments).read_text(encoding="utf-8")


def test_a_scan_brings_its_patterns_and_its_truth(result: Reconstruction, plain: RawData, tmp_path: Path) -> None:
    alone, made = page(result, tmp_path), page(result, tmp_path, plain)
    for heading in ("Mean pattern", "Residual patterns", "With the object of the scan file"):
        assert heading in made and heading not in alone
    assert "Checks: nothing wrong found" in alone
    assert "σ of photon noise" in made


def test_positions_that_moved_from_those_of_the_scan_are_shown(
    result: Reconstruction, plain: RawData, tmp_path: Path
) -> None:
    assert "Arrows go from" not in page(result, tmp_path, plain)
    assert "Arrows go from" in page(
        replace(result, xcoords=result.xcoords + np.arange(len(plain)) % 2), tmp_path, plain
    )


def test_a_flat_object_is_no_truth(result: Reconstruction, plain: RawData, tmp_path: Path) -> None:
    flat = plain.part(np.arange(len(plain)))
    flat.objectGuess = np.ones_like(plain.objectGuess)
    assert "With the object" not in page(result, tmp_path, flat)


def test_an_earlier_result_is_compared_with(result: Reconstruction, tmp_path: Path) -> None:
    write_npz(result, tmp_path / "reconstruction.npz")
    made = page(result, tmp_path, None, tmp_path)
    assert "With reconstruction.npz" in made and "PSNR (dB)" in made
    other = replace(result, object=np.zeros_like(result.object))
    assert "Could not be compared: align: " in page(result, tmp_path, None, write_npz(other, tmp_path / "zero.npz"))


def test_what_cannot_be_read_any_more_does_not_cost_the_report(
    result: Reconstruction, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "frc.json").write_text("{")
    made = page(result, tmp_path, None, tmp_path / "gone.npz")
    assert "With gone.npz" in made and "Could not be compared" in made and "ptycho frc SCAN" in made
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "the report has no resolution",
        "the report compares with nothing",
    ]


def test_a_broken_resolution_is_warned_of_once_and_does_not_stay_beside_a_new_result(
    result: Reconstruction, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "frc.json").write_text("{")
    save_reconstruction(result, tmp_path)
    assert sum("the report has no resolution" in record.message for record in caplog.records) == 1
    assert not (tmp_path / "frc.json").exists()


def test_the_resolution_of_the_folder_counts_where_it_is_of_this_scan(result: Reconstruction, tmp_path: Path) -> None:
    curve = FrcCurve(np.linspace(0, 0.5, 21), np.linspace(1, -0.1, 21), np.arange(1, 22) * 6)
    found = Resolution(curve, (61, 60), None, result.provenance["scan"]["content_sha256"])
    for scan, told in ((found.scan, True), ("of another", False)):
        (tmp_path / "frc.json").write_text(resolution_json(replace(found, scan=scan)))
        made = page(result, tmp_path)
        assert ("of 61 and 60 patterns" in made) is told
        assert ("ptycho frc SCAN" in made) is not told


def test_a_scan_that_was_padded_for_a_network_is_padded_again(
    result: Reconstruction, plain: RawData, tmp_path: Path
) -> None:
    padded = plain.fitted(sizes=(64,))
    found = measured_reconstruction(refine_scan(padded, iterations=1, dtype=np.float32), padded, ON_HOST)
    assert found.probe.shape[-1] > plain.N
    assert "Residual patterns" in page(found, tmp_path, plain)


def test_another_scan_is_refused(result: Reconstruction, plain: RawData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected 121 patterns of 32 pixels as in the result, found 5 of 32"):
        write_report(result, tmp_path / "report.html", plain.part(np.arange(5)))
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_the_folder_are_linked(result: Reconstruction, tmp_path: Path) -> None:
    for name in ("summary.png", "summary.pdf", "run.log", "other.txt"):
        (tmp_path / name).write_text("x")
    made = page(result, tmp_path)
    for name in ("summary.png", "summary.pdf", "run.log"):
        assert f'<a href="{name}">{breakable(name)}</a>' in made
    assert "other.txt" not in made


def test_a_near_field_whose_side_is_that_of_no_network_has_its_report(tmp_path: Path) -> None:
    near = ptycho.simulate(fresnel_number=0.3, probe="diffuser", N=48, shape=(96, 96), step=9.0, photons=1e6, seed=1)
    made = page(
        measured_reconstruction(refine_scan(near, iterations=1, dtype=np.float32), near, ON_HOST), tmp_path, near
    )
    assert "Mean pattern" in made

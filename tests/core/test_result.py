"""Results are equal by value, short in print, and can be pickled, changed, drawn and written."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from ptycho.core.doctor.findings import Diagnosis, Finding
from ptycho.core.geometry import ObjectFrame
from ptycho.core.quality.comparison import PlacedObject, compare
from ptycho.core.quality.trust import Trust
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.result import reconstruction_of
from ptycho.core.result import PICTURES, WRITERS
from ptycho.errors import ConfigError
from ptycho.figures import drawing
from ptycho.figures.results import figure_of
from ptycho.raw_data import RawData
from ptycho.workflows.outputs import save_result
from ptycho.workflows.report import write_report

SIZE, N = 40, 16


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "DPI", 30)


@pytest.fixture
def refinement(rng: np.random.Generator) -> Refinement:
    probe = np.zeros((1, N, N), np.complex64)
    probe[0, N // 2, N // 2] = 3
    return Refinement(
        object=(rng.normal(1, 0.1, (SIZE, SIZE)) * np.exp(0.5j)).astype(np.complex64),
        probe=probe,
        xcoords=np.array([10.0, 20.0, 20.0]),
        ycoords=np.array([12.0, 12.0, 22.5]),
        frame=ObjectFrame(SIZE, SIZE, -1, 2),
        flux=np.array([1.0, 1.25, 0.75]),
        background=np.zeros((N, N)),
        error_history=(0.5, 0.1, 0.2),
        unseen_history=(),
        kept=1,
        restarts=0,
        iterations=2,
        seconds=0.5,
        stopped="the 2 iterations are done",
        engine="pytorch",
    )


@pytest.fixture
def results(refinement: Refinement, rng: np.random.Generator) -> dict[str, Any]:
    trust = Trust(*rng.uniform(1, 2, (7, 3)), dose="stated")
    spread = np.full((SIZE, SIZE), np.nan, np.float32)
    found = replace(reconstruction_of(refinement, trust), spread=spread)
    other = PlacedObject("b", refinement.object + rng.normal(0, 0.01, (SIZE, SIZE)))
    diagnosis = Diagnosis((Finding("dose", "ok", "Fine."), Finding("order", "warning", "Shuffled <b>?", {"k": 1.0})))
    return {
        "refinement": refinement,
        "trust": trust,
        "reconstruction": found,
        "comparison": compare(PlacedObject("a", refinement.object), other),
        "diagnosis": diagnosis,
    }


NAMES = ["refinement", "trust", "reconstruction", "comparison", "diagnosis"]


@pytest.mark.parametrize("name", NAMES)
def test_equality_is_by_value(name: str, results: dict[str, Any]) -> None:
    found = results[name]
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert again == found and replace(found) == found
    assert found != "something else" and found != results[NAMES[NAMES.index(name) - 1]]
    with pytest.raises(TypeError, match="unhashable"):
        hash(found)


def test_one_pixel_makes_a_difference(results: dict[str, Any]) -> None:
    found = results["reconstruction"]
    image = found.object.copy()
    image[3, 4] += np.float32(1e-3)
    assert replace(found, object=image) != found
    assert replace(found, spread=None) != found
    assert replace(found, backend="tensorflow") != found


@pytest.mark.parametrize("name", NAMES)
def test_print_is_short(name: str, results: dict[str, Any]) -> None:
    text = repr(results[name])
    assert text.startswith(type(results[name]).__name__ + "(") and len(text) < 320 and text.count("\n") < 3


def test_print_says_what_matters(results: dict[str, Any]) -> None:
    text = repr(results["reconstruction"])
    assert text.startswith("Reconstruction(refined by pytorch, object 40 x 40, 3 positions, N=16, 1 probe mode,")
    assert f"trust: {results['trust'].grade}, " in text
    assert "relative error 0.5 -> 0.1, 2 iterations in 0.5 s" in repr(results["refinement"])
    assert repr(results["diagnosis"]) == "Diagnosis(2 findings, 1 warning; order (warning))"


def test_a_scan_prints_its_shape(patterns: RawData) -> None:
    text = repr(patterns)
    assert text == "RawData(49 patterns of 64 x 64, float32 amplitude, 2 probe modes, object 116 x 116, masked)"


def test_a_print_decides_nothing(patterns: RawData) -> None:
    scan = RawData(patterns.xcoords, patterns.ycoords, None, None, patterns.diff3d, patterns.probeGuess)
    assert "(units not looked at yet)" in repr(scan)
    assert scan._decision is None


def test_diagnosis_prints_sentences(results: dict[str, Any]) -> None:
    assert str(results["diagnosis"]) == "ok        dose: Fine.\nWARNING   order: Shuffled <b>?\nscan: 1 warning.\n"
    assert "Shuffled &lt;b&gt;?" in results["diagnosis"]._repr_html_()


def test_amplitude_and_phase(refinement: Refinement) -> None:
    np.testing.assert_array_equal(refinement.amplitude, np.abs(refinement.object))
    np.testing.assert_allclose(refinement.phase, 0.5, rtol=1e-5)


def test_coverage_is_the_light_of_the_probe(refinement: Refinement) -> None:
    """A probe of one pixel lights the pixel of each position; one between two rows lights half of each."""
    found = reconstruction_of(refinement)
    expected = np.zeros((SIZE, SIZE))
    expected[12, 10] = expected[12, 20] = 9
    expected[22, 20] = expected[23, 20] = 4.5
    np.testing.assert_allclose(found.coverage, expected, atol=1e-5)
    lit = expected > 0
    np.testing.assert_array_equal(found.object[lit], refinement.object[lit])
    np.testing.assert_array_equal(found.object[~lit], 1)
    assert found.error_history == (0.5, 0.1) and found.method == "refined"


@pytest.mark.parametrize("name", ["refinement", "reconstruction", "comparison"])
def test_pictures_leave_pyplot_alone(name: str, results: dict[str, Any]) -> None:
    assert isinstance(results[name].plot(), Figure)
    assert results[name]._repr_png_().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == []


def test_a_scan_has_a_picture(patterns: RawData) -> None:
    assert patterns._repr_png_().startswith(b"\x89PNG")


def test_a_number_has_no_picture() -> None:
    with pytest.raises(TypeError, match="found int"):
        figure_of(3)


@pytest.mark.parametrize("name", ["refinement", "reconstruction"])
def test_saved_and_read_back(name: str, results: dict[str, Any], tmp_path: Path) -> None:
    from ptycho.api.results import load_reconstruction

    kept = results[name] if name == "reconstruction" else reconstruction_of(results[name])
    assert results[name].save(str(tmp_path / "a.npz")) == tmp_path / "a.npz"
    assert load_reconstruction(tmp_path / "a.npz") == kept
    assert results[name].save(tmp_path / "a.h5").read_bytes()[1:4] == b"HDF"
    folder = results[name].save(tmp_path / "all")
    assert load_reconstruction(folder) == kept
    assert {"summary.png", "reconstruction.h5", "report.html"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["refinement", "reconstruction"])
def test_a_report_is_written_where_it_is_asked_for(name: str, results: dict[str, Any], tmp_path: Path) -> None:
    page = results[name].report(tmp_path / "a.html", compare=results[name].save(tmp_path / "a.npz"))
    assert page == tmp_path / "a.html"
    assert "With a.npz" in page.read_text(encoding="utf-8")


def test_another_suffix_is_refused(refinement: Refinement, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected .npz, .h5, .hdf5 or a folder, found the suffix .tif"):
        refinement.save(tmp_path / "a.tif")
    assert list(tmp_path.iterdir()) == []


def test_a_scan_is_saved(patterns: RawData, tmp_path: Path) -> None:
    again = RawData.from_file(patterns.save(tmp_path / "scan.npz"))
    np.testing.assert_array_equal(again.diff3d, patterns.diff3d)


def test_the_rooms_that_draw_and_write_are_where_results_look_for_them() -> None:
    made: list[tuple[str, Callable[..., Any]]] = [(PICTURES, figure_of), (WRITERS, save_result)]
    assert import_module(WRITERS).write_report is write_report
    assert all(function.__module__ == module for module, function in made)

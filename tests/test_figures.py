"""Pictures show what they should, in the right place, twice the same, and leave no trace in the process."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.products import Reconstruction, read_npz
from ptycho.errors import DataError, OutputError
from ptycho.figures import save_amplitude_png, save_phase_png, save_summary_png
from ptycho.workflows.outputs import save_outputs, save_reconstruction

HEIGHT, WIDTH, N = 20, 30, 8
HATCHED = np.array([0xD5, 0xD9, 0xE0])


@pytest.fixture(autouse=True)
def _no_warnings() -> None:
    warnings.simplefilter("error")


@pytest.fixture
def result(rng: np.random.Generator) -> Reconstruction:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    object = (0.8 + 0.01 * x) * np.exp(1j * (0.02 * y + 3.1))
    coverage = np.zeros((HEIGHT, WIDTH))
    coverage[2:-2, 3:-3] = 4.0
    return Reconstruction(
        object=object.astype(np.complex64),
        coverage=coverage.astype(np.float32),
        probe=np.exp(1j * rng.normal(size=(2, N, N))).astype(np.complex64),
        xcoords=rng.uniform(7, 23, 12),
        ycoords=rng.uniform(6, 14, 12),
        frame=ObjectFrame(height=HEIGHT, width=WIDTH, x0=4, y0=-2),
        backend="pytorch",
        method="network+refined",
        subpixel="fourier",
        network_object=(object + 0.1 * rng.normal(size=object.shape)).astype(np.complex64),
        error_history=(0.3, 0.1, 0.05),
        timings={"inference": 0.5},
        synchronised=True,
        agreement=(0.9, 0.99),
    )


@pytest.fixture
def plain(result: Reconstruction) -> Reconstruction:
    return replace(result, method="network", network_object=None, error_history=())


def pixels(path: Path) -> np.ndarray:
    """Return a picture as (rows, columns, RGB) of 0..255."""
    return (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)


def inside(path: Path) -> np.ndarray:
    """Return the part of a picture that lies inside the frame of its first axes."""
    picture = pixels(path)
    black = (picture < 40).all(axis=2)
    rows = np.flatnonzero(black.mean(axis=1) > 0.5)
    columns = np.flatnonzero(black[rows[0] : rows[-1]].mean(axis=0) > 0.9)
    return picture[rows[0] + 3 : rows[-1] - 2, columns[0] + 3 : columns[columns < 0.85 * black.shape[1]][-1] - 2]


def near(picture: np.ndarray, colour: np.ndarray, margin: int = 25) -> np.ndarray:
    return (np.abs(picture - colour) <= margin).all(axis=2)


def test_covered_pixels_are_grey_and_the_others_hatched(tmp_path: Path) -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    coverage = ((x >= 6) & (x < 24) & (y >= 5)).astype(float)
    object = np.where(coverage > 0, np.where(x < 15, 0.2, 0.9), 50.0) + 0j
    picture = inside(save_amplitude_png(object, coverage, tmp_path / "a.png"))
    rows, columns = picture.shape[:2]

    def part(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        scale_y, scale_x = rows / HEIGHT, columns / WIDTH
        return picture[
            int((y0 + 0.5) * scale_y) : int((y1 - 0.5) * scale_y), int((x0 + 0.5) * scale_x) : int((x1 - 0.5) * scale_x)
        ]

    assert (part(5, HEIGHT, 6, 15) == 0).all()
    assert (part(5, HEIGHT, 15, 24) == 255).all()
    for hatched in (part(0, 5, 0, WIDTH), part(0, HEIGHT, 0, 6), part(0, HEIGHT, 24, WIDTH)):
        assert near(hatched, HATCHED).all()


def test_range_is_robust_against_a_few_wild_pixels(tmp_path: Path, rng: np.random.Generator) -> None:
    object = rng.uniform(0.5, 1.0, (60, 60)) + 0j
    calm = inside(save_amplitude_png(object, np.ones((60, 60)), tmp_path / "calm.png"))
    object[10, 10] = 1e6
    wild = inside(save_amplitude_png(object, np.ones((60, 60)), tmp_path / "wild.png"))
    assert abs(calm.mean() - wild.mean()) < 2
    assert calm.std() > 50


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_not_numbers_are_hatched(tmp_path: Path, bad: float) -> None:
    object = np.ones((10, 10), complex)
    object[:, 5:] = bad
    for save in (save_amplitude_png, save_phase_png):
        picture = inside(save(object, np.ones((10, 10)), tmp_path / "a.png"))
        assert near(picture, HATCHED)[:, int(0.6 * picture.shape[1]) :].all()
        assert not near(picture, HATCHED)[:, : int(0.4 * picture.shape[1])].any()


def test_global_phase_does_not_change_the_phase_picture(tmp_path: Path, result: Reconstruction) -> None:
    """A ramp of 0.4 rad around 3.1 rad wraps; with the global phase removed it looks like that around 0."""
    turned = result.object * np.exp(-3.1j).astype(np.complex64)
    wrapped = inside(save_phase_png(result.object, result.coverage, tmp_path / "wrapped.png"))
    smooth = inside(save_phase_png(turned, result.coverage, tmp_path / "smooth.png"))
    assert np.abs(wrapped - smooth).max() <= 2


def test_weighted_mean_decides_the_global_phase(tmp_path: Path) -> None:
    """Pixels with little coverage do not shift the colours of the others."""
    object = np.exp(1j * np.where(np.arange(100) < 50, 0.0, 1.0))[None, :].repeat(20, axis=0)
    weights = np.where(np.arange(100) < 50, 1.0, 0.01)[None, :].repeat(20, axis=0)
    from ptycho.figures import _centred_phase, _seen

    phase, removed = _centred_phase(object, weights, _seen(object, weights))
    assert removed == pytest.approx(np.angle(1 + 0.01 * np.exp(1j)), abs=1e-12)
    np.testing.assert_allclose(phase[0, [0, 99]], [-removed, 1 - removed], atol=1e-12)


def test_phase_that_fills_the_circle_has_a_cyclic_map(tmp_path: Path) -> None:
    object = np.exp(2j * np.pi * np.arange(200) / 100)[None, :].repeat(100, axis=0)
    picture = inside(save_phase_png(object, np.ones(object.shape), tmp_path / "p.png"))
    line, middle = picture[picture.shape[0] // 2], picture.shape[1] // 2
    np.testing.assert_allclose(line[: middle - 8], line[middle : 2 * middle - 8], atol=12)
    assert np.abs(np.diff(line, axis=0)).max() < 25  # no jump where the phase wraps


@pytest.mark.parametrize("shape", [(1, 1), (3, 300), (300, 3)])
def test_flat_uncovered_and_odd_shapes_are_drawn(tmp_path: Path, shape: tuple[int, int]) -> None:
    for coverage in (np.ones(shape), np.zeros(shape)):
        for save in (save_amplitude_png, save_phase_png):
            picture = pixels(save(np.ones(shape, np.complex64), coverage, tmp_path / "a.png"))
            assert picture.std() > 5


def test_large_objects_keep_their_pixels(tmp_path: Path) -> None:
    path = save_amplitude_png(np.ones((40, 1600), np.complex64), np.ones((40, 1600)), tmp_path / "a.png")
    assert pixels(path).shape[1] >= 1600


@pytest.mark.parametrize("kind", ["result", "plain"])
def test_summary_is_drawn_the_same_twice(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    shown: Reconstruction = request.getfixturevalue(kind)
    first, second = (save_summary_png(shown, tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_summary_with_truth_and_patterns_has_more_panels(
    tmp_path: Path, result: Reconstruction, rng: np.random.Generator
) -> None:
    patterns = rng.poisson(4.0, (12, N, N)).astype(np.float32)
    small = pixels(save_summary_png(result, tmp_path / "a.png"))
    large = pixels(
        save_summary_png(result, tmp_path / "b.png", truth=np.ones((25, 40), np.complex64), patterns=patterns)
    )
    assert small.shape != large.shape


def test_truth_is_laid_into_the_frame() -> None:
    from ptycho.figures import _in_frame

    truth = np.arange(12.0).reshape(3, 4) + 0j
    cut = _in_frame(truth, ObjectFrame(height=3, width=3, x0=2, y0=-1))
    np.testing.assert_array_equal(cut.real, [[np.nan] * 3, [2, 3, np.nan], [6, 7, np.nan]])
    assert np.isnan(_in_frame(truth, ObjectFrame(height=2, width=2, x0=9, y0=-9))).all()


def test_wrong_shapes_are_named(tmp_path: Path, result: Reconstruction) -> None:
    with pytest.raises(DataError, match=r"expected one shape \(H, W\), found \(2, 3\) and \(3, 2\)"):
        save_amplitude_png(np.ones((2, 3), complex), np.ones((3, 2)), tmp_path / "a.png")
    with pytest.raises(DataError, match=r"patterns: expected amplitudes of shape \(n, N, N\), found \(8, 8\)"):
        save_summary_png(result, tmp_path / "a.png", patterns=np.ones((N, N)))
    with pytest.raises(DataError, match=r"truth: expected an object of shape \(H, W\), found \(1, 2, 2\)"):
        save_summary_png(result, tmp_path / "a.png", truth=np.ones((1, 2, 2), complex))
    with pytest.raises(OutputError, match="expected the folder"):
        save_phase_png(result.object, result.coverage, tmp_path / "gone" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_settings_of_the_user_are_neither_used_nor_changed(tmp_path: Path, result: Reconstruction) -> None:
    first = save_amplitude_png(result.object, result.coverage, tmp_path / "a.png").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "figure.facecolor": "red", "image.cmap": "jet"}):
        before = dict(matplotlib.rcParams)
        assert save_amplitude_png(result.object, result.coverage, tmp_path / "b.png").read_bytes() == first
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from ptycho.workflows.outputs import save_outputs\n"
        "save_outputs(np.ones((4, 5)), np.zeros((4, 5)), None, sys.argv[1])\n"
        "assert not {'matplotlib.pyplot', 'torch', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=True)


def test_save_reconstruction_writes_every_file(tmp_path: Path, result: Reconstruction) -> None:
    paths = save_reconstruction(result, tmp_path / "run" / "out")
    names = {
        *("reconstructed_amplitude.png", "reconstructed_phase.png", "summary.png", "network_amplitude.png"),
        *("network_phase.png", "reconstruction.npz", "reconstruction.h5"),
    }
    assert {path.name for path in paths} == names
    assert {path.name for path in (tmp_path / "run" / "out").iterdir()} == names
    np.testing.assert_array_equal(read_npz(tmp_path / "run" / "out" / "reconstruction.npz").object, result.object)


def test_save_outputs_of_a_reconstruction_and_of_nothing(tmp_path: Path, plain: Reconstruction) -> None:
    paths = save_outputs(None, None, {"reconstruction": plain}, str(tmp_path / "a"))
    assert len(paths) == len(list((tmp_path / "a").iterdir())) == 5
    for results in ({}, None, {"reconstruction": None}):
        assert save_outputs(None, None, results, str(tmp_path / "b")) == []
    assert list((tmp_path / "b").iterdir()) == []


def test_save_outputs_of_arrays(tmp_path: Path) -> None:
    amp, phase = np.ones((1, 6, 9, 1), np.float32), np.linspace(0, 1, 54).reshape(6, 9)
    paths = save_outputs(amp, phase, {"history": {}}, str(tmp_path))
    assert [path.name for path in paths] == ["reconstructed_amplitude.png", "reconstructed_phase.png"]
    assert [path.name for path in save_outputs(None, phase, {}, tmp_path)] == ["reconstructed_phase.png"]
    with pytest.raises(DataError, match=r"amp: expected real numbers of shape \(H, W\), found .* \(2, 6, 9\)"):
        save_outputs(np.ones((2, 6, 9)), None, {}, tmp_path)
    with pytest.raises(DataError, match=r"phase: expected real numbers .* found complex128"):
        save_outputs(None, np.ones((6, 9), complex), {}, tmp_path)

"""Pictures show what they should, twice the same, and leave no trace in the process."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.errors import DataError, OutputError
from ptycho.figures import drawing
from ptycho.figures import reconstruction as figures
from ptycho.figures import trust as trust_figure
from ptycho.figures.reconstruction import save_amplitude_png, save_phase_png, save_summary_png
from ptycho.figures.trust import save_trust_png
from ptycho.workflows.outputs import save_outputs, save_reconstruction

HEIGHT, WIDTH, N = 20, 30, 8

pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated(,| -) use:DeprecationWarning")
"""Old releases of Matplotlib call what new ones of pyparsing have renamed."""


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "DPI", 40)  # a fifteenth of the pixels: the tests stay quick


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """Collect figures in place of writing them."""
    kept: list[Figure] = []

    def keep(figure: Figure, path: Path, pdf: bool = False) -> Path:
        kept.append(figure)
        return path

    for module in (figures, trust_figure):
        monkeypatch.setattr(module, "save_figure", keep)
    return kept


@pytest.fixture
def result(rng: np.random.Generator) -> Reconstruction:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    object = (0.8 + 0.01 * x) * np.exp(1j * (0.02 * y + 3.1))
    coverage = np.zeros((HEIGHT, WIDTH), np.float32)
    coverage[2:-2, 3:-3] = 4.0
    return Reconstruction(
        object=object.astype(np.complex64),
        coverage=coverage,
        probe=np.stack([np.full((N, N), 3.0), np.full((N, N), 1.0)]).astype(np.complex64),
        xcoords=rng.uniform(7, 23, 12),
        ycoords=rng.uniform(6, 14, 12),
        frame=ObjectFrame(height=HEIGHT, width=WIDTH, x0=4, y0=-2),
        backend="pytorch",
        method="network+refined",
        subpixel="fourier",
        network_object=(object * 3).astype(np.complex64),
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


def panels(figure: Figure) -> dict[str, matplotlib.axes.Axes]:
    """Return the axes of a sheet by title."""
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def test_amplitude_is_shown_where_covered_and_finite(drawn: list[Figure]) -> None:
    object = np.array([[1, 2j, 3], [4, np.nan, 6]], complex)
    save_amplitude_png(object, np.array([[1, 1, 1e-4], [0, 1, 1]]), Path("a.png"))
    image = drawn[0].axes[0].images[0]
    shown = image.get_array()
    assert shown.mask.tolist() == [[False, False, True], [True, True, False]]
    assert shown.compressed().tolist() == [1, 2, 6]
    assert image.cmap.name == "gray"
    assert image.origin == "upper"
    assert tuple(image.get_extent()) == (-0.5, 2.5, 1.5, -0.5)
    axes = drawn[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (pixels)", "y (pixels)")
    assert axes.get_title() == "Amplitude: 3 × 2 pixels, 50 % covered, median 2"
    assert image.colorbar.ax.get_ylabel() == "amplitude"


def test_uncovered_pixels_are_hatched_in_the_picture(tmp_path: Path) -> None:
    def hatched(covered_columns: int) -> float:
        """Of a picture whose columns are covered, all up to that one and the last."""
        coverage = np.repeat((np.arange(10) < covered_columns)[None], 10, axis=0).astype(float)
        coverage[:, -1] = covered_columns > 0
        object = np.where(coverage > 0, 0.5, 50.0) + 0j
        path = save_amplitude_png(object, coverage, tmp_path / "a.png")
        return float((np.abs(pixels(path) - [0xD5, 0xD9, 0xE0]) <= 25).all(axis=2).mean())

    whole, none = hatched(0), hatched(10)
    assert whole > 0.5
    assert (hatched(6) - none) / (whole - none) == pytest.approx(0.3, abs=0.02)


def test_range_is_robust_against_a_few_wild_pixels(drawn: list[Figure], rng: np.random.Generator) -> None:
    object = rng.uniform(0.5, 1.0, (60, 60)) + 0j
    object[10, 10:20] = 1e6
    coverage = np.ones((60, 60))
    object[30:, :5], coverage[30:, :5] = 100.0, 0.0
    save_amplitude_png(object, coverage, Path("a.png"))
    image = drawn[0].axes[0].images[0]
    assert image.get_clim() == pytest.approx((0.505, 0.995), abs=0.01)
    assert image.colorbar.extend == "both"


def test_what_hardly_any_light_fell_on_sets_neither_colours_nor_crop(drawn: list[Figure]) -> None:
    object, coverage = np.full((40, 50), 0.5 + 0j), np.zeros((40, 50))
    coverage[5:35, 5:45], coverage[10:30, 12:40] = 0.04, 1.0
    coverage[20, 20] = 60.0  # a beam that stood still does not darken the rest
    object[coverage == 0.04] = 9.0
    save_amplitude_png(object, coverage, Path("a.png"), 2e-8)
    axes = drawn[0].axes[0]
    assert (axes.images[0].get_array().mask == (coverage < 1)).all()
    assert axes.images[0].get_clim() == pytest.approx((0.475, 0.525))
    coverage[10:14, 12:40], object[10:14, 12:40] = 0.2, 3.0  # shown, but too noisy for the colours
    save_amplitude_png(object, coverage, Path("b.png"), 2e-8)
    assert not drawn[1].axes[0].images[0].get_array().mask[10:30, 12:40].any()
    assert drawn[1].axes[0].images[0].get_clim() == pytest.approx((0.475, 0.525))
    assert (axes.get_xlim(), axes.get_ylim()) == ((9.5, 41.5), (31.5, 7.5))  # 2 pixels around rows 10-29, columns 12-39
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (nm)", "y (nm)")
    ticks = [tick for tick in axes.get_xticks() if 10 <= tick <= 41]
    assert ticks == pytest.approx([10, 20, 30, 40])
    assert axes.xaxis.get_major_formatter()(20, None) == "400"


@pytest.mark.slow
def test_a_pdf_comes_beside_the_png_where_it_is_asked_for(tmp_path: Path, result: Reconstruction) -> None:
    save_summary_png(result, tmp_path / "plain.png")
    save_summary_png(result, tmp_path / "s.png", pdf=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.png", "s.pdf", "s.png"]
    first = (tmp_path / "s.pdf").read_bytes()
    save_summary_png(result, tmp_path / "s.png", pdf=True)
    assert first.startswith(b"%PDF") and (tmp_path / "s.pdf").read_bytes() == first


def test_a_flat_object_is_shown_flat(drawn: list[Figure], rng: np.random.Generator) -> None:
    object = np.exp(1j * 1e-7 * rng.normal(size=(9, 9))) * 2
    for save in (save_amplitude_png, save_phase_png):
        save(object.astype(np.complex64), np.ones((9, 9)), Path("a.png"))
    amplitude, phase = (figure.axes[0].images[0].get_clim() for figure in drawn)
    assert amplitude == pytest.approx((1.9, 2.1), rel=1e-5)
    assert phase == pytest.approx((-0.05, 0.05), abs=1e-5)


def test_plane_and_global_phase_are_removed(drawn: list[Figure]) -> None:
    """A bump on a steep plane around 3.1 rad would wrap; the plane goes and the weighted mean is put to 0."""
    y, x = np.mgrid[:24, :31]
    bump = 0.3 * np.exp(-((x - 15) ** 2 + (y - 12) ** 2) / 8)
    object = 0.7 * np.exp(1j * (bump + 3.1 + 2 * np.pi * (0.021 * x - 0.034 * y)))
    save_phase_png(object, np.ones(object.shape), Path("p.png"))
    shown = drawn[0].axes[0].images[0].get_array()
    assert np.std(shown - bump) < 0.02
    assert np.angle(np.sum(np.exp(1j * shown))) == pytest.approx(0, abs=1e-6)
    assert re.search(r"slopes of 2[01]\.\d+ and −3[34]\.\d+ mcycles/pixel removed$", drawn[0].axes[0].get_title())
    assert drawn[0].axes[0].images[0].colorbar.ax.get_ylabel() == "phase (rad)"


def test_coverage_weights_the_global_phase(drawn: list[Figure]) -> None:
    phase = np.array([[0.0, 1.0, 0.0]])  # symmetric: no plane
    save_phase_png(np.exp(1j * phase), np.array([[1.0, 0.06, 1.0]]), Path("p.png"))
    mean = np.angle(2 + 0.06 * np.exp(1j))
    np.testing.assert_allclose(drawn[0].axes[0].images[0].get_array(), phase - mean, atol=1e-5)


@pytest.mark.parametrize(("turns", "colours"), [(0.5, "viridis"), (1.0, "twilight_shifted")])
def test_phase_that_fills_the_circle_has_a_cyclic_map(drawn: list[Figure], turns: float, colours: str) -> None:
    object = np.exp(2j * np.pi * turns * np.random.default_rng(0).permutation(100) / 100)[None]
    save_phase_png(object, np.ones(object.shape), Path("p.png"))
    image = drawn[0].axes[0].images[0]
    assert image.cmap.name == colours
    assert (image.get_clim() == (-np.pi, np.pi)) is (turns == 1.0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 300), (300, 3)])
def test_flat_uncovered_and_odd_shapes_are_drawn(tmp_path: Path, shape: tuple[int, int]) -> None:
    object = np.ones(shape, np.complex64)
    assert pixels(save_amplitude_png(object, np.ones(shape), tmp_path / "a.png")).std() > 5
    assert pixels(save_phase_png(object, np.zeros(shape), tmp_path / "p.png")).std() > 5


def test_large_objects_keep_their_pixels(tmp_path: Path) -> None:
    path = save_amplitude_png(np.ones((40, 1600), np.complex64), np.ones((40, 1600)), tmp_path / "a.png")
    assert pixels(path).shape[1] >= 1600


def test_summary_of_a_refined_result(drawn: list[Figure], result: Reconstruction) -> None:
    truth, patterns = np.ones((25, 40), np.complex64), np.full((300, N, N), 2.0, np.float32)
    patterns[0, 3, 5] = 0.0
    save_summary_png(result, Path("s.png"), truth=truth, patterns=patterns)
    axes = panels(drawn[0])
    kinds = [f"{kind}, {name}" for kind in ("Amplitude", "Phase") for name in ("network", "refined", "truth")]
    overview = ["Scan positions over the coverage", "Mean pattern", "Probe, strongest mode (90 %)"]
    assert list(axes) == [*overview, "Error of amplitudes: 0.3 to 0.05", *kinds]
    mean = axes["Mean pattern"].images[0]
    assert mean.get_array()[0, 0] == 4.0
    assert mean.get_array()[3, 5] == pytest.approx(4.0 * 299 / 300)
    assert tuple(mean.get_extent()) == (-4.5, 3.5, 3.5, -4.5)
    scan = axes["Scan positions over the coverage"].lines[-1]
    np.testing.assert_array_equal(scan.get_xdata(), result.xcoords)
    np.testing.assert_array_equal(scan.get_ydata(), result.ycoords)
    np.testing.assert_allclose(axes["Error of amplitudes: 0.3 to 0.05"].lines[0].get_ydata(), [0.3, 0.1, 0.05])
    limits = {axes[kind].images[0].get_clim() for kind in kinds[:3]}
    assert len(limits) == 1
    assert max(limits)[1] < 1.2  # refined and true object set the scale, not the network, three times as bright
    assert "0.900 → 0.990 (phases synchronised)" in drawn[0].get_suptitle()


def test_summary_of_a_network_result(drawn: list[Figure], plain: Reconstruction) -> None:
    save_summary_png(plain, Path("s.png"))
    assert list(panels(drawn[0])) == [
        *("Scan positions over the coverage", "Probe, strongest mode (90 %)"),
        *("Amplitude, network", "Phase, network"),
    ]


def test_summary_of_several_scans(drawn: list[Figure], plain: Reconstruction) -> None:
    """The probe of each, by its name; of more than three those of three."""
    probes = ScanProbes(np.stack([plain.probe] * 3), np.arange(plain.xcoords.size) % 4)
    named = {"scans": ["a.npz", "b.npz", "c.npz", "d.npz"]}
    save_summary_png(replace(plain, variation=probes, metadata=named), Path("s.png"))
    shown = [title for title in panels(drawn[0]) if "Probe" in title]
    assert shown == [f"{name}.npz: Probe, strongest mode (90 %)" for name in "abc"]


def test_a_path_of_many_positions_is_not_drawn(
    drawn: list[Figure], plain: Reconstruction, rng: np.random.Generator
) -> None:
    for count, styles in ((5000, ["-", "None"]), (5001, ["None"])):
        x, y = rng.uniform(7, 23, count), rng.uniform(6, 14, count)
        save_summary_png(replace(plain, xcoords=x, ycoords=y), Path("unused"))
        lines = panels(drawn[-1])["Scan positions over the coverage"].lines
        assert [line.get_linestyle() for line in lines] == styles
    x, y = rng.uniform(7, 23, 40001), rng.uniform(6, 14, 40001)
    save_summary_png(replace(plain, xcoords=x, ycoords=y), Path("unused"))
    [points] = panels(drawn[-1])["Scan positions (1 in 3) over the coverage"].lines
    np.testing.assert_array_equal(points.get_xdata(), x[::3])


def test_summary_without_a_network(drawn: list[Figure], plain: Reconstruction) -> None:
    save_summary_png(replace(plain, method="refined", backend="numpy", error_history=(0.3, 0.05)), Path("s.png"))
    assert list(panels(drawn[0]))[-2:] == ["Amplitude, refined", "Phase, refined"]
    assert drawn[0].get_suptitle().startswith("refined, numpy")
    assert re.search(r"\d s\b", drawn[0].get_suptitle()) is None, "timings belong to the file"
    assert "overlap agreement" not in drawn[0].get_suptitle()
    save_summary_png(replace(plain, agreement=(float("nan"), float("nan"))), Path("s.png"))
    assert "nan" not in drawn[1].get_suptitle() and drawn[1].get_suptitle().startswith("network, pytorch")


def test_patterns_without_a_count_are_drawn(tmp_path: Path, plain: Reconstruction) -> None:
    empty = replace(plain, probe=np.zeros((1, N, N), np.complex64), coverage=np.zeros_like(plain.coverage))
    save_summary_png(empty, tmp_path / "s.png", patterns=np.zeros((2, N, N), np.float32))


def test_summary_is_the_same_twice(tmp_path: Path, plain: Reconstruction) -> None:
    first, second = (save_summary_png(plain, tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_truth_is_laid_into_the_frame(drawn: list[Figure], plain: Reconstruction) -> None:
    truth = np.zeros((30, 40), np.complex64)
    truth[1, 9] = 1.0  # row 3, column 5 of an object whose first pixel is at x0 = 4, y0 = -2
    save_summary_png(plain, Path("s.png"), truth=truth)
    shown = panels(drawn[0])["Amplitude, truth"].images[0].get_array()
    assert np.argwhere(shown.filled(0) > 0).tolist() == [[3, 5]]
    short = replace(plain, coverage=np.ones_like(plain.coverage))
    save_summary_png(short, Path("s.png"), truth=truth[:10, :20])
    covered = ~panels(drawn[1])["Amplitude, truth"].images[0].get_array().mask
    assert np.argwhere(covered).min(axis=0).tolist() == [2, 0]
    assert np.argwhere(covered).max(axis=0).tolist() == [11, 15]


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
    with matplotlib.rc_context({"font.size": 30, "figure.facecolor": "red", "image.origin": "lower"}):
        before = dict(matplotlib.rcParams)
        assert save_amplitude_png(result.object, result.coverage, tmp_path / "b.png").read_bytes() == first
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from ptycho.workflows.outputs import save_outputs\n"
        "save_outputs(np.ones((4, 5)), None, None, sys.argv[1])\n"
        "assert not {'matplotlib.pyplot', 'torch', 'tensorflow'} & set(sys.modules)\n"
    )
    ours = ("-W", "error::UserWarning", "-W", "ignore::DeprecationWarning")  # old releases of Matplotlib have theirs
    subprocess.run([sys.executable, *ours, "-c", code, str(tmp_path)], check=True)


@pytest.fixture
def trusted(result: Reconstruction) -> Reconstruction:
    """The 12 patterns at 5 times the deviance of noise, the third far worse."""
    each = np.full(12, 1000.0)
    ratio = np.full(12, 5.0) + 0.1 * np.arange(12) + 300 * (np.arange(12) == 2)
    trust = Trust(ratio * each, each, np.sqrt(2 * each), ratio * 250, each / 4, 100 * each, 1e4 * each, "stated")
    spread = np.where(result.coverage > 0, 0.04, np.nan).astype(np.float32)
    return replace(result, trust=trust, spread=spread)


def test_a_name_stands_beside_its_point_and_within_the_axes() -> None:
    axes = Figure().subplots()
    axes.set(xlim=(5.0, 15.0), ylim=(0.0, 1.0))
    for x in (5.0, 13.9, 14.1, 15.0):
        drawing.name_point(axes, str(x), (x, 0.5), 6, 2)
    assert [text.get_ha() for text in axes.texts] == ["left", "left", "right", "right"]
    assert [text.xyann for text in axes.texts] == [(6, 2), (6, 2), (-6, 2), (-6, 2)]


def test_the_trust_sheet_shows_verdict_maps_and_patterns(drawn: list[Figure], trusted: Reconstruction) -> None:
    save_trust_png(trusted, Path("t.png"))
    assert drawn[0].get_suptitle().replace("\n", " ") == trusted.trust.verdict[0].upper() + trusted.trust.verdict[1:]
    ratio, spread = (
        panels(drawn[0])[title]
        for title in (
            "Deviance / that of noise (1: explained, red: not)",
            "Spread of the network's overlapping patches",
        )
    )
    shown = ratio.images[0].get_array().compressed()
    assert shown.min() > 4.9 and shown.max() < 310
    low, high = ratio.images[0].get_clim()
    assert low * high == pytest.approx(1)  # 1 has the middle colour
    assert [text.get_text() for text in ratio.texts] == ["2"]
    ring = ratio.lines[-1]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (trusted.xcoords[2], trusted.ycoords[2])
    median = np.median(np.abs(trusted.network_object[trusted.coverage > 0]))
    np.testing.assert_allclose(spread.images[0].get_array().compressed(), 4 / median, rtol=1e-5)
    below = next(axes for axes in drawn[0].axes if axes.get_xlabel().startswith("pattern"))
    np.testing.assert_allclose(below.lines[0].get_ydata(), trusted.trust.ratio)
    assert below.get_ylim()[0] < 1 < below.get_ylim()[1]


def test_the_trust_sheet_without_a_spread(tmp_path: Path, trusted: Reconstruction) -> None:
    path = save_trust_png(replace(trusted, spread=None), tmp_path / "t.png")
    again = save_trust_png(replace(trusted, spread=None), tmp_path / "u.png")
    assert pixels(path).std() > 5 and path.read_bytes() == again.read_bytes()
    with pytest.raises(DataError, match="expected a reconstruction whose trust was measured"):
        save_trust_png(replace(trusted, trust=None), tmp_path / "v.png")


def test_the_trust_sheet_goes_with_the_trust(tmp_path: Path, trusted: Reconstruction) -> None:
    assert tmp_path / "trust.png" in save_reconstruction(trusted, tmp_path)


def test_save_reconstruction_writes_every_file(tmp_path: Path, result: Reconstruction) -> None:
    folder = tmp_path / "run" / "out"
    paths = save_reconstruction(result, folder)
    names = {
        *("reconstructed_amplitude.png", "reconstructed_phase.png", "summary.png", "network_amplitude.png"),
        *("network_phase.png", "reconstruction.npz", "reconstruction.h5", "report.html"),
    }
    assert set(paths) == set(folder.iterdir()) == {folder / name for name in names}
    np.testing.assert_array_equal(read_npz(folder / "reconstruction.npz").object, result.object)


def test_save_outputs_of_a_reconstruction_and_of_nothing(tmp_path: Path, plain: Reconstruction) -> None:
    paths = save_outputs(None, None, {"reconstruction": plain}, str(tmp_path / "a"))
    assert len(paths) == len(list((tmp_path / "a").iterdir())) == 6
    for results in ({}, None, {"reconstruction": None}):
        assert save_outputs(None, None, results, str(tmp_path / "b")) == []
    assert list((tmp_path / "b").iterdir()) == []


def test_save_outputs_of_arrays(tmp_path: Path, drawn: list[Figure]) -> None:
    amp, phase = np.full((1, 6, 9, 1), 2, np.float32), np.outer([0, 1, 0, 0, 1, 0], np.hanning(9))
    paths = save_outputs(amp, phase, {"history": {}}, str(tmp_path))
    assert [path.name for path in paths] == ["reconstructed_amplitude.png", "reconstructed_phase.png"]
    shown = [figure.axes[0].images[0].get_array() for figure in drawn]
    assert (shown[0] == 2).all()
    assert shown[0].shape == (6, 9)
    np.testing.assert_allclose(np.diff(shown[1].ravel()), np.diff(phase.ravel()), atol=1e-5)
    assert [path.name for path in save_outputs(None, phase, {}, tmp_path)] == ["reconstructed_phase.png"]
    with pytest.raises(DataError, match=r"amp: expected real numbers of shape \(H, W\), found .* \(2, 6, 9\)"):
        save_outputs(np.ones((2, 6, 9)), None, {}, tmp_path)
    with pytest.raises(DataError, match=r"phase: expected real numbers .* found complex128"):
        save_outputs(None, np.ones((6, 9), complex), {}, tmp_path)

"""Patterns of any detector become square, centred and of a fast side, and object times probe still predicts them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.quality.metrics import relative_fourier_error
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.run import refine_scan
from ptycho.core.scan.npz_file import write_scan
from ptycho.core.scan.scan import ScanFile, check_shapes, check_square
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.fit_detector import fit_stream, fitted
from ptycho.core.simulation.objects import make_object
from ptycho.core.simulation.plan import simulate_scan
from ptycho.core.simulation.scan_paths import raster_positions
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

ROWS = (slice(8, 96), slice(40, None))


def simulated(N: int, radius: float = 9, photons: float = 1e6) -> ScanFile:
    """Some twenty patterns whose light fades out before the detector ends."""
    object = make_object("smooth", (2 * N, 2 * N), np.random.default_rng(4))
    x, y = raster_positions((2 * N, 2 * N), N, N / 4, 2, np.random.default_rng(5))
    made = simulate_scan(
        object, zone_plate_probe(N, pupil_radius=radius, defocus=1.5), x, y, photons, np.random.default_rng(6)
    )
    known = {"object_pixel_size_m": 1e-8, "detector_pixel_size_m": 55e-6, "nphotons": photons}
    return ScanFile(
        made.diffraction,
        made.xcoords,
        made.ycoords,
        made.probe,
        objectGuess=made.object,
        Y=extract_rounded(made.object, made.xcoords, made.ycoords, N)[0],
        metadata=known,
        units="amplitude",
    )


@pytest.fixture(scope="module")
def scan() -> ScanFile:
    return simulated(104)


def misfit(scan: ScanFile) -> float:
    """Relative Fourier error of the scan's own object and probe."""
    check_shapes(scan)
    check_square(scan)
    assert scan.objectGuess is not None
    patches, dx, dy = extract_rounded(scan.objectGuess, scan.xcoords, scan.ycoords, scan.diff3d.shape[-1])
    predicted = np.sqrt(diffract(scan.probeGuess, patches, dx, dy))
    return relative_fourier_error(predicted, scan.diff3d.astype(float), scan.mask)


@pytest.mark.parametrize("N", [64, 100, 104])
def test_square_patterns_of_a_fast_side_are_left_as_they_are(N: int) -> None:
    scan = simulated(N)
    made, sentences = fitted(scan)
    assert made is scan
    assert sentences == ()


def test_the_smallest_fast_square_with_the_light_is_kept(scan: ScanFile) -> None:
    """Rows 8 to 96 of 104 are read out: the beam lies at row 52 - 8 = 44, the middle of them."""
    cut = replace(scan, diff3d=scan.diff3d[:, 8:96])
    made, (said,) = fitted(cut)
    side = made.diff3d.shape[-1]
    assert made.diff3d.shape[1:] == (side, side)
    low = 52 - side // 2
    np.testing.assert_array_equal(made.diff3d, scan.diff3d[:, low : low + side, low : low + side])
    lost = 1 - (made.diff3d.astype(float) ** 2).sum() / (scan.diff3d.astype(float) ** 2).sum()
    assert 0 < lost <= 1e-4
    assert re.fullmatch(rf"patterns of 88 x 104 pixels: {side} x {side} kept, [\d.e-]+ % of the light left out", said)
    assert np.shares_memory(made.diff3d, scan.diff3d)
    assert made.mask is None
    assert made.Y is not None
    assert made.Y.shape[1:] == (side, side)
    np.testing.assert_allclose(made.xcoords, scan.xcoords * side / 104)
    assert made.metadata == {**(scan.metadata or {}), "object_pixel_size_m": pytest.approx(1e-8 * 104 / side)}
    assert misfit(made) < 2 * misfit(scan)  # the photon noise
    brighter = simulated(104, photons=1e9)
    (whole, _), (cut, _) = (fitted(replace(brighter, diff3d=brighter.diff3d[:, rows])) for rows in ROWS)
    assert whole.diff3d.shape[1:] == cut.diff3d.shape[1:] == (104, 104)  # every pixel holds photons


def test_the_beam_is_followed_and_what_is_beyond_the_rim_is_masked(scan: ScanFile) -> None:
    """Of 104 rows the lowest 40 are missing: from the beam, at row 12, light reaches beyond row 0."""
    cut = replace(scan, diff3d=scan.diff3d[:, 40:])
    made, said = fitted(cut, crop=80)
    assert said[0].startswith("patterns of 64 x 104 pixels: 80 x 80 kept, 28 rows beyond the detector masked")
    assert said[1] == "the zero frequency is at row 12 and column 52 by the probe: moved to the middle"
    np.testing.assert_array_equal(made.diff3d[:, 28:], scan.diff3d[:, 40:92, 12:92])
    assert not made.diff3d[:, :28].any()
    assert made.mask is not None
    assert not made.mask[:28].any()
    assert made.mask[28:].all()
    assert misfit(made) < 2 * misfit(scan)
    stacked, _ = fitted(replace(cut, mask=np.ones(cut.diff3d.shape, bool)), crop=80)
    assert stacked.mask is not None
    np.testing.assert_array_equal(stacked.mask, np.broadcast_to(made.mask, stacked.mask.shape))


def test_a_probe_tells_which_detector_the_positions_belong_to(scan: ScanFile) -> None:
    """Light on 60 of 64 columns of a probe's 64 pixels: the positions stay what they are at 64 pixels."""
    small = simulated(64)
    made, _ = fitted(replace(small, diff3d=small.diff3d[:, :, :60]), crop=64)
    np.testing.assert_array_equal(made.xcoords, small.xcoords)
    np.testing.assert_array_equal(made.probeGuess, small.probeGuess)
    assert made.mask is not None
    assert not made.mask[:, 60:].any()
    assert made.mask[:, :60].all()


def test_a_probe_may_have_the_sides_of_the_patterns(scan: ScanFile) -> None:
    """Object pixels are oblong then: 104/88 times as high as wide."""
    spectrum = np.fft.fftshift(np.fft.fft2(scan.probeGuess, norm="ortho"))[8:96]
    probe = np.fft.ifft2(np.fft.ifftshift(spectrum), norm="ortho")
    oblong = replace(
        scan, diff3d=scan.diff3d[:, 8:96], probeGuess=probe, ycoords=scan.ycoords * 88 / 104, objectGuess=None, Y=None
    )
    made, _ = fitted(oblong, crop=88)
    expected, _ = fitted(scan, crop=88)
    np.testing.assert_allclose(made.ycoords, expected.ycoords)
    np.testing.assert_allclose(made.probeGuess, expected.probeGuess, atol=1e-4 * abs(expected.probeGuess).max())


@pytest.mark.parametrize(("given", "kept"), [({"sizes": (64, 128, 256)}, 128), ({"sizes": (32, 64)}, 64)])
def test_a_network_gets_the_nearest_size(scan: ScanFile, given: dict, kept: int) -> None:
    wide = simulated(104, radius=40)
    made, _ = fitted(wide, **given)
    assert made.diff3d.shape[1:] == (kept, kept)
    assert fitted(made, **given)[0] is made
    if kept == 128:
        assert made.mask is not None
        assert made.mask.sum() == 104**2
        assert misfit(made) < 1.1 * misfit(wide)


def test_bins_are_made_of_what_is_kept(scan: ScanFile) -> None:
    small = simulated(104, radius=9)
    made, said = fitted(small, crop=100, bin=2)
    assert made.diff3d.shape[1:] == (50, 50)
    assert said[1] == "2 x 2 detector pixels added up: patterns of 50 x 50 pixels"
    expected = (small.diff3d[:, 2:4, 2:4].astype(float) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(made.diff3d[:, 0, 0].astype(float) ** 2, expected, rtol=1e-5)
    assert fitted(small, bin=2)[0].diff3d.shape[1:] == (52, 52)
    assert made.metadata is not None
    assert made.metadata["detector_pixel_size_m"] == pytest.approx(110e-6)


@pytest.mark.parametrize("given", [{"crop": 33}, {"crop": 1000}, {"crop": 98, "bin": 4}, {"bin": 0}, {"crop": 0}])
def test_a_window_that_cannot_be_is_refused(scan: ScanFile, given: dict) -> None:
    with pytest.raises(ConfigError, match=r"(crop|bin): expected .*, found"):
        fitted(scan, **given)


def test_a_detector_that_is_lit_to_its_rim_is_not_widened_for_a_fast_length_alone() -> None:
    """515 = 5 x 103: 512 are kept; 62 x 90 lit all over needs its 90 columns."""
    even = ScanFile(np.ones((1, 515, 515), np.uint8), np.zeros(1), np.zeros(1), np.ones((515, 515), np.complex64))
    made, (said,) = fitted(even)
    assert made.diff3d.shape[1:] == (512, 512)
    assert "512 x 512 kept, 1.2 % of the light left out" in said
    oblong = ScanFile(np.ones((1, 62, 90), np.uint8), np.zeros(1), np.zeros(1), np.ones((90, 90), np.complex64))
    made, (said,) = fitted(oblong)
    assert made.diff3d.shape[1:] == (90, 90)
    assert "28 rows beyond the detector masked" in said


def test_a_hot_pixel_does_not_ask_for_a_larger_detector(scan: ScanFile) -> None:
    hot = scan.diff3d[:, 8:96].copy()
    hot[:, 2, 3] = 10 * hot.max()
    assert (
        fitted(replace(scan, diff3d=hot))[0].diff3d.shape
        == fitted(replace(scan, diff3d=scan.diff3d[:, 8:96]))[0].diff3d.shape
    )


def test_nothing_is_read_of_a_stream_but_what_is_looked_at(scan: ScanFile) -> None:
    cut = replace(scan, diff3d=scan.diff3d[:, 8:96])
    stream, said = fit_stream(ScanStream.of(cut))
    made, same = fitted(cut)
    assert said == same
    np.testing.assert_array_equal(stream.scan().diff3d, made.diff3d)


@pytest.mark.parametrize("memory_map", ["never", "always"])
def test_files_are_fitted_where_they_are_read(scan: ScanFile, memory_map, tmp_path: Path, caplog) -> None:
    write_scan(tmp_path / "cut.npz", replace(scan, diff3d=scan.diff3d[:, 40:]))
    with caplog.at_level("INFO"):
        data = RawData.from_file(tmp_path / "cut.npz", memory_map=memory_map)
    expected, said = fitted(replace(scan, diff3d=scan.diff3d[:, 40:]))
    np.testing.assert_array_equal(data.diff3d, expected.diff3d)
    for sentence in said:
        assert f"cut.npz: {sentence}" in caplog.messages
    assert data.identity.name == f"cut.npz, {'; '.join(said)}"
    assert data.identity == RawData.from_file(tmp_path / "cut.npz").identity
    networks = data.fitted(sizes=(64, 128))
    assert networks.N == 64
    assert networks.identity != data.identity
    assert networks.fitted(sizes=(64, 128)) is networks
    with pytest.raises(DataError, match=r"expected square patterns .*, found shape .*fit_detector"):
        RawData(scan.xcoords, scan.ycoords, None, None, scan.diff3d[:, 40:], scan.probeGuess)


def likeness(found: Refinement, truth: np.ndarray) -> float:
    """Correlation of an object with the truth over the middle of its frame, blind to a global phase."""
    frame = found.frame
    same = truth[frame.y0 : frame.y0 + frame.height, frame.x0 : frame.x0 + frame.width]
    middle = tuple(slice(side // 3, -(side // 3)) for side in same.shape)
    a, b = found.object[middle], same[middle]
    return float(abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("N", "rows"), [(100, slice(None)), (104, slice(None)), (104, ROWS[1])])
def test_the_solver_finds_the_object_on_any_detector(N: int, rows: slice) -> None:
    known = simulated(N)
    scan, _ = fitted(replace(known, diff3d=known.diff3d[:, rows]))
    data = RawData(**{"xcoords_start": None, "ycoords_start": None, **vars(scan)})
    found = refine_scan(data, iterations=10, refine_probe=False)
    assert scan.objectGuess is not None
    assert likeness(found, np.ones_like(scan.objectGuess)) < 0.97
    assert likeness(found, scan.objectGuess) > 0.992

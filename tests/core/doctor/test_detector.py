"""Hot pixels and the direct beam, wherever the zero frequency is."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.doctor import examine
from ptycho.core.doctor.detector import dead_pixels, faulty_pixels
from ptycho.core.doctor.findings import Diagnosis
from ptycho.core.doctor.statistics import gather
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan


@pytest.fixture(scope="module")
def wide_beam() -> ScanFile:
    """A flat beam of 30 pixels: its far field is a few pixels wide, the zero frequency far above its neighbours."""
    settings = {"kind": "lines", "N": 64, "shape": (110, 110), "step": 7, "photons": 1e6, "units": "counts", "seed": 3}
    plan = plan_scan(ScanSettings(probe="gaussian", probe_settings={"fwhm": 40.0}, **settings))  # type: ignore[arg-type]
    made = expose(*plan)
    return ScanFile(made.diffraction, made.xcoords, made.ycoords, made.probe, units="counts")


def examined(scan: ScanFile) -> Diagnosis:
    return examine(ScanStream.of(scan), reconstructions=False)


@pytest.mark.parametrize("probe", [True, False])
@pytest.mark.parametrize(("shift", "place"), [((32, 32), (0, 0)), ((20, -3), (52, 29)), ((0, 0), (32, 32))])
def test_the_direct_beam_is_no_hot_pixel_wherever_it_is(wide_beam, shift, place, probe) -> None:
    moved = np.roll(wide_beam.diff3d, shift, (1, 2))
    found = examined(replace(wide_beam, diff3d=moved, probeGuess=wide_beam.probeGuess if probe else None))
    hot, centre = found.named("hot pixels"), found.named("centre")
    assert hot.severity == "note"
    assert place in hot.numbers["direct_beam_y_x"]
    assert hot.sentence.startswith("The direct beam shows")
    assert centre.severity == ("fault" if any(shift) else "ok")
    assert ("fftshift" in centre.sentence) == (shift == (32, 32))


@pytest.mark.parametrize("shift", [(0, 0), (32, 32)])
def test_a_hot_pixel_in_the_corner_is_one_and_says_nothing_of_anything_else(wide_beam, shift) -> None:
    data = np.roll(wide_beam.diff3d, shift, (1, 2))
    place = (0, 1) if shift == (0, 0) else (32, 33)
    data[:, place[0], place[1]] = 400_000
    scan = replace(wide_beam, diff3d=data)
    found = examined(scan)
    assert "1 hot pixel, far above" in found.named("hot pixels").sentence
    assert f"the brightest at {list(place)}" in found.named("hot pixels").sentence
    assert found.named("hot pixels").severity == "fault"
    assert found.named("detector edge").severity == examined(wide_beam).named("detector edge").severity == "ok"
    assert np.argwhere(faulty_pixels(gather(ScanStream.of(scan)), scan)).tolist() == [list(place)]


def test_dead_pixels_are_judged_by_what_is_next_to_them() -> None:
    """A gap at the rim, one pixel among lit ones, and a dark corner that is dark by chance."""
    data = np.full((20, 16, 16), 5, np.uint16)
    data[:, 0:2] = data[:, 7, 9] = 0
    data[:, 10:, 10:] = 0
    data[3, 9:, 9:] = 0
    data[:, 9, 9:] = data[:, 9:, 9] = 0
    data[::7, 9, 9:] = 1
    data[::7, 9:, 9] = 1
    scan = ScanFile(data, np.arange(20.0), np.zeros(20), None, units="counts")
    dead = dead_pixels(gather(ScanStream.of(scan)))
    expected = np.zeros((16, 16), bool)
    expected[0:2] = expected[7, 9] = True
    np.testing.assert_array_equal(dead, expected)


def test_pixels_of_a_few_patterns_are_not_dead() -> None:
    """The zero of a speckle is no fault of the detector."""
    data = np.full((7, 16, 16), 5, np.uint16)
    data[:, 7, 9] = 0
    assert not dead_pixels(gather(ScanStream.of(ScanFile(data, np.arange(7.0), np.zeros(7), None)))).any()


def test_dark_pixels_of_which_a_background_was_subtracted_are_not_hot(rng: np.random.Generator) -> None:
    """Their mean is noise about 0; what was counted is far from it. One that shines is hot all the same."""
    lit = 40 * np.exp(-(np.hypot(*np.mgrid[-16:16, -16:16]) ** 2) / 40)
    lit[3, 4] = 30
    x = np.arange(60.0)
    counts = rng.poisson(lit + 9, (60, 32, 32)) - 9.2
    found = examined(ScanFile(counts.astype(np.float32), x, x, None, units="counts"))
    hot, numbers = found.named("hot pixels"), found.named("numbers")
    assert hot.numbers["pixels_y_x"] == [(3, 4)]
    assert numbers.severity == "note" and numbers.numbers["negative"] == 0
    assert numbers.numbers["added"] == pytest.approx(9, rel=0.25)

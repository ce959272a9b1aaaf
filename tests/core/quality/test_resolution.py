"""The resolution of two halves: found where it was planted, said in nm, and read back as it was written."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.quality.resolution import Resolution, read_resolution, resolution_csv, resolution_json
from ptycho.core.quality.ring_correlation import FrcCurve, frc
from ptycho.errors import DataError, MissingFileError

SIDE = 120


def halves(rng: np.random.Generator, cutoff: float, noise: float) -> FrcCurve:
    """Of an object without detail beyond `cutoff`, cycles per pixel, with independent noise in each half."""
    f = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
    white = rng.normal(size=(SIDE, SIDE)) + 1j * rng.normal(size=(SIDE, SIDE))
    image = np.fft.ifft2(np.where(f <= cutoff, np.fft.fft2(white), 0))
    noisy = (image + noise * (rng.normal(size=image.shape) + 1j * rng.normal(size=image.shape)) for _ in range(2))
    return frc(*noisy)


@pytest.mark.parametrize("cutoff", [0.11, 0.3])
def test_a_planted_low_pass_is_the_cut_off(rng: np.random.Generator, cutoff: float) -> None:
    found = Resolution(halves(rng, cutoff, 0.02), (60, 61), 2e-8)
    # the Hann window of `frc` spreads an edge over two rings, the mean of five by two more
    assert 0 <= found.cutoff - cutoff <= 4 / SIDE
    assert 0 <= found.cutoff_one_seventh - cutoff <= 4 / SIDE
    assert found.summary.startswith(
        f"a period of {20 / found.cutoff:.3g} nm, {1 / found.cutoff:.3g} pixels (half-bit; "
    )


def test_more_noise_is_less_resolution(rng: np.random.Generator) -> None:
    f = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
    image = np.fft.ifft2(
        np.fft.fft2(rng.normal(size=f.shape)) / (1e-3 + f**2)
    )  # falls with the frequency as objects do
    image /= np.std(image)
    cutoffs = [
        Resolution(frc(*(image + noise * rng.normal(size=f.shape) for _ in range(2))), (1, 1)).cutoff
        for noise in (0.03, 0.3, 3.0)
    ]
    assert cutoffs[0] > 1.5 * cutoffs[1] > 2 * cutoffs[2] > 0


def test_what_pixels_cannot_show_is_not_claimed() -> None:
    same = FrcCurve(np.arange(5) / 8, np.ones(5), np.array([1, 8, 12, 16, 30]))
    assert Resolution(same, (1, 1)).summary == "a period of 2 pixels, as fine as pixels show (half-bit and 1/7)"
    other = FrcCurve(same.frequency, -np.ones(5), same.n)
    assert Resolution(other, (1, 1), 1e-8).cutoff == 0.125  # the first ring that is looked at
    assert same.smoothed(3) == same  # a mean of ones


def test_a_ring_without_energy_is_not_the_end() -> None:
    correlation = np.where(np.arange(41) < 30, 0.9, 0.0)
    correlation[8] = -0.2
    found = Resolution(FrcCurve(np.arange(41) / 80, correlation, 6 * np.arange(41) + 1), (1, 1))
    assert found.curve.cutoff(found.curve.half_bit()) < 0.11
    assert found.cutoff == pytest.approx(30 / 80, abs=2 / 80)


def test_slow_changes_that_differ_are_said_and_are_not_the_end() -> None:
    correlation = np.where(np.arange(41) < 30, 0.9, 0.0)
    correlation[1:4] = -0.5
    found = Resolution(FrcCurve(np.arange(41) / 80, correlation, 6 * np.arange(41) + 1), (1, 1))
    assert found.slowest == 4 / 80
    assert found.cutoff == pytest.approx(30 / 80, abs=2 / 80)
    assert "(half-bit; " in found.summary
    assert found.summary.endswith(", but for changes over more than 20 pixels, which differ")
    correlation[1:12] = -0.5  # more of them are no slow changes alone
    assert replace(found, curve=replace(found.curve, correlation=correlation)).cutoff == 1 / 80


def test_it_is_read_back(rng: np.random.Generator, tmp_path) -> None:
    for pixel in (None, 2.5e-8):
        written = Resolution(halves(rng, 0.2, 0.1), (60, 61), pixel, None if pixel is None else "ab12")
        (tmp_path / "frc.json").write_text(resolution_json(written))
        assert read_resolution(tmp_path / "frc.json") == written
    stored = json.loads((tmp_path / "frc.json").read_text())
    assert stored["period_half_bit_m"] == pytest.approx(2.5e-8 / written.cutoff)
    rows = resolution_csv(written).splitlines()
    assert rows[0] == "cycles_per_pixel,cycles_per_nm,correlation,half_bit,pixels"
    assert len(rows) == 1 + len(written.curve.n)
    assert float(rows[-1].split(",")[1]) == pytest.approx(0.02)  # half a cycle in 25 nm


@pytest.mark.parametrize("text", ["{", "[]", '{"frequency": [0, 1], "correlation": [1], "n": [1, 2]}'])
def test_what_is_none_is_said_in_a_line(tmp_path, text: str) -> None:
    with pytest.raises(MissingFileError, match="run ptycho frc SCAN"):
        read_resolution(tmp_path / "gone.json")
    (tmp_path / "frc.json").write_text(text)
    with pytest.raises(DataError, match=r"expected a resolution \(frc.json\)"):
        read_resolution(tmp_path / "frc.json")

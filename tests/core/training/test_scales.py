"""Scales found otherwise than by the mean energy, what a group is brought to, and a probe without its ramp."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho.config.options import NEUTRAL_SCALES, ScaleOptions
from ptycho.core.physics.diffraction import diffract, far_field
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import disk_probe, orthogonal_modes, probe_ramp, without_ramp, zone_plate_probe
from ptycho.core.scaling import input_scale, intensity_scale, largest_amplitude
from ptycho.core.training.scales import GAIN_FLOOR, Scales, group_gain, input_scale_to_maximum, measure_scales
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

N = 64


def test_the_default_is_what_it_was() -> None:
    assert measure_scales(3.7, 1e5, N) == Scales(input_scale(3.7, N), intensity_scale(1e5, N), intensity_scale(1e5, N))
    assert measure_scales(3.7, 1e5, N).level == 1
    assert ScaleOptions("Parseval", "Batch", False, None) == NEUTRAL_SCALES
    assert measure_scales(3.7, 1e5, N, ScaleOptions(normalize="Group")) == measure_scales(3.7, 1e5, N)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data_scaling": "Mean"}, "data_scaling='Mean': expected one of Parseval, Max"),
        ({"normalize": None}, "normalize=None: expected one of Batch, Group, None"),
        ({"intensity_scale": 0.0}, "intensity_scale=0.0: expected a finite number above 0 or none"),
        ({"normalize": "None", "data_scaling": "Max"}, "data_scaling='Max': normalize='None' scales no data"),
    ],
)
def test_values_that_an_option_may_not_hold(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        ScaleOptions(**values)


@pytest.mark.parametrize("options", [ScaleOptions("Max"), ScaleOptions(normalize="None")])
def test_photons_and_energy_keep_their_meaning(options: ScaleOptions) -> None:
    """`s k A` is in the root of photons however k is found, and `level` says where |O_net| is."""
    probe = disk_probe(N, energy=900.0)
    brightest = float(np.abs(far_field(probe)).max())
    found = measure_scales(800.0, 1e6, N, options, largest=0.9 * brightest, probe=probe)
    assert (found.intensity_scale * found.input_scale) ** 2 * 800 == pytest.approx(1e6)
    assert found.input_scale**2 * 800 == pytest.approx((found.level * N / 2) ** 2)
    assert (found.intensity_scale * found.level * N / 2) ** 2 == pytest.approx(1e6)
    assert found.input_scale == pytest.approx(1.0 if options.normalize == "None" else 32 / 30 / 0.9)


def test_the_brightest_pixel_by_hand() -> None:
    # a flat probe of 2: energy 4 N^2, a = 1/4; its far field is 2 N = 128 in one pixel, and a 128 = 32
    assert input_scale_to_maximum(8.0, np.full((N, N), 2.0)) == pytest.approx(4.0)
    half = np.stack([np.full((N, N), np.sqrt(2)), np.full((N, N), 1j * np.sqrt(2))])  # the same light in two modes
    assert input_scale_to_maximum(8.0, half) == pytest.approx(4.0)
    with pytest.raises(DataError, match="largest amplitude: expected a positive number, found 0"):
        input_scale_to_maximum(0.0, half)


def test_the_largest_amplitude_is_of_valid_pixels() -> None:
    patterns = np.array([[[1, 4], [9, 0]], [[16, 2], [3, 1]]], np.uint16)
    mask = np.array([[False, True], [True, True]])
    assert largest_amplitude(patterns) == 16
    assert largest_amplitude(patterns, mask, "counts") == 3
    assert largest_amplitude(patterns, np.stack([mask, ~mask]), "counts") == 4


def test_scales_that_put_the_network_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"normalize='None' puts .* \|O\| = 10, expected 0.25 to 1.5; scale the pat"):
        measure_scales(320.0**2, 1e6, N, ScaleOptions(normalize="None"))
    with pytest.raises(ConfigError, match=r"data_scaling='Max' puts .* = 0.03, .* mask hot pixels, or leave"):
        measure_scales(32.0**2, 1e6, N, ScaleOptions("Max"), largest=32 / 0.03, probe=np.ones((N, N)))
    with pytest.raises(DataError, match="pass both"):
        measure_scales(32.0**2, 1e6, N, ScaleOptions("Max"))


def test_a_first_intensity_scale() -> None:
    found = measure_scales(4.0, 1e6, N, ScaleOptions(intensity_scale=40.0))
    assert (found.intensity_scale, found.first_intensity_scale) == (31.25, 40.0)
    assert found.input_scale == measure_scales(4.0, 1e6, N).input_scale
    with pytest.raises(ConfigError, match=r"intensity_scale=10000: the photons of the patterns make it 31.25") as error:
        measure_scales(4.0, 1e6, N, ScaleOptions(intensity_scale=1e4))
    assert "\n" not in str(error.value)


@pytest.fixture
def scan(rng: np.random.Generator) -> RawData:
    """Counts of a weak object, behind a probe with a ramp."""
    truth = np.exp(0.2j * rng.random((90, 90)))
    x, y = (axis.ravel() for axis in np.meshgrid([40.0, 46.0], [36.0, 44.0, 50.0]))
    probe = zone_plate_probe(N, energy=1e5)
    counts = rng.poisson(diffract(probe, *extract_rounded(truth, x, y, N))).astype(np.uint32)
    return RawData(x, y, None, None, counts, probe)


def test_the_scales_of_a_scan_follow_its_units(scan: RawData) -> None:
    assert scan.scales(1e5) == measure_scales(scan.mean_energy, 1e5, N)
    options = ScaleOptions("Max")
    found = scan.scales(1e5, options)
    brightest = np.sqrt(scan.diff3d.max())
    assert found.input_scale == pytest.approx(input_scale_to_maximum(brightest, scan.probeGuess))
    assert 0.6 < found.level < 1 and found.level == pytest.approx(found.input_scale / scan.input_scale())
    # another unit of the amplitudes, or of the probe: k follows the amplitudes alone
    seven = RawData(
        scan.xcoords, scan.ycoords, None, None, 7 * scan.amplitude(), 3 * scan.probeGuess, units="amplitude"
    )
    assert seven.scales(1e5, options).input_scale == pytest.approx(found.input_scale / 7)
    assert seven.scales(1e5, options).level == pytest.approx(found.level)


# What the network sees


def test_every_group_is_brought_to_one_energy(rng: np.random.Generator) -> None:
    normalised = rng.random((4, 6, 6, 2)).astype(np.float32)
    normalised *= np.array([0.1, 1.0, 5.0, 0.0], np.float32)[:, None, None, None]
    gain = group_gain(normalised)
    assert gain.shape == (4,)
    energy = ((gain[:, None, None, None] * normalised) ** 2).sum(axis=(1, 2, 3)) / 2
    np.testing.assert_allclose(energy[:3], 9.0, rtol=1e-6)
    assert gain[3] == pytest.approx(GAIN_FLOOR**-0.5)


def test_the_gain_by_hand() -> None:
    group = np.zeros((1, 4, 4, 2))
    group[0, 0, 0] = 6, 8  # energies 36 and 64, mean 50; (N/2)^2 = 4
    assert group_gain(group)[0] == pytest.approx(np.sqrt(4 / 50))


# The probe's ramp


def ramped(probe: NDArray[Any], x: float, y: float) -> NDArray[Any]:
    v, u = np.mgrid[: probe.shape[-1], : probe.shape[-1]] - probe.shape[-1] // 2
    return probe * np.exp(1j * (x * u + y * v))


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.31, -0.17), (-1.2, 0.05)])
def test_a_planted_ramp_is_found_and_taken_out(slopes: tuple[float, float]) -> None:
    probe = zone_plate_probe(N).astype(np.complex128)
    still = probe_ramp(probe)
    tilted = ramped(probe, *slopes)
    np.testing.assert_allclose(np.subtract(probe_ramp(tilted), still), slopes, atol=1e-3)
    np.testing.assert_allclose(without_ramp(tilted), without_ramp(probe), atol=1e-2 * np.abs(probe).max())
    assert np.abs(probe_ramp(without_ramp(tilted))).max() < 1e-3


def test_a_ramp_by_hand() -> None:
    """A whole number of turns over the window moves the far field by as many pixels, exactly."""
    probe = disk_probe(N).astype(np.complex128)
    tilted = ramped(probe, 2 * np.pi * 5 / N, -2 * np.pi * 3 / N)
    np.testing.assert_allclose(far_field(tilted), np.roll(far_field(probe), (-3, 5), (0, 1)), atol=1e-12)
    np.testing.assert_allclose(np.array(probe_ramp(tilted)) * N / (2 * np.pi), (5, -3), atol=1e-9)
    np.testing.assert_allclose(without_ramp(tilted), probe, atol=1e-9)


def test_modes_share_one_ramp() -> None:
    modes = orthogonal_modes(zone_plate_probe(N), (0.7, 0.3))
    tilted = ramped(modes, 0.2, 0.1).astype(np.complex64)
    found = without_ramp(tilted)
    assert found.shape == (2, N, N) and found.dtype == np.complex64
    np.testing.assert_allclose(found[0] * tilted[1], found[1] * tilted[0], atol=1e-5)
    np.testing.assert_allclose(np.abs(found), np.abs(tilted), rtol=1e-5)
    # the diffraction pattern of both together has its centre of mass within a thousandth of a pixel of the middle
    intensity = (np.abs(far_field(found.astype(complex))) ** 2).sum(axis=0)
    wave = np.exp(2j * np.pi * (np.arange(N) - N // 2) / N)
    for axis in (0, 1):
        assert abs(np.angle((intensity.sum(axis=axis) * wave).sum())) < 2e-3 * np.pi / N


def test_a_scan_without_the_ramp_of_its_probe(scan: RawData) -> None:
    """Patterns stay; the object that explains them takes over the ramp as one plane."""
    tilted = RawData(scan.xcoords, scan.ycoords, None, None, scan.diff3d, ramped(scan.probeGuess, 0.2, -0.1))
    _ = tilted.mean_energy
    found = tilted.without_probe_ramp()
    assert found.diff3d is tilted.diff3d and found.units == tilted.units and len(found) == len(tilted)
    np.testing.assert_allclose(
        found.probeGuess, without_ramp(scan.probeGuess), atol=2e-2 * np.abs(scan.probeGuess).max()
    )
    np.testing.assert_allclose(
        probe_ramp(tilted.probeGuess), np.add(probe_ramp(scan.probeGuess), (0.2, -0.1)), atol=1e-3
    )
    k = probe_ramp(tilted.probeGuess)
    image = np.ones((90, 90), complex)
    v, u = np.mgrid[:90, :90]
    plane = image * np.exp(1j * (k[0] * u + k[1] * v))
    x, y = scan.xcoords, scan.ycoords
    expected = diffract(tilted.probeGuess, *extract_rounded(image, x, y, N))
    np.testing.assert_allclose(diffract(found.probeGuess, *extract_rounded(plane, x, y, N)), expected, atol=1e-3)

"""Scales obey their units."""

import doctest
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho.core import scaling
from ptycho.core.scaling import (
    frame_blocks,
    input_scale,
    intensity_scale,
    mean_energy,
    photons_per_frame,
    probe_scale,
    to_amplitude,
)
from ptycho.errors import DataError


def counts(rng: np.random.Generator, mean: float = 3.0, n: int = 5, N: int = 12) -> NDArray[Any]:
    return rng.poisson(mean, (n, N, N))


def probe_of(energy: float, N: int = 12) -> NDArray[Any]:
    return np.full((N, N), np.sqrt(energy) / N, complex)


def test_mean_energy_by_hand() -> None:
    patterns = np.array([[[1, 2], [3, 4]], [[0, 0], [5, 1]]], np.uint8)
    assert mean_energy(patterns) == (1 + 4 + 9 + 16 + 25 + 1) / 2
    assert mean_energy(patterns, units="counts") == (10 + 6) / 2
    mask = np.array([[True, True], [False, True]])
    assert mean_energy(patterns, mask) == (1 + 4 + 16 + 1) / 2
    per_frame = np.stack([mask, ~mask])
    assert mean_energy(patterns, per_frame) == (1 + 4 + 16 + 25) / 2


def test_mean_energy_leaves_masked_nan_alone_and_does_not_overflow() -> None:
    patterns = np.full((2, 2, 2), 60000, np.uint16)
    assert mean_energy(patterns) == 4 * 60000.0**2
    hot = np.array([[[np.nan, 2.0], [1.0, np.inf]]])
    assert mean_energy(hot, np.isfinite(hot[0])) == 5.0


def test_mean_energy_in_blocks_equals_the_whole(rng: np.random.Generator) -> None:
    patterns = rng.random((70, 256, 256), np.float32)
    assert len(list(frame_blocks(70, 256 * 256))) == 3
    whole = np.sum(patterns.astype(float) ** 2) / 70
    assert mean_energy(patterns) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("patterns", [np.ones((3, 3)), np.ones((0, 3, 3))])
def test_mean_energy_wants_a_stack(patterns: NDArray[Any]) -> None:
    with pytest.raises(DataError, match=r"expected \(n, N, N\)"):
        mean_energy(patterns)


def test_scales_by_hand() -> None:
    assert input_scale(256.0, 64) == 2.0
    assert intensity_scale(1e6, 64) == 1000 / 32
    assert probe_scale(np.full((4, 4), 3 + 4j), 8) == 4 / 20
    assert probe_scale(np.full((4, 2, 2), 1j), 8) == 1.0


def test_k_brings_patterns_to_the_energy_of_the_network(rng: np.random.Generator) -> None:
    amplitude = rng.random((4, 8, 8)) * 37
    k = input_scale(mean_energy(amplitude), 8)
    assert mean_energy(k * amplitude) == pytest.approx(16.0, rel=1e-12)


def test_s_brings_network_units_to_photons(rng: np.random.Generator) -> None:
    patterns = counts(rng)
    amplitude = to_amplitude(patterns, "counts").astype(float)
    photons = mean_energy(patterns, units="counts")
    network = input_scale(mean_energy(amplitude), 12) * amplitude
    np.testing.assert_allclose((intensity_scale(photons, 12) * network) ** 2, patterns, rtol=1e-6)


def test_amplitudes_times_seven_divide_k_by_seven(rng: np.random.Generator) -> None:
    amplitude = rng.random((4, 8, 8))
    k = input_scale(mean_energy(amplitude), 8)
    assert input_scale(mean_energy(7 * amplitude), 8) == pytest.approx(k / 7, rel=1e-12)


def test_probe_times_seven_divides_a_by_seven(rng: np.random.Generator) -> None:
    probe = rng.random((3, 8, 8)) + 1j * rng.random((3, 8, 8))
    a = probe_scale(probe, 8)
    assert probe_scale(7 * probe, 8) == pytest.approx(a / 7, rel=1e-12)
    assert probe_scale(probe * np.exp(0.3j), 8) == pytest.approx(a, rel=1e-12)
    assert np.sum(np.abs(a * probe) ** 2) == pytest.approx(16.0, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_scales_refuse_what_is_not_a_positive_number(value: float) -> None:
    with pytest.raises(DataError, match="mean energy"):
        input_scale(value, 64)
    with pytest.raises(DataError, match="nphotons"):
        intensity_scale(value, 64)


def test_probe_scale_refuses_a_dark_probe() -> None:
    with pytest.raises(DataError, match="energy of the probe"):
        probe_scale(np.zeros((4, 4)), 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, np.float64])
def test_counts_become_their_root(dtype: type) -> None:
    amplitude = to_amplitude(np.array([[[0, 1], [4, 225]]], dtype), "counts")
    assert amplitude.dtype == np.float32
    assert amplitude.tolist() == [[[0.0, 1.0], [2.0, 15.0]]]


def test_large_counts_keep_their_root_and_negative_ones_become_zero() -> None:
    big = np.array([[[2**31 - 1]]], np.int32)
    assert to_amplitude(big, "counts")[0, 0, 0] == np.float32(np.sqrt(2.0**31 - 1))
    assert to_amplitude(np.array([[[-0.25, 4.0]]]), "counts").tolist() == [[[0.0, 2.0]]]
    assert to_amplitude(np.array([[[-0.5, 4.0]]]), "amplitude").tolist() == [[[0.0, 4.0]]]
    assert to_amplitude(np.array([[[-2, 4]]]), "counts", np.array([[3.0, 5.0]])).tolist() == [[[1.0, 3.0]]]


def test_amplitude_stays() -> None:
    data = np.array([[[0.5, 3.0]]])
    amplitude = to_amplitude(data, "amplitude")
    assert amplitude.dtype == np.float32
    assert amplitude.tolist() == data.tolist()
    assert not np.shares_memory(amplitude, to_amplitude(amplitude, "amplitude"))


# ------------------------------------------------------------------ amplitude or counts?


def test_counts_say_the_photons_themselves() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert photons_per_frame(1000.0, "counts") == 1000.0
        assert photons_per_frame(1000.0, "counts", configured=1999.0) == 1000.0
        assert photons_per_frame(1000.0, "counts", configured=501.0, recorded=5.0) == 1000.0


@pytest.mark.parametrize("configured", [499.0, 2001.0, 1e9])
def test_a_configured_number_far_from_the_counts_gets_one_warning(configured: float) -> None:
    with pytest.warns(UserWarning, match="the patterns are believed") as caught:
        assert photons_per_frame(1000.0, "counts", configured=configured) == 1000.0
    assert len(caught) == 1


def test_amplitude_takes_the_metadata_then_the_configuration() -> None:
    assert photons_per_frame(3.0, "amplitude", configured=1e9, recorded=1e4) == 1e4
    assert photons_per_frame(3.0, "amplitude", configured=1e9) == 1e9
    with pytest.raises(DataError, match="set nphotons"):
        photons_per_frame(3.0, "amplitude")
    with pytest.raises(DataError, match="metadata"):
        photons_per_frame(3.0, "amplitude", recorded=-1.0)


def test_examples_in_the_docstrings() -> None:
    result = doctest.testmod(scaling)
    assert result.attempted >= 3
    assert result.failed == 0

"""The rules that tell amplitude from counts decide in their order."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho.core.scaling import photons_per_frame
from ptycho.core.unit_decision import decide_units
from ptycho.errors import ConfigError, DataError


def counts(rng: np.random.Generator, mean: float = 3.0, n: int = 5, N: int = 12) -> NDArray[Any]:
    return rng.poisson(mean, (n, N, N))


def probe_of(energy: float, N: int = 12) -> NDArray[Any]:
    return np.full((N, N), np.sqrt(energy) / N, complex)


@pytest.mark.parametrize(("gain", "photons"), [(1.0, 1.0), (2.5, 0.4)])
def test_counts_below_0_differ_by_whole_steps(gain: float, photons: float, rng: np.random.Generator) -> None:
    """Every pixel has a background of its own, of which no whole number was subtracted."""
    background = rng.uniform(5, 15, (16, 16))
    values = (gain * (rng.poisson(background, (40, 16, 16)) - background)).astype(np.float32)
    found = decide_units(values, None)
    assert (found.units, found.rule) == ("counts", "below 0")
    assert found.photons == pytest.approx(photons, rel=1e-3)
    assert decide_units(values, None, "counts").photons == pytest.approx(photons, rel=1e-3)
    smooth = values + rng.normal(0, 0.3, values.shape).astype(np.float32)
    assert decide_units(smooth, None, undecidable="amplitude").rule == "undecidable"


@pytest.mark.parametrize("declared", ["amplitude", "counts"])
def test_declared_units_win_over_everything(declared: str, rng: np.random.Generator) -> None:
    for data in (counts(rng), np.sqrt(counts(rng))):
        decision = decide_units(data, probe_of(1.0), declared)
        assert (decision.units, decision.rule) == (declared, "declared")


def test_unknown_units_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="'photons'"):
        decide_units(counts(rng), probe_of(1.0), "photons")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64])
def test_integers_are_counts(dtype: type, rng: np.random.Generator) -> None:
    decision = decide_units(counts(rng).astype(dtype), probe_of(1.0))
    assert (decision.units, decision.rule) == ("counts", "integers")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0.02, 3.0, 2000.0])
def test_roots_of_counts_are_amplitude_at_any_dose(mean: float, dtype: type, rng: np.random.Generator) -> None:
    data = np.sqrt(counts(rng, mean, n=40, N=32)).astype(dtype)
    decision = decide_units(data, probe_of(1.0, 32))
    assert (decision.units, decision.rule) == ("amplitude", "whole squares")


def test_roots_in_float32_stored_as_float64_are_amplitude(rng: np.random.Generator) -> None:
    data = np.sqrt(counts(rng, 500.0)).astype(np.float32).astype(np.float64)
    assert decide_units(data, probe_of(1.0)).rule == "whole squares"


@pytest.mark.parametrize("gain", [1, 2, 7])
def test_amplitudes_whose_squares_are_multiples_say_the_gain(gain: int, rng: np.random.Generator) -> None:
    decision = decide_units(np.sqrt(gain * counts(rng)).astype(np.float32), probe_of(1.0))
    assert (decision.units, decision.rule) == ("amplitude", "whole squares")
    assert decision.photons == pytest.approx(1 / gain)


def test_whole_floats_are_counts_even_where_a_few_are_interpolated(rng: np.random.Generator) -> None:
    data = counts(rng).astype(float)
    assert decide_units(data, probe_of(1.0)).rule == "whole values"
    data[:, 3, 4:7] += 0.37
    decision = decide_units(data, probe_of(1.0))
    assert (decision.units, decision.rule) == ("counts", "whole values")
    assert 0.9 < decision.whole_values < 1
    assert decision.maximum == data.max()


def test_zeros_tell_nothing(rng: np.random.Generator) -> None:
    # 97 % zeros and a maximum above 1: still an amplitude, since what is not zero is not whole.
    data = np.sqrt(counts(rng, 0.03, n=20, N=32)) * 1.37
    assert np.mean(data == 0) > 0.95
    assert decide_units(data, probe_of(1.0, 32)).units == "amplitude"


def test_whole_values_of_at_most_one_are_not_called_counts() -> None:
    data = np.zeros((3, 4, 4))
    data[:, 1, 2] = 1.0
    assert decide_units(data, probe_of(1.0, 4), undecidable="amplitude", declared="counts").units == "counts"
    with pytest.raises(DataError, match="--units amplitude or --units counts"):
        decide_units(data, probe_of(1.0, 4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [0.000760314, 1.37, 7 / 3])
@pytest.mark.parametrize("mean", [0.05, 3.0, 300.0])
def test_scaled_scans_are_told_by_their_steps(
    mean: float, factor: float, dtype: type, rng: np.random.Generator
) -> None:
    number = counts(rng, mean, n=40, N=32)
    number[0, 0, :3] = (1, 2, 3)
    amplitude = decide_units((np.sqrt(number) * factor).astype(dtype), probe_of(1e-30, 32))
    assert (amplitude.units, amplitude.rule) == ("amplitude", "whole steps")
    gained = decide_units((number * factor).astype(dtype), probe_of(1e-30, 32))
    assert (gained.units, gained.rule) == ("counts", "whole steps")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_without_steps_go_to_the_probe(dtype: type, rng: np.random.Generator) -> None:
    intensity = (rng.random((5, 12, 12)) * 1e4).astype(dtype)
    energy = float(intensity.sum()) / 5
    bright = decide_units(intensity, probe_of(0.2 * energy))
    assert (bright.units, bright.rule) == ("counts", "probe")
    assert bright.mean_sum == pytest.approx(energy, rel=1e-6)
    assert bright.probe_energy == pytest.approx(0.2 * energy, rel=1e-9)
    amplitude = decide_units(np.sqrt(intensity), probe_of(3 * energy))
    assert (amplitude.units, amplitude.rule) == ("amplitude", "probe")
    assert amplitude.mean_sum_of_squares == pytest.approx(energy, rel=1e-6)


def test_units_that_the_values_tell_need_no_probe(rng: np.random.Generator) -> None:
    for data, found in ((counts(rng), "integers"), (np.sqrt(counts(rng)), "whole squares")):
        decision = decide_units(data, None)
        assert (decision.rule, decision.probe_energy) == (found, None)
    assert "probe" not in str(decision)


def test_modes_add_up_to_the_energy_of_the_probe(rng: np.random.Generator) -> None:
    amplitude = rng.random((5, 12, 12)) * 100
    modes = np.stack([probe_of(1e5), probe_of(3e5)])
    assert decide_units(amplitude, modes).probe_energy == pytest.approx(4e5, rel=1e-9)


@pytest.mark.parametrize(
    "energy",
    [1.0, 0.0, 7e8, None],
    ids=["between the two", "dark probe", "a thousand times brighter than both", "no probe"],
)
def test_undecidable_is_an_error_or_amplitude_with_one_warning(energy: float | None, rng: np.random.Generator) -> None:
    data = rng.random((5, 12, 12)) * 20
    between = np.sqrt(data.sum() / 5 * np.sum(data**2) / 5)
    probe = None if energy is None else probe_of(between if energy == 1.0 else energy)
    with pytest.raises(DataError, match="--units amplitude or --units counts") as error:
        decide_units(data, probe)
    assert "\n" not in str(error.value)
    with pytest.warns(UserWarning, match="taken as amplitude") as caught:
        decision = decide_units(data, probe, undecidable="amplitude")
    assert len(caught) == 1
    assert (decision.units, decision.rule) == ("amplitude", "undecidable")


def test_masked_pixels_are_not_looked_at(rng: np.random.Generator) -> None:
    data = np.sqrt(counts(rng)).astype(np.float32)
    mask = np.ones((12, 12), bool)
    mask[:, :5] = False
    data[:, ~mask] = rng.random((5, 60)) * 3
    data[:, 0, 0] = np.nan
    assert decide_units(data, probe_of(1.0), mask=mask).rule == "whole squares"
    stack = np.broadcast_to(mask, data.shape).copy()
    assert decide_units(data, probe_of(1.0), mask=stack).rule == "whole squares"
    with pytest.raises(DataError, match="rule: undecidable; whole squares 0"):
        decide_units(np.nan_to_num(data), probe_of(1e9))


def test_no_more_than_32_frames_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    class Watched(np.memmap):
        read = 0

        def __getitem__(self, index: Any) -> Any:
            found = np.asarray(super().__getitem__(index))
            Watched.read += found.size
            return found

    np.save(tmp_path / "scan.npy", np.sqrt(counts(rng, n=1000)).astype(np.float32))
    stored = np.load(tmp_path / "scan.npy", mmap_mode="r")
    watched = stored.view(Watched)
    assert decide_units(watched, probe_of(1.0)).rule == "whole squares"
    assert Watched.read == 32 * 144


def test_the_decision_is_logged_once_with_its_numbers(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="ptycho"):
        decide_units(np.sqrt(counts(rng)), probe_of(250.0))
    assert len(caplog.records) == 1
    assert "amplitude (rule: whole squares; whole squares 1" in caplog.text
    assert "probe energy 250" in caplog.text


def test_a_decision_shows_the_numbers_that_were_looked_at_and_no_others() -> None:
    patterns, probe = np.full((1, 4, 4), 2.5), probe_of(100.0)
    numbers = "whole squares 0, whole values 0, maximum 2.5, sum 40, sum of squares 100, probe energy 100"
    assert str(decide_units(patterns, probe)) == f"amplitude (rule: probe; {numbers})"
    assert str(decide_units(patterns, probe, "counts")) == "counts (rule: declared)"
    assert str(decide_units(patterns.astype(np.uint8), None)) == "counts (rule: integers)"
    numbers = "whole values 1, maximum 2, sum 32, sum of squares 64, probe energy 100"
    assert (
        str(decide_units(patterns.astype(np.uint8), probe)) == f"counts (rule: integers against the probe; {numbers})"
    )
    patterns[0, 1, 2] = np.nan  # one that was looked at is shown, whatever it is
    with pytest.raises(DataError, match="maximum nan, sum nan, sum of squares nan, probe energy 100"):
        decide_units(patterns, probe)


def speckle(rng: np.random.Generator, energy: float, n: int = 24, N: int = 24) -> NDArray[Any]:
    """Intensities (n, N, N) of faint speckle that fades, as far fields have it."""
    field = 4 + rng.normal(size=(n, N, N)) + 1j * rng.normal(size=(n, N, N))
    falls = np.exp(-np.hypot(*np.mgrid[:N, :N]) / (N / 8))
    return np.abs(field) ** 2 * energy * falls / (18 * falls.sum())


def test_integers_quieter_than_photons_with_the_energy_of_the_probe_are_amplitudes(rng: np.random.Generator) -> None:
    seen, probe = rng.poisson(speckle(rng, 4e4)), probe_of(5e4)
    roots = np.rint(np.sqrt(seen)).astype(np.uint8)
    assert (decide_units(roots, probe).units, decide_units(roots, probe).rule) == ("amplitude", "quiet integers")
    assert decide_units(roots, probe).photons is None  # rounding hides their noise
    assert decide_units(seen, probe).rule == "integers"
    # each piece of evidence alone is not enough: a probe in another unit, no probe, few lit values
    assert decide_units(rng.poisson(speckle(rng, 4e4)), probe_of(float((seen**2).sum() / 24))).units == "counts"
    assert decide_units(roots, None).units == "counts"
    assert decide_units(roots[:1], probe).units == "counts"
    assert decide_units(roots, probe, "counts").units == "counts"


@pytest.mark.parametrize("declared", [None, "counts"])
def test_the_gain_of_counts_is_their_smallest_step(rng: np.random.Generator, declared: str | None) -> None:
    seen = rng.poisson(speckle(rng, 400.0))
    assert decide_units(seen / seen.max(), None, declared).photons == pytest.approx(seen.max(), rel=1e-9)
    assert decide_units(seen.astype(np.float32), None, declared).photons == 1
    photons = decide_units(seen * 2.75, None, declared).photons
    assert photons_per_frame(2.75 * 400, "counts", photons=photons) == pytest.approx(400, rel=1e-9)


def test_counts_up_to_one_without_steps_are_of_unknown_gain(rng: np.random.Generator) -> None:
    smooth = rng.random((4, 12, 12))
    assert decide_units(smooth, None, "counts").photons is None
    assert decide_units(300 * smooth, None, "counts").photons == 1  # whole but for a background that was taken off
    with pytest.raises(DataError, match="set nphotons"):
        photons_per_frame(70.0, "counts", photons=None)


def test_the_step_of_amplitudes_tells_their_photons(rng: np.random.Generator) -> None:
    seen = rng.poisson(speckle(rng, 400.0))
    assert decide_units(0.3 * np.sqrt(seen), None).photons == pytest.approx(1 / 0.09, rel=1e-6)
    assert decide_units(np.sqrt(seen), None, "amplitude").photons == 1


# ------------------------------------------------------------------ photons

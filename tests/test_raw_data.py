"""A scan in memory: what it keeps, how it converts, which groups it makes."""

import functools
import logging
import pickle
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho import params, raw_data
from ptycho.config.options import GroupOptions
from ptycho.core.files.scratch import taken
from ptycho.core.groups.container import GroupContainer
from ptycho.core.groups.grouped_data import GROUPED_KEYS, GroupedData
from ptycho.core.physics.diffraction import cleared, diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.scan.npz_file import ScanFile, write_scan
from ptycho.core.scan_edit.map_write import make_map
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows import scan_part

N = 8


@pytest.fixture(autouse=True)
def no_input_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", {key: value for key, value in params.cfg.items() if key != "input_scale"})


def scan(rng: np.random.Generator, n: int = 12, **fields: Any) -> RawData:
    given = {
        "xcoords": rng.random(n) * 30,
        "ycoords": rng.random(n) * 30,
        "xcoords_start": None,
        "ycoords_start": None,
        "diff3d": rng.poisson(5, (n, N, N)).astype(np.uint16),
        "probeGuess": np.ones((N, N), np.complex64),
        "scan_index": np.zeros(n, int),
    }
    return RawData(**(given | fields))


def test_from_coords_takes_keywords_and_keeps_arrays_as_given(rng: np.random.Generator) -> None:
    big = rng.poisson(5, (6, 2 * N, N)).astype(np.uint32)
    patterns, probe = big[:, ::2], np.ones((3, N, N), np.complex128)
    raw = RawData.from_coords_without_pc(
        xcoords=[1, 2, 3, 4, 5, 6],
        ycoords=np.arange(6, dtype=np.float32),
        diff3d=patterns,
        probeGuess=probe,
        scan_index=np.zeros(6, np.int64),
        objectGuess=np.ones((20, 30), complex),
    )
    assert raw.diff3d is patterns
    assert raw.probeGuess is probe
    assert not raw.diff3d.flags.c_contiguous
    assert raw.xcoords.dtype == raw.ycoords.dtype == np.float64
    np.testing.assert_array_equal(raw.xcoords_start, raw.xcoords)
    assert (len(raw), raw.N, raw.units) == (6, N, "counts")
    np.testing.assert_array_equal(raw.amplitude(), np.sqrt(patterns.astype(np.float32)))
    assert raw.generate_grouped_data(N, K=7, nsamples=6, gridsize=2)["diffraction"].shape == (6, N, N, 4)


def test_amplitude_of_some_patterns_in_any_order(rng: np.random.Generator) -> None:
    raw = scan(rng)
    some = raw.amplitude([7, 0, 7])
    assert some.dtype == np.float32
    np.testing.assert_array_equal(some, np.sqrt(raw.diff3d[[7, 0, 7]].astype(np.float32)))
    np.testing.assert_array_equal(scan(rng, diff3d=raw.diff3d, units="amplitude").amplitude(), raw.diff3d)


@pytest.mark.parametrize("per_frame", [False, True])
def test_masked_pixels_are_zero_and_do_not_count(per_frame: bool, rng: np.random.Generator) -> None:
    patterns, mask = np.sqrt(rng.poisson(5, (12, N, N))), np.ones((N, N), bool)
    mask[2, 3] = mask[0, 0] = False
    patterns[:, 2, 3], patterns[:, 0, 0] = np.nan, 1e6
    raw = scan(rng, diff3d=patterns, mask=np.stack([mask] * 12) if per_frame else mask)
    amplitude = raw.amplitude()
    assert not amplitude[:, ~mask].any()
    np.testing.assert_array_equal(amplitude[:, mask], patterns[:, mask].astype(np.float32))
    assert raw.mean_energy == pytest.approx(np.sum(patterns[:, mask] ** 2) / 12, rel=1e-12)
    assert raw.valid_mask.shape == ((12, N, N) if per_frame else (N, N))


def test_a_scan_without_mask_is_valid_everywhere(rng: np.random.Generator) -> None:
    raw = scan(rng)
    assert raw.mask is None
    assert raw.valid_mask.shape == (N, N)
    assert raw.valid_mask.all()


def test_nan_in_a_valid_pixel_is_an_error_not_a_picture(rng: np.random.Generator) -> None:
    patterns = rng.random((12, N, N))
    patterns[3, 1, 1] = np.nan
    raw = scan(rng, diff3d=patterns, units="amplitude")
    assert np.isfinite(raw.amplitude([0, 1, 2])).all()
    with pytest.raises(DataError, match="1 NaN or infinite"):
        raw.amplitude()


def test_a_scan_without_a_probe_is_a_scan_until_one_is_needed(rng: np.random.Generator, tmp_path: Path) -> None:
    raw = scan(rng, probeGuess=None)
    assert not raw.has_probe
    assert "no probe" in repr(raw)
    assert raw.amplitude().shape == (12, N, N)
    with pytest.raises(DataError, match=r"^scan: the scan has no probe: .*ptycho probe SCAN .*--probe$"):
        raw.probeGuess  # noqa: B018
    raw.to_file(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as file:
        assert "probeGuess" not in file
    given = raw.with_probe(np.ones((2, N, N)))
    assert given.has_probe
    assert not raw.has_probe
    assert given.probeGuess.shape == (2, N, N)
    with pytest.raises(DataError, match=r"probeGuess: expected \(8, 8\)"):
        raw.with_probe(np.ones((N, N + 1)))


def test_a_scan_without_probe_asks_for_the_units_that_only_a_probe_told(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    place = tmp_path / "s.npz"
    fields = {"xcoords": np.arange(3.0), "ycoords": np.arange(3.0), "diff3d": rng.random((3, 64, 64))}
    np.savez(place, **fields)
    with pytest.raises(DataError, match=r"s\.npz: amplitude or counts\? .*say --units"):
        RawData.from_file(place).with_probe(np.ones((64, 64)))
    found = RawData.from_file(place, "amplitude")
    with pytest.raises(DataError, match=r"s\.npz: the scan has no probe: .*\(ptycho probe .*s\.npz -o probe\.npz\)"):
        found.without_probe_ramp()


def test_undecidable_arrays_are_amplitude_with_one_warning(rng: np.random.Generator) -> None:
    raw = scan(rng, diff3d=rng.random((12, N, N)), probeGuess=np.full((N, N), 1e9 + 0j))
    with pytest.warns(UserWarning, match="taken as amplitude") as caught:
        assert raw.units == "amplitude"
        raw.amplitude()
        assert raw.units_decision.rule == "undecidable"
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scan(rng, diff3d=raw.diff3d, units="counts").units == "counts"


def test_an_undecidable_file_is_an_error_that_names_it(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "dull.npz"
    patterns = rng.random((3, 64, 64)) * 0.9
    write_scan(path, ScanFile(patterns, np.arange(3.0), np.arange(3.0), np.full((64, 64), 1e9 + 0j)))
    raw = RawData.from_file(path)
    with pytest.raises(DataError, match=r"dull\.npz: .*--units amplitude or --units counts"):
        raw.amplitude()
    assert RawData.from_file(path, units="amplitude").units == "amplitude"


def test_scale_and_photons_of_counts(rng: np.random.Generator) -> None:
    raw = scan(rng, metadata={"nphotons": 1.0})
    mean = raw.diff3d.sum() / 12
    assert raw.mean_energy == mean
    assert raw.photons() == mean
    assert raw.input_scale() == pytest.approx(np.sqrt((N / 2) ** 2 / mean), rel=1e-12)
    with pytest.warns(UserWarning, match="the patterns are believed"):
        assert raw.photons(configured=3 * mean) == mean


def test_photons_of_amplitude_come_from_metadata_or_configuration(rng: np.random.Generator) -> None:
    patterns = np.sqrt(rng.poisson(5, (12, N, N)))
    assert scan(rng, diff3d=patterns, metadata={"nphotons": 700}).photons(1e9) == 700
    assert scan(rng, diff3d=patterns).photons(1e9) == 1e9


def test_physical_units(rng: np.random.Generator) -> None:
    patterns = np.sqrt(rng.poisson(5, (12, N, N)))
    raw, brighter = (scan(rng, diff3d=factor * patterns, units="amplitude") for factor in (1, 7))
    assert brighter.input_scale() == pytest.approx(raw.input_scale() / 7, rel=1e-12)
    assert brighter.photons(1e5) == raw.photons(1e5)
    groups = {"nsamples": 12, "gridsize": 1}
    first, second = (data.generate_grouped_data(N, **groups)["X_full"] for data in (raw, brighter))
    np.testing.assert_allclose(second, first, rtol=1e-6)
    assert np.mean(np.sum(first.astype(float) ** 2, axis=(1, 2))) == pytest.approx(16, rel=1e-6)


def test_a_file_comes_back(rng: np.random.Generator, tmp_path: Path) -> None:
    raw = RawData(
        xcoords=[1.0, 2.0, 3.5],
        ycoords=[4.0, 5.0, 6.0],
        xcoords_start=[1.5, 2.5, 3.0],
        ycoords_start=[4.5, 5.5, 6.5],
        diff3d=np.sqrt(rng.poisson(5, (3, 64, 64))),
        probeGuess=np.ones((2, 64, 64), complex),
        scan_index=[1, 1, 2],
        objectGuess=np.ones((70, 80), complex),
        Y=np.ones((3, 64, 64), complex),
        mask=rng.random((64, 64)) > 0.2,
        metadata={"nphotons": 5.0},
    )
    raw.to_file(tmp_path / "scan.npz")
    again = RawData.from_file(tmp_path / "scan.npz")
    for key in ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "diff3d", "probeGuess", "scan_index"):
        np.testing.assert_array_equal(getattr(again, key), getattr(raw, key), err_msg=key)
    for key in ("objectGuess", "Y", "mask"):
        np.testing.assert_array_equal(getattr(again, key), getattr(raw, key), err_msg=key)
    assert again.metadata == {"nphotons": 5.0}
    assert again.units_decision.rule == "declared"
    assert again.units == raw.units == "amplitude"


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("xcoords", np.zeros(11), r"diffraction|xcoords"),
        ("ycoords", np.zeros(13), r"ycoords \(13,\)"),
        ("xcoords_start", np.zeros(3), "xcoords_start"),
        ("diff3d", np.ones((12, 8, 9)), r"square patterns .* found shape \(12, 8, 9\)"),
        ("diff3d", np.ones((12, 8, 8), complex), "complex128"),
        ("diff3d", np.ones((12, 8, 8), bool), "bool"),
        ("probeGuess", np.ones((7, 7)), r"probeGuess: expected \(8, 8\)"),
        ("probeGuess", np.ones((1, 1, 8, 8)), "probeGuess"),
        ("mask", np.ones((8, 9), bool), "mask"),
        ("Y", np.ones((11, 8, 8)), "Y"),
        ("objectGuess", np.ones((2, 30, 30)), "objectGuess"),
    ],
)
def test_arrays_that_do_not_fit(field: str, value: NDArray[Any], match: str, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match=match) as error:
        scan(rng, **{field: value})
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------ subsample


def test_subsample_keeps_whole_scan_points(rng: np.random.Generator) -> None:
    raw = scan(rng, mask=rng.random((12, N, N)) > 0.1, Y=rng.random((12, N, N)), scan_index=np.arange(12))
    part = raw.subsample(5, seed=3)
    kept = part.scan_index
    assert part.sample_indices is not None
    assert part.sample_indices.tolist() == kept.tolist() == sorted(set(kept.tolist()))
    for key in ("xcoords", "ycoords", "xcoords_start", "diff3d", "Y", "mask"):
        np.testing.assert_array_equal(getattr(part, key), getattr(raw, key)[kept], err_msg=key)
    assert part.subsample(2).sample_indices.tolist() == part.subsample(2).scan_index.tolist()


def test_subsample_is_repeatable_and_never_more_than_there_is(rng: np.random.Generator) -> None:
    raw = scan(rng)
    assert raw.subsample(5, 3).sample_indices.tolist() == raw.subsample(5, 3).sample_indices.tolist()
    assert raw.subsample(5, 3).sample_indices.tolist() != raw.subsample(5, 4).sample_indices.tolist()
    assert len(raw.subsample(99)) == 12
    with pytest.raises(ValueError, match="n_subsample=0"):
        raw.subsample(0)


def test_a_part_has_the_units_of_the_whole(rng: np.random.Generator) -> None:
    patterns = rng.poisson(5, (12, N, N)).astype(float)
    raw = scan(rng, diff3d=patterns)
    part = raw.subsample(3)
    part.diff3d = np.sqrt(part.diff3d)
    assert part.units == raw.units == "counts"


def test_a_part_does_not_decide_its_units_again(rng: np.random.Generator, caplog: pytest.LogCaptureFixture) -> None:
    """One frame of twelve is interpolated: the whole holds counts, that frame alone would pass for amplitude."""
    patterns = rng.poisson(5, (12, N, N)).astype(float)
    patterns[3] = 0
    patterns[3, 3:5, 3:5] = 4.1
    seed = next(s for s in range(1000) if np.random.default_rng(s).choice(12, 1, replace=False) == 3)
    with caplog.at_level(logging.INFO, logger="ptycho"):
        raw = scan(rng, diff3d=patterns)
        part = raw.subsample(1, seed).subsample(1)
        assert part.sample_indices.tolist() == [3]
        assert part.units == raw.units == "counts"
        assert part.units_decision is raw.units_decision
    assert [record.message for record in caplog.records] == [f"diffraction units: {raw.units_decision}"]
    assert scan(rng, n=1, diff3d=part.diff3d).units == "amplitude"


# ------------------------------------------------------------------ groups


def test_grouped_arrays_belong_together(rng: np.random.Generator) -> None:
    truth = rng.random((12, N, N)) + 1j * rng.random((12, N, N))
    raw = scan(rng, Y=truth, xcoords_start=rng.random(12), ycoords_start=rng.random(12))
    grouped = raw.generate_grouped_data(N, K=5, nsamples=9, gridsize=2, seed=4)
    assert tuple(grouped) == GROUPED_KEYS
    assert isinstance(grouped, dict)
    groups = grouped["nn_indices"]
    assert groups.dtype == np.int32
    for b, c in ((0, 0), (8, 3), (4, 1)):
        j = groups[b, c]
        np.testing.assert_array_equal(grouped["diffraction"][b, :, :, c], np.sqrt(raw.diff3d[j]).astype("f4"))
        np.testing.assert_array_equal(grouped["Y"][b, :, :, c], truth[j].astype(np.complex64))
        assert grouped["coords_nn"][b, 0, :, c].tolist() == [raw.xcoords[j], raw.ycoords[j]]
        assert grouped["coords_start_nn"][b, 0, :, c].tolist() == [raw.xcoords_start[j], raw.ycoords_start[j]]
    for start in ("", "start_"):
        positions = grouped[f"coords_{start}offsets"] - grouped[f"coords_{start}relative"]
        np.testing.assert_allclose(positions, grouped[f"coords_{start}nn"], rtol=1e-12)
        assert grouped[f"coords_{start}offsets"].shape == (9, 1, 2, 1)
    assert grouped["objectGuess"] is None
    assert grouped["Y"].dtype == np.complex64


def test_groups_of_one_by_default_one_group(rng: np.random.Generator) -> None:
    grouped = scan(rng).generate_grouped_data(N, gridsize=1)
    assert grouped["diffraction"].shape == (1, N, N, 1)
    assert grouped["Y"] is None


def test_nothing_is_converted_before_it_is_asked_for(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = scan(rng)
    monkeypatch.setattr(RawData, "amplitude", lambda self, indices=None: pytest.fail("converted"))
    grouped = raw.generate_grouped_data(N, nsamples=12, gridsize=2)
    assert grouped["coords_relative"].shape == (12, 1, 2, 4)
    assert "diffraction" in grouped
    assert isinstance(pickle.loads(pickle.dumps(grouped)), GroupedData)  # noqa: S301 - our own bytes


def test_input_scale_of_the_model_wins_over_that_of_the_scan(rng: np.random.Generator) -> None:
    raw = scan(rng)
    own = raw.generate_grouped_data(N, nsamples=12, gridsize=1)
    assert own.scale == raw.input_scale()
    np.testing.assert_array_equal(own["X_full"], np.float32(raw.input_scale()) * own["diffraction"])
    params.cfg["input_scale"] = 3.0
    model = raw.generate_grouped_data(N, nsamples=12, gridsize=1)
    assert model.scale == 3.0
    np.testing.assert_array_equal(model["X_full"], 3 * own["diffraction"])
    np.testing.assert_array_equal(model["diffraction"], own["diffraction"])


def test_gridsize_falls_back_to_the_parameters(rng: np.random.Generator) -> None:
    params.cfg["gridsize"] = 2
    assert scan(rng).generate_grouped_data(N, nsamples=3)["nn_indices"].shape == (3, 4)
    assert scan(rng).generate_grouped_data(N, nsamples=3, gridsize=1)["nn_indices"].shape == (3, 1)


def test_options_of_the_groups_are_passed_on(rng: np.random.Generator) -> None:
    raw = scan(rng)
    first = raw.generate_grouped_data(N, nsamples=4, gridsize=2, sequential_sampling=True, dataset_path="unused")
    assert first["nn_indices"][:, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="enable_oversampling"):
        raw.generate_grouped_data(N, nsamples=40, gridsize=2)
    many = raw.generate_grouped_data(
        N, K=3, nsamples=40, gridsize=2, enable_oversampling=True, neighbor_pool_size=9, seed=1
    )
    assert many["nn_indices"].shape == (40, 4)
    again = raw.generate_grouped_data(
        N, nsamples=40, gridsize=2, enable_oversampling=True, neighbor_pool_size=9, seed=1
    )
    np.testing.assert_array_equal(many["nn_indices"], again["nn_indices"])
    with pytest.raises(DataError, match="set N to 8"):
        raw.generate_grouped_data(16, gridsize=1)


def test_group_options_are_passed_on(rng: np.random.Generator) -> None:
    y, x = np.mgrid[:4, :3] * 2.0
    raw = scan(rng, xcoords=x.ravel(), ycoords=y.ravel())
    options = GroupOptions(groups_per_seed=2, x_bounds=(0.4, 1.0), y_bounds=(0.0, 0.5))
    assert raw.seed_count(2, options=options) == 4
    grouped = raw.generate_grouped_data(N, nsamples=None, gridsize=2, options=options)
    assert sorted(grouped["nn_indices"][:, 0].tolist()) == [1, 1, 2, 2, 4, 4, 5, 5]
    assert grouped["X_full"].shape == (8, N, N, 4)
    assert raw.seed_count(2, options=GroupOptions("4_quadrant", K_quadrant=8)) == 2
    assert raw.seed_count(1) == raw.seed_count(2) == 12
    with pytest.raises(ConfigError, match="K=3 neighbours"):
        raw.seed_count(2, K=3)


def test_groups_of_a_part_say_which_part(rng: np.random.Generator) -> None:
    part = scan(rng).subsample(6, seed=1)
    grouped = part.generate_grouped_data(N, nsamples=6, gridsize=1)
    assert list(grouped)[-1] == "sample_indices"
    assert grouped["sample_indices"].tolist() == part.sample_indices.tolist()


# ------------------------------------------------------------------ frames on disk

STORED = ("npz", "packed npz", "older npz", "hdf5", "chunked hdf5", "map", "beside")


@pytest.fixture(params=["counts", "amplitude"])
def stored(request: pytest.FixtureRequest, rng: np.random.Generator, tmp_path: Path) -> ScanFile:
    """11 patterns of 64 x 64 with a mask per pattern, in counts, or in amplitude without a word on the units."""
    counts = rng.poisson(3, (11, 64, 64)).astype(np.uint16)
    return ScanFile(
        diff3d=counts if request.param == "counts" else np.sqrt(counts, dtype=np.float32),
        xcoords=rng.random(11) * 30 + 32,
        ycoords=rng.random(11) * 30 + 32,
        probeGuess=np.ones((64, 64), np.complex64),
        objectGuess=np.ones((90, 91), np.complex64),
        Y=(rng.random((11, 64, 64)) + 1j).astype(np.complex64),
        mask=rng.random((11, 64, 64)) > 0.1,
        metadata={"nphotons": 3.0 * 64**2},
        units="counts" if request.param == "counts" else None,
    )


def written(kind: str, scan: ScanFile, folder: Path) -> Path:
    """The scan in a file of this kind; what the kind has no place for is left out."""
    if "hdf5" in kind:
        with h5py.File(folder / "scan.h5", "w") as file:
            patterns = scan.diff3d if scan.units == "counts" else np.rint(scan.diff3d**2)
            file.create_dataset("patterns", data=patterns, chunks=True if "chunked" in kind else None)
            file["bad_pixels"], file["probe"], file["object"] = ~scan.mask[0], scan.probeGuess, scan.objectGuess
            file["probe_position_x_px"], file["probe_position_y_px"] = scan.xcoords - 0.5, scan.ycoords - 0.5
        return folder / "scan.h5"
    arrays = {key: np.asarray(value) for key, value in vars(scan).items() if value is not None and key != "metadata"}
    if kind == "older npz":
        arrays["diff3d"] = np.moveaxis(arrays["diff3d"], 0, -1)
    save = np.savez_compressed if kind == "packed npz" else np.savez
    save(folder / "scan.npz", _metadata='{"nphotons": 12288}', **arrays)
    made = make_map(folder / "scan.npz") if kind in ("map", "beside") else None
    return made if kind == "map" and made is not None else folder / "scan.npz"


@pytest.mark.parametrize("kind", STORED)
def test_frames_on_disk_give_the_same_numbers(kind: str, stored: ScanFile, tmp_path: Path) -> None:
    path = written(kind, stored, tmp_path)
    held, mapped = (RawData.from_file(path, memory_map=choice) for choice in ("never", "always"))
    assert isinstance(mapped.diff3d, np.memmap)
    assert not [key for key in ("diff3d", "Y", "mask") if isinstance(getattr(held, key), np.memmap)]
    assert held.units_decision == mapped.units_decision
    assert held.mean_energy == mapped.mean_energy
    assert held.input_scale() == mapped.input_scale()
    assert held.photons(1e4) == mapped.photons(1e4)
    assert held.metadata == mapped.metadata
    np.testing.assert_array_equal(held.amplitude([10, 0, 4]), mapped.amplitude([10, 0, 4]))
    np.testing.assert_array_equal(held.valid_mask, mapped.valid_mask)
    first, second = (raw.generate_grouped_data(64, K=5, nsamples=11, gridsize=2, seed=3) for raw in (held, mapped))
    for key in GROUPED_KEYS:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
    if "hdf5" not in kind:
        assert [type(array) for array in (mapped.Y, mapped.mask)] == [np.memmap] * 2
        assert first["Y"] is not None


def test_a_mapped_scan_is_written_as_it_was_read(stored: ScanFile, tmp_path: Path) -> None:
    raw = RawData.from_file(written("npz", stored, tmp_path), memory_map="always")
    raw.to_file(tmp_path / "again.npz")
    again = RawData.from_file(tmp_path / "again.npz")
    for key in ("diff3d", "Y", "mask", "xcoords", "probeGuess"):
        np.testing.assert_array_equal(getattr(again, key), getattr(raw, key), err_msg=key)


@pytest.mark.parametrize("budget", [0, 1 << 28])
def test_a_part_of_a_mapped_scan(
    budget: int, stored: ScanFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_data, "taken", functools.partial(taken, budget_bytes=budget, folder=tmp_path))
    path = written("map", stored, tmp_path)
    held, mapped = (RawData.from_file(path, memory_map=choice) for choice in ("never", "always"))
    before = sorted(file.name for file in tmp_path.iterdir())
    first, second = (raw.subsample(6, seed=2) for raw in (held, mapped))
    for key in ("diff3d", "Y", "mask"):
        found = getattr(second, key)
        assert isinstance(found, np.memmap) == (budget == 0)
        np.testing.assert_array_equal(found, getattr(first, key), err_msg=key)
    again = second.subsample(2, seed=1)
    np.testing.assert_array_equal(again.diff3d, stored.diff3d[again.sample_indices])
    assert again.units == mapped.units
    assert mapped.subsample(99).diff3d is mapped.diff3d
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def test_a_stale_map_is_refused_and_a_file_alone_is_not(stored: ScanFile, tmp_path: Path) -> None:
    path = written("beside", stored, tmp_path)
    written("npz", ScanFile(**{**vars(stored), "diff3d": stored.diff3d * 2}), tmp_path)
    with pytest.raises(DataError, match=r"ptycho dataset map .* --renew"):
        RawData.from_file(path)
    assert RawData.from_file(path, memory_map="never").diff3d.max() == 2 * stored.diff3d.max()
    with pytest.raises(ConfigError, match="memory_map='sometimes'"):
        RawData.from_file(path, memory_map="sometimes")  # type: ignore[arg-type]


# ------------------------------------------------------------------ real scans and the project's own words


def test_siemens_star_holds_counts(scan_dir: Path) -> None:
    raw = RawData.from_file(scan_dir / "siemens_star_128.npz")
    assert (len(raw), raw.N, raw.units) == (516, 128, "counts")
    assert raw.photons(461_000) == pytest.approx(461_213, rel=0.01)
    with pytest.warns(UserWarning, match="the patterns are believed"):
        assert raw.photons(1e9) == pytest.approx(461_213, rel=0.01)
    assert raw.input_scale() == pytest.approx(64 / np.sqrt(461_213), rel=0.005)
    grouped = raw.generate_grouped_data(128, K=7, nsamples=516, gridsize=2)
    assert grouped.amplitudes(grouped["nn_indices"][:3]).shape == (3, 128, 128, 4)


def test_siemens_star_as_floats_holds_counts_too(scan_dir: Path) -> None:
    raw = RawData.from_file(scan_dir / "siemens_star_128.npz")
    floats = RawData.from_coords_without_pc(
        raw.xcoords, raw.ycoords, raw.diff3d.astype(np.float32), raw.probeGuess, None
    )
    assert (floats.units, floats.units_decision.rule) == ("counts", "whole values")


def test_tungsten_holds_amplitude_and_a_mask(scan_dir: Path) -> None:
    raw = RawData.from_file(scan_dir / "tungsten_64.npz")
    assert (len(raw), raw.N, raw.units) == (20, 64, "amplitude")
    assert raw.units_decision.rule == "whole squares"
    assert raw.mask is not None
    assert not raw.amplitude([4])[0][~raw.mask].any()
    assert raw.photons(4e7) == 4e7


def test_a_simulated_scan_is_explained_by_its_object(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    truth = (0.7 + 0.3 * rng.random((30, 34))) * np.exp(1j * rng.random((30, 34)))
    probe = np.exp(-(np.hypot(*np.mgrid[-8:8, -8:8]) ** 2) / 20).astype(complex)
    x, y = rng.uniform(8, 25, 20), rng.uniform(8, 21, 20)
    made = RawData.from_simulation(x, y, probe, truth, np.arange(20), nphotons=1e7, rng=rng, units="counts")
    patches, dx, dy = extract_rounded(truth, x, y, 16)
    expected = diffract(made.probeGuess[None], patches, dx, dy)
    assert np.sqrt(np.sum((made.diff3d - expected) ** 2) / expected.sum()) == pytest.approx(1, rel=0.1)  # Poisson
    assert made.mean_energy == pytest.approx(1e7, rel=1e-2)
    np.testing.assert_array_equal(made.scan_index, np.arange(20))
    monkeypatch.setitem(params.cfg, "nphotons", 4e5)
    assert RawData.from_simulation(x, y, probe, truth).photons() == pytest.approx(4e5, rel=1e-2)


def test_a_turned_scan_keeps_its_units_and_leaves_its_object(rng: np.random.Generator) -> None:
    given = scan(rng, objectGuess=np.ones((40, 40), complex), units="counts")
    turned = given.turned(flip_y=True, transpose=True)
    np.testing.assert_array_equal(turned.xcoords, -given.ycoords)
    np.testing.assert_array_equal(turned.ycoords, given.xcoords)
    assert (turned.units, turned.objectGuess) == ("counts", None)
    assert turned.diff3d is given.diff3d
    assert given.turned() is given


@pytest.mark.parametrize(("nsamples", "told"), [(1, 1), (2, 0), (12, 0)])
def test_one_group_of_many_patterns_is_told(rng, nsamples: int, told: int, caplog: pytest.LogCaptureFixture) -> None:
    """Ptychodus asks for one where nobody says another number."""
    scan(rng).generate_grouped_data(N, nsamples=nsamples, gridsize=1)
    warned = [record.getMessage() for record in caplog.records if "NumSamples" in record.getMessage()]
    assert len(warned) == told
    assert all("1 of 12 patterns" in text and "to 12" in text for text in warned)


def test_flux_follows_its_patterns(patterns: RawData, tmp_path: Path) -> None:
    """Flux j at pattern j, whatever is made of the scan; what is kept of it is a copy with nothing else changed."""
    background = np.arange(64.0**2).reshape(64, 64)
    known = patterns.with_recording(np.arange(1.0, len(patterns) + 1), background)
    assert patterns.flux is None and known.diff3d is patterns.diff3d
    part = known.subsample(9, seed=2).subsample(5, seed=1)
    np.testing.assert_array_equal(part.flux, 1 + part.sample_indices)
    for other in (part, known.turned(transpose=True), known.with_probe(2 * known.probeGuess)):
        np.testing.assert_array_equal(other.background, background)
    np.testing.assert_array_equal(known.turned(transpose=True).flux, known.flux)
    assert known.recording.known.keys() == {"flux", "background"}
    assert "known flux, known background" in repr(known)
    assert known.identity == patterns.identity == patterns.recorded_identity
    assert len({one.recorded_identity.sha256 for one in (patterns, known, patterns.with_recording(known.flux))}) == 3


def test_a_background_goes_with_pixels_and_a_file_has_none(patterns: RawData, tmp_path: Path, caplog) -> None:
    known = patterns.with_recording(np.ones(len(patterns)), np.ones((64, 64)))
    assert known.fitted() is known
    with pytest.raises(DataError, match="background: expected patterns that stay as they are, 64 x 64"):
        known.fitted(crop=32)
    assert patterns.with_recording(known.flux).fitted(crop=32).flux is known.flux
    dimmed = known.with_recording(2 * known.flux)
    assert dimmed.background is known.background
    assert dimmed.with_recording(background=2 * known.background).flux is dimmed.flux
    known.save(tmp_path / "scan.npz")
    assert "a scan file has no flux and no background; what is known is left out" in caplog.text
    with pytest.raises(DataError, match="flux: expected"):
        patterns.with_recording(known.flux[1:])


def test_a_blur_goes_with_pixels(patterns: RawData, tmp_path: Path, caplog) -> None:
    known = patterns.with_recording(blur=0.8)
    assert patterns.blur is None and known.diff3d is patterns.diff3d and "known blur" in repr(known)
    same = [known.part(np.arange(5)), known.turned(flip_x=True), known.with_probe(2 * known.probeGuess)]
    same += [known.replaced(xcoords=known.xcoords + 1), known.fitted(crop=48), known.fitted(sizes=(128,))]
    same += [scan_part.taken(known, np.arange(4)), known.with_recording(np.ones(len(known)))]
    assert [one.recording.blur for one in same] == [0.8] * len(same)
    assert known.fitted(bin=2).blur == 0.4 and patterns.fitted(bin=2).blur is None
    assert known.with_recording(blur=0).blur is None
    told = {one.recorded_identity.sha256 for one in (patterns, known, known.with_recording(blur=0.9))}
    assert len(told) == 3 and known.identity == patterns.identity
    known.save(tmp_path / "scan.npz")
    assert "a scan file has no blur; what is known is left out" in caplog.text
    wide = patterns.with_recording(blur=8.0)
    with pytest.raises(DataError, match="blur: expected 0 to 4 pixels of a pattern of 32, found 8"):
        wide.fitted(crop=32)
    with pytest.raises(DataError, match="blur: expected 0 to 8 pixels of a pattern of 64, found 9"):
        patterns.with_recording(blur=9.0)


def test_probes_of_several_scans_go_with_patterns(patterns: RawData) -> None:
    """Whatever is made of a scan; a part of it keeps which patterns it has."""
    known = patterns.with_probe(patterns.probeGuess).subsample(9, seed=2)
    known.scan_probes = ScanProbes(2 * known.probeGuess[None, None], np.arange(9) % 2)
    for other in (
        known.replaced(xcoords=known.xcoords + 1),
        known.turned(flip_x=True),
        known.with_probe(2 * known.probeGuess),
        known.with_recording(blur=0.5),
    ):
        assert other.scan_probes == known.scan_probes
        assert other.sample_indices is known.sample_indices
    assert known.part(np.array([1, 4])).scan_probes == known.scan_probes.of(np.array([1, 4]))
    assert known.fitted() is known
    with pytest.raises(DataError, match=r"scans: expected patterns that stay as they are, 64 x 64.*before they are"):
        known.fitted(crop=32)


def test_flux_of_a_mapped_scan(fixture_file: Path, tmp_path: Path) -> None:
    scan = RawData.from_file(make_map(fixture_file, tmp_path / "scan.map"), memory_map="always")
    known = scan.with_recording(np.arange(1.0, len(scan) + 1)).subsample(7, seed=3)
    np.testing.assert_array_equal(known.flux, 1 + known.sample_indices)
    grouped = known.generate_grouped_data(64, K=4, nsamples=7, gridsize=1, input_scale=1.0)
    found = GroupContainer(grouped, known.probeGuess).arrays(slice(2, 5))[3]
    np.testing.assert_array_equal(found[:, 0, 0, 0], 1 + known.sample_indices[grouped["nn_indices"][2:5, 0]])


def test_what_was_subtracted_comes_to_amplitudes_and_is_known(rng: np.random.Generator) -> None:
    """Networks are given what is below 0 as 0; parts and cut-outs know it too."""
    counts = rng.poisson(9, (40, 16, 16)) - 9.5
    counts[:, 6:10, 6:10] += rng.poisson(80, (40, 4, 4))
    x = np.arange(40.0)
    data = RawData(x, x, None, None, counts, np.ones((16, 16), complex), units="counts")
    added = data.background
    assert added is not None
    again = data.amplitude().astype(float) ** 2 - added
    np.testing.assert_allclose(again, np.maximum(counts, -added), atol=1e-4)
    assert data.mean_energy == pytest.approx(counts.sum(axis=(1, 2)).mean())
    some = np.arange(3, 30, 4)
    for part in (data.part(some), scan_part.taken(data, some), data.turned(flip_x=True).part(some)):
        assert part.background is added
        np.testing.assert_allclose(part.amplitude(), data.amplitude(some))
    grouped = data.generate_grouped_data(16, nsamples=5, gridsize=1, input_scale=2.0)
    normalised, _, _, flux, beside = GroupContainer(grouped, data.probeGuess).arrays(slice(0, 5))
    points = grouped["nn_indices"][:5, 0]
    seen = cleared(normalised, flux, beside)[..., 0]
    np.testing.assert_allclose(seen, 2 * np.sqrt(np.maximum(counts[points], 0)), atol=1e-3)
    known = np.full((16, 16), 2.0)
    np.testing.assert_array_equal(data.with_recording(background=known).recorded(PLAIN).background, known)
    given = Recording(background=known)
    assert data.recorded(given).background is known and data.recorded(PLAIN).background is added

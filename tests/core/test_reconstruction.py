"""A reconstruction survives its files, and the ptychodus product says the same in metres."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.reconstruction_npz import NPZ_KEYS, read_npz, write_npz
from ptycho.core.formats.reconstruction_product import PRODUCT_KEYS, write_ptychodus_product
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.quality.foretold import Foretold
from ptycho.core.quality.trust import Trust
from ptycho.core.quality.uncertainty import Uncertainty
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.units import wavelength_m
from ptycho.errors import DataError, MissingFileError, OutputError

HEIGHT, WIDTH, N = 7, 10, 4


@pytest.fixture
def refined(rng: np.random.Generator) -> Reconstruction:
    def complex_array(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    return Reconstruction(
        object=complex_array(HEIGHT, WIDTH),
        coverage=rng.random((HEIGHT, WIDTH)).astype(np.float32),
        probe=complex_array(2, N, N),
        xcoords=np.array([2.0, 5.25, 8.0]),
        ycoords=np.array([2.0, 3.5, 5.0]),
        frame=ObjectFrame(height=HEIGHT, width=WIDTH, x0=-3, y0=11),
        backend="pytorch",
        method="network+refined",
        subpixel="fourier",
        network_object=complex_array(HEIGHT, WIDTH),
        error_history=(0.5, 0.125, 0.0625),
        counts_from=2,
        flux=np.array([0.9, 1.2, 0.9]),
        fly_path=rng.normal(0, 1, (3, 2, 2)),
        background=rng.random((N, N)),
        slices=complex_array(3, HEIGHT, WIDTH),
        gap=NearField(0.25, 0.01),
        variation=ProbeVariation(complex_array(2, N, N), rng.random((3, 2)) + 0j),
        blur=0.5,
        timings={"inference": 1.5, "stitching": 0.25},
        synchronised=True,
        agreement=(0.9, 0.99),
        uncertainty=Uncertainty(
            *rng.random((2, HEIGHT, WIDTH)).astype(np.float32),
            4,
            8,
            0.25,
            1.5,
            False,
            ("a model; wrong", "held"),
            2.25,
            1.75,
            "pass",
        ),
        spread=np.where(rng.random((HEIGHT, WIDTH)) < 0.2, np.nan, 0.5).astype(np.float32),
        trust=Trust(
            *rng.uniform(1, 2, (7, 3)),
            dose="stated",
            foretold=Foretold(np.array([0, 2]), *rng.uniform(1, 2, (4, 2))),
            faults=("the beam fell", 'a clause with "quotes"'),
            advice="--modes 2",
        ),
        metadata={"name": "star", "energy_eV": 8800.0, "distance_m": 2.0, "object_pixel_m": 2.5e-8, "nphotons": 1e5},
        provenance={"version": "0.2.0", "seeds": {"seed": 1}, "scan": {"sha256": None}},
    )


@pytest.fixture
def plain(refined: Reconstruction) -> Reconstruction:
    return replace(
        refined,
        method="network",
        subpixel="bilinear",
        network_object=None,
        error_history=(),
        counts_from=None,
        flux=None,
        fly_path=None,
        background=None,
        slices=None,
        gap=None,
        variation=None,
        blur=None,
        synchronised=False,
        spread=None,
        trust=None,
        uncertainty=None,
        metadata={},
        provenance={},
    )


@pytest.mark.parametrize("kind", ["refined", "plain"])
def test_npz_gives_back_every_field_exactly(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    written: Reconstruction = request.getfixturevalue(kind)
    read = read_npz(write_npz(written, tmp_path / "reconstruction.npz"))
    for field in fields(Reconstruction):
        expected, found = getattr(written, field.name), getattr(read, field.name)
        assert type(found) is type(expected), field.name
        if isinstance(expected, np.ndarray):
            assert found.dtype == expected.dtype, field.name
            np.testing.assert_array_equal(found, expected)
        elif field.name == "trust" and expected is not None:
            for name, value in vars(expected).items():
                np.testing.assert_array_equal(getattr(found, name), value)
        else:
            assert found == expected, field.name


def test_npz_holds_plain_arrays_under_these_names(tmp_path: Path, refined: Reconstruction) -> None:
    write_npz(refined, tmp_path / "reconstruction.npz")
    with np.load(tmp_path / "reconstruction.npz", allow_pickle=False) as file:
        # a probe changes from pattern to pattern or from scan to scan
        assert sorted(file.files) == sorted(set(NPZ_KEYS) - {"other_probes", "scan_of_pattern"})
        assert file["frame"].tolist() == [HEIGHT, WIDTH, -3, 11]
        assert file["xcoords"].dtype == np.float64
        np.testing.assert_array_equal(file["trust_ratio"], refined.trust.ratio)
        assert str(file["trust_verdict"]) == refined.trust.verdict


def test_bars_of_earlier_files_are_those_of_a_solution(tmp_path: Path, refined: Reconstruction) -> None:
    with np.load(write_npz(refined, tmp_path / "new.npz"), allow_pickle=False) as file:
        stored = {key: file[key] for key in file.files}
    for name in ("wide_amplitude", "wide_phase", "of"):
        del stored[f"uncertainty_{name}"]
    np.savez(tmp_path / "old.npz", **stored)
    known = read_npz(tmp_path / "old.npz").uncertainty
    assert known is not None and (known.of, known.wide_amplitude, known.wide_phase) == ("solution", 1.96, 1.96)


def test_what_was_not_measured_has_no_key(tmp_path: Path, plain: Reconstruction) -> None:
    with np.load(write_npz(plain, tmp_path / "a.npz"), allow_pickle=False) as file:
        missing = set(NPZ_KEYS) - set(file.files)
    assert missing == {key for key in NPZ_KEYS if key.startswith(("trust_", "uncertainty_"))} | {
        *("spread", "network_object", "counts_from", "flux", "fly_path", "background", "blur"),
        *("slices", "gap", "slice_distance_m", "probe_variation", "probe_coefficients"),
        *("other_probes", "scan_of_pattern"),
    }


@pytest.mark.parametrize(("section", "keys"), [("### NPZ", NPZ_KEYS), ("### Product", PRODUCT_KEYS)])
def test_the_contract_names_every_key(section: str, keys: tuple[str, ...]) -> None:
    contract = (Path(__file__).parents[2] / "specs" / "data_contracts.md").read_text(encoding="utf-8")
    table = contract.split(section)[1].split("\n#")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall(r"`([^`]+)`", row)] == list(keys)


def test_files_of_before_what_is_foretold_was_measured(tmp_path: Path, refined: Reconstruction) -> None:
    later = ("trust_foretold", "trust_faults", "trust_advice")
    with np.load(write_npz(refined, tmp_path / "a.npz")) as file:
        np.savez(tmp_path / "old.npz", **{key: file[key] for key in file.files if not key.startswith(later)})
    expected = replace(refined.trust, foretold=None, faults=(), advice="")
    assert read_npz(tmp_path / "old.npz").trust == expected != refined.trust


def test_equality_sees_where_a_result_is_from(refined: Reconstruction) -> None:
    assert refined == replace(refined)
    assert refined != replace(refined, provenance={**refined.provenance, "date": "2026-11-28T00:00:00+00:00"})
    assert refined != replace(refined, metadata={})


def test_files_of_before_have_neither(tmp_path: Path, plain: Reconstruction) -> None:
    with np.load(write_npz(plain, tmp_path / "a.npz")) as file:
        kept = {key: file[key] for key in file.files if key not in ("metadata", "provenance")}
    np.savez(tmp_path / "old.npz", **kept)
    assert read_npz(tmp_path / "old.npz") == plain
    np.savez(tmp_path / "odd.npz", **kept, metadata="[1]")
    with pytest.raises(DataError, match="list in the place of a JSON object"):
        read_npz(tmp_path / "odd.npz")


def test_a_result_of_the_near_field_stays_one(tmp_path: Path, refined: Reconstruction) -> None:
    """As that of a parallel beam, which is what a product can say."""
    length = wavelength_m(8800.0)
    near = NearField(0.1, length / 2.5e-8)
    found = replace(refined, metadata={**refined.metadata, **near.noted()})
    record = registry.read(write_ptychodus_product(found, tmp_path / "a.h5"))
    assert record.near_field
    told = NearField.of(record.metadata)
    assert told is not None
    assert (told.fresnel_number, told.wavelength_px) == pytest.approx((0.1, length / 2.5e-8))
    assert record.distance_m == pytest.approx(2.5e-8**2 / (0.1 * length))
    assert read_npz(write_npz(found, tmp_path / "a.npz")).metadata == found.metadata


def test_the_geometry_of_the_scan_goes_along(tmp_path: Path, refined: Reconstruction) -> None:
    """Whoever reads the files is asked for nothing: the product is in metres, and so is a picture made of either."""
    product = write_ptychodus_product(refined, tmp_path / "a.h5")
    with h5py.File(product) as file:
        assert (file.attrs["photon_energy_eV"], file.attrs["detector_object_distance_m"]) == (8800.0, 2.0)
        assert file["object"].attrs["pixel_width_m"] == 2.5e-8
        assert file.attrs["name"] == "star"
        assert "Unknown" not in file.attrs["comments"]
        assert json.loads(file["metadata"].asstr()[()]) == refined.metadata
        assert json.loads(file["provenance"].asstr()[()]) == refined.provenance
    for path in (product, write_npz(refined, tmp_path / "a.npz")):
        record = registry.read(path)
        assert (record.energy_eV, record.distance_m, record.object_pixel_m) == (8800.0, 2.0, 2.5e-8)
        assert record.metadata["name"] == "star"
        registry.write(tmp_path / "a.tif", record, "tiff")


def test_a_product_has_the_probes_of_all_scans(tmp_path: Path, plain: Reconstruction) -> None:
    shared = replace(plain, variation=ScanProbes(2 * plain.probe[None], np.array([0, 1, 1])))
    with h5py.File(write_ptychodus_product(shared, tmp_path / "a.h5")) as file:
        np.testing.assert_array_equal(file["probe"][0], shared.probe)
        np.testing.assert_array_equal(file["other_probes"][()], shared.probes[1:])
        assert file["scan_of_pattern"][()].tolist() == [0, 1, 1]


@pytest.mark.parametrize("change", [{"gap": None}, {"slices": None}, {"slices": np.ones((2, 3, 3), np.complex64)}])
def test_slices_have_the_shape_of_the_object_and_a_distance(refined: Reconstruction, change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="slices: expected"):
        replace(refined, **change)


def test_what_is_no_distance_between_slices_is_refused(tmp_path: Path, refined: Reconstruction) -> None:
    with np.load(write_npz(refined, tmp_path / "a.npz")) as file:
        np.savez(tmp_path / "b.npz", **{**dict(file), "gap": np.array([0.0, 0.0, 1.0])})
    with pytest.raises(DataError, match="expected two numbers, found"):
        read_npz(tmp_path / "b.npz")


def test_npz_bytes_repeat(tmp_path: Path, plain: Reconstruction) -> None:
    first = write_npz(plain, tmp_path / "a.npz").read_bytes()
    assert write_npz(plain, tmp_path / "b.npz").read_bytes() == first


def test_reading_what_is_no_reconstruction(tmp_path: Path, plain: Reconstruction) -> None:
    with pytest.raises(MissingFileError, match=r"gone\.npz: expected a reconstruction"):
        read_npz(tmp_path / "gone.npz")
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(DataError, match=r"text\.npz: expected a reconstruction"):
        read_npz(tmp_path / "text.npz")
    np.savez(tmp_path / "scan.npz", xcoords=np.zeros(3))
    with pytest.raises(DataError, match=r"expected the key 'frame' of a reconstruction, found \['xcoords'\]"):
        read_npz(tmp_path / "scan.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"array\.npy: expected a reconstruction"):
        read_npz(tmp_path / "array.npy")
    whole = write_npz(plain, tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half\.npz: expected a reconstruction"):
        read_npz(tmp_path / "half.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"object": np.ones((HEIGHT, WIDTH + 1), np.complex64)},
            r"object: expected shape \(7, 10\) .* \(7, 11\)",
        ),
        ({"coverage": np.ones((WIDTH, HEIGHT), np.float32)}, r"coverage: expected shape \(7, 10\)"),
        ({"network_object": np.ones((1, 1), np.complex64)}, "network_object: expected shape"),
        ({"probe": np.ones((N, N), np.complex64)}, r"probe: expected modes first, .* found \(4, 4\)"),
        ({"probe": np.ones((1, N, N + 1), np.complex64)}, r"probe: expected modes first"),
        (
            {"xcoords": np.zeros(2)},
            r"xcoords and ycoords: expected one shape \(n,\), found \(2,\) and \(3,\)",
        ),
        ({"spread": np.ones((2, 2), np.float32)}, "spread: expected shape"),
        ({"trust": Trust(*np.ones((7, 4)), dose="stated")}, "one number per position, found 4 for 3 positions"),
    ],
)
def test_parts_have_to_belong_together(refined: Reconstruction, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(refined, **change)


def test_product_has_everything_that_ptychodus_requires(tmp_path: Path, refined: Reconstruction) -> None:
    path = write_ptychodus_product(
        refined,
        tmp_path / "reconstruction.h5",
        2e-8,
        photon_energy_ev=8000.0,
        detector_distance_m=1.5,
        name="star",
    )
    with h5py.File(path) as file:
        assert dict(file.attrs.items()) == {
            "name": "star",
            "comments": "network+refined by the pytorch backend, sub-pixel shifts fourier. "
            f"Trust: {refined.trust.verdict}.",
            "detector_object_distance_m": 1.5,
            "photon_energy_eV": 8000.0,
            "probe_energy_eV": 8000.0,
            "probe_photon_count": pytest.approx(np.sum(np.abs(refined.probe) ** 2), rel=1e-6),
            "exposure_time_s": 0.0,
            "mass_attenuation_m2_per_kg": 0.0,
            "mass_attenuation_m2_kg": 0.0,
            "tomography_angle_deg": 0.0,
            "focus_object_distance_m": 0.0,
            "tilt_angle_deg": 0.0,
            "far_field": True,
        }
        assert file["probe_position_indexes"][()].tolist() == [0, 1, 2]
        assert file["probe"].shape == (1, 2, N, N)
        assert file["object"].shape == (1, HEIGHT, WIDTH)
        assert file["object"].dtype == np.complex64
        np.testing.assert_array_equal(file["object"][0], refined.object)
        np.testing.assert_array_equal(file["probe"][0], refined.probe)
        np.testing.assert_array_equal(file["coverage"][()], refined.coverage)
        np.testing.assert_array_equal(file["spread"][()], refined.spread)
        np.testing.assert_array_equal(file["slices"][()], refined.slices)
        assert file["slice_distance_m"][()] == pytest.approx(2.5e-8 / (0.25 * 0.01)) == refined.slice_distance_m
        np.testing.assert_array_equal(file["trust_ratio"][()], refined.trust.ratio)
        np.testing.assert_array_equal(file["uncertainty_phase"][()], refined.uncertainty.phase)
        assert not file["uncertainty_holds"][()] and file["uncertainty_wide_amplitude"][()] == 2.25
        assert sorted(file) == sorted(set(PRODUCT_KEYS) - {"other_probes", "scan_of_pattern"})
        for name in ("probe", "object"):
            assert (file[name].attrs["pixel_width_m"], file[name].attrs["pixel_height_m"]) == (2e-8, 2e-8)
        assert file["object_layer_spacing_m"].shape == (0,)
        assert file["loss_epochs"][()].tolist() == [0, 1, 2]
        assert file["loss_values"][()].tolist() == [0.5, 0.125, 0.0625]


@pytest.mark.parametrize(("size_offset", "centre_of_patch"), [(1, (N - 1) / 2), (0, N / 2)])
def test_product_positions_put_patches_where_they_are(
    tmp_path: Path, refined: Reconstruction, size_offset: int, centre_of_patch: float
) -> None:
    """Both ways of counting centres in ptychodus ((W-1)/2 from 1.6 on, W/2 before) begin a patch at x - N/2."""
    path = write_ptychodus_product(refined, tmp_path / "reconstruction.h5", pixel_size_m=0.25)
    with h5py.File(path) as file:
        for axis, size, ours in (("x", WIDTH, refined.xcoords), ("y", HEIGHT, refined.ycoords)):
            center_m = file["object"].attrs[f"center_{axis}_m"]
            theirs = (file[f"probe_position_{axis}_m"][()] - center_m) / 0.25 + (size - size_offset) / 2
            np.testing.assert_array_equal(theirs - centre_of_patch, ours - N / 2)


def test_product_metres_are_the_scans_own_pixels_times_the_pixel_size(tmp_path: Path, refined: Reconstruction) -> None:
    with h5py.File(write_ptychodus_product(refined, tmp_path / "a.h5", pixel_size_m=0.5)) as file:
        assert file["probe_position_x_m"][()].tolist() == [-0.5, 1.125, 2.5]
        assert file["probe_position_y_m"][()].tolist() == [6.5, 7.25, 8.0]
        assert (file["object"].attrs["center_x_m"], file["object"].attrs["center_y_m"]) == (1.0, 7.25)


def test_product_says_what_is_unknown(tmp_path: Path, plain: Reconstruction) -> None:
    with h5py.File(write_ptychodus_product(plain, tmp_path / "a.h5", photon_energy_ev=8000.0)) as file:
        assert file["object"].attrs["pixel_width_m"] == 1.0
        assert file.attrs["detector_object_distance_m"] == 1.0
        assert file.attrs["photon_energy_eV"] == 8000.0
        assert file.attrs["comments"].endswith("Unknown and set to 1: pixel size (m), detector distance (m).")
        assert file["loss_values"].shape == (0,)


def test_product_bytes_repeat(tmp_path: Path, refined: Reconstruction) -> None:
    first = write_ptychodus_product(refined, tmp_path / "a.h5").read_bytes()
    assert write_ptychodus_product(refined, tmp_path / "b.h5").read_bytes() == first


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_product_refuses_a_size_that_is_none(tmp_path: Path, plain: Reconstruction, value: float) -> None:
    with pytest.raises(DataError, match=r"pixel size \(m\): expected a positive number or None, found"):
        write_ptychodus_product(plain, tmp_path / "a.h5", pixel_size_m=value)
    assert list(tmp_path.iterdir()) == []


def test_files_need_a_folder(tmp_path: Path, plain: Reconstruction) -> None:
    for write in (write_npz, write_ptychodus_product):
        with pytest.raises(OutputError, match="expected the folder"):
            write(plain, tmp_path / "gone" / "a.h5")

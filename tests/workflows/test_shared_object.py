"""Scans of one object as one: positions in one frame, patterns in one unit, a probe for each; what cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.physics.near_field import NearField
from ptycho.core.scan.npz_file import write_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.shared_object import joined, moved, with_one_probe, with_own_probes

N = 8


def scan(rng, count: int, counts: bool = True, **metadata) -> RawData:
    patterns = rng.poisson(9.0, (count, N, N))
    values = patterns.astype(np.uint16) if counts else np.sqrt(patterns)
    probe = rng.standard_normal((N, N)) + 1j * rng.standard_normal((N, N))
    x, y = rng.uniform(4, 20, (2, count))
    units = "counts" if counts else "amplitude"
    return RawData(x, y, None, None, values, probe, metadata=metadata or None, units=units)


def test_patterns_follow_each_other_and_each_scan_is_there(rng) -> None:
    parts = [scan(rng, 3, name="a"), scan(rng, 2, name="b")]
    both = joined(parts)
    assert (len(both), both.units, both.diff3d.dtype) == (5, "counts", np.uint16)
    assert both.known_metadata["name"] == "a + b"
    np.testing.assert_array_equal(both.amplitude([1, 4]), [parts[0].amplitude([1])[0], parts[1].amplitude([1])[0]])
    np.testing.assert_array_equal(both.xcoords, np.concatenate([one.xcoords for one in parts]))
    np.testing.assert_array_equal(both.scan_probes.scan, [0, 0, 0, 1, 1])
    np.testing.assert_allclose(both.scan_probes.others[0, 0], parts[1].probeGuess)
    for one, part in zip(both.scans, parts, strict=True):
        assert np.shares_memory(one.diff3d, both.diff3d)
        np.testing.assert_array_equal(one.amplitude(), part.amplitude())
    assert both.identity.sha256 not in {part.identity.sha256 for part in parts}


def test_masks_and_parts_go_along(rng) -> None:
    one, other = scan(rng, 3), scan(rng, 2)
    other.mask = rng.random((N, N)) > 0.5
    both = joined([one, other])
    assert both.mask.shape == (5, N, N) and both.mask[:3].all()
    np.testing.assert_array_equal(both.mask[4], other.mask)
    np.testing.assert_array_equal(both.part(np.array([2, 3])).scan_probes.scan, [0, 1])


def test_what_is_known_of_the_beam_goes_along(rng) -> None:
    one, other = scan(rng, 3).with_recording([2.0, 3.0, 4.0]), scan(rng, 2)
    both = moved(joined([one, other]), np.array([[0.0, 0.0], [1.0, 2.0]]))
    np.testing.assert_array_equal(both.flux, [2, 3, 4, 1, 1])
    np.testing.assert_array_equal(both.scans[0].flux, [2, 3, 4])
    with pytest.raises(DataError, match="expected no known background, as it is one for the patterns of several"):
        joined([other, one.with_recording(background=np.ones((N, N)))])


def test_one_blur_of_one_detector_goes_along(rng) -> None:
    one, other = (scan(rng, count).with_recording(blur=0.5) for count in (3, 2))
    both = moved(joined([one, other]), np.array([[0.0, 0.0], [1.0, 2.0]]))
    assert both.blur == both.scans[1].blur == 0.5
    with pytest.raises(DataError, match=r"a blur of the detector of 0\.5 pixels as in scan 1, found 0 pixels"):
        joined([one, other.with_recording(blur=0)])


def test_doses_that_are_known_bring_amplitudes_to_roots_of_photons(rng) -> None:
    """A file in other units whose dose is stated counts as its photons, and its probe; unknown doses change nothing."""
    first = scan(rng, 3, counts=False, nphotons=9.0 * N * N)
    scaled = 0.25 * np.sqrt(rng.poisson(9.0, (2, N, N)) + 0.3)
    second = RawData(
        first.xcoords[:2], first.ycoords[:2], None, None, scaled, first.probeGuess, units="amplitude",
        metadata={"nphotons": float((16 * scaled**2).sum(axis=(1, 2)).mean())},
    )  # fmt: skip
    both = joined([first, second])
    np.testing.assert_allclose(both.amplitude([3, 4]), 4 * scaled, rtol=1e-5)
    np.testing.assert_allclose(both.scan_probes.others[0, 0], 4 * np.asarray(first.probeGuess))
    second.metadata = None
    np.testing.assert_allclose(joined([first, second]).amplitude([3, 4]), scaled, rtol=1e-5)


def test_positions_have_one_origin(rng) -> None:
    one, other = scan(rng, 3, origin_px=[10.0, -2.0]), scan(rng, 2, origin_px=[7.0, 1.0])
    both = joined([one, other])
    np.testing.assert_allclose(both.xcoords, np.concatenate([one.xcoords + 10, other.xcoords + 7]))
    np.testing.assert_allclose(both.ycoords, np.concatenate([one.ycoords - 2, other.ycoords + 1]))
    there = moved(both, np.array([[0.0, 0.0], [1.5, -3.0]]))
    np.testing.assert_allclose(there.xcoords - both.xcoords, [0, 0, 0, 1.5, 1.5])
    np.testing.assert_allclose(there.scans[1].ycoords, other.ycoords + 1 - 3)
    assert there.scan_probes is both.scan_probes and there.identity == both.identity


def test_probes_are_those_given_with_as_many_modes_each(rng) -> None:
    both = joined([scan(rng, 3), scan(rng, 2)])
    modes = rng.standard_normal((2, N, N)) + 0j
    with_modes = with_own_probes(both, [modes[0], modes])
    assert with_modes.probeGuess.shape == (2, N, N)
    np.testing.assert_array_equal(with_modes.scan_probes.others[0], modes)
    assert with_one_probe(both).scan_probes is None
    no_probe = RawData(
        *(getattr(both.scans[0], name) for name in ("xcoords", "ycoords")), None, None, both.scans[0].diff3d, None
    )
    without = joined([no_probe, scan(rng, 2)])
    assert not without.has_probe and without.scan_probes is None
    assert with_own_probes(without, [modes[0], modes[1]]).scan_probes.count == 2


def test_what_cannot_share_an_object_is_refused(rng, tmp_path) -> None:
    good = scan(rng, 3, energy_eV=8000.0, object_pixel_m=1e-8)
    with pytest.raises(ConfigError, match="expected two or more of one object, found 1"):
        joined([good])
    wide = RawData(good.xcoords, good.ycoords, None, None, np.ones((3, 16, 16)), np.ones((16, 16)), units="amplitude")
    write_scan(tmp_path / "wide.npz", wide.scan_file())
    with pytest.raises(DataError, match=r"wide\.npz: expected patterns of 8 pixels as in scan 1, found 16 pixels"):
        joined([good, RawData.from_file(tmp_path / "wide.npz")])
    for other, words in (
        ({"energy_eV": 8100.0, "object_pixel_m": 1e-8}, "the energy in eV 8000 as in scan 1, found 8100"),
        ({"energy_eV": 8000.0, "object_pixel_m": 2e-8}, "the pixel of the object in m 1e-08 as in scan 1, found 2e-08"),
        (NearField(0.1).noted(), "patterns of the far field as in scan 1, found near field"),
    ):
        with pytest.raises(DataError, match=words):
            joined([good, scan(rng, 2, **other)])
    near = [scan(rng, 2, **NearField(number).noted()) for number in (0.1, 0.2)]
    with pytest.raises(DataError, match=r"the Fresnel number 0\.1 as in scan 1, found 0\.2"):
        joined(near)
    assert replace(joined([near[0], near[0]]).near_field) == near[0].near_field

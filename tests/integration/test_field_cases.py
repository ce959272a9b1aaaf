"""Situations that people met with other programs: small scans, each with the one thing that is wrong with it.

What is wrong is said, and what the message advises is typed and helps.
"""

import argparse
import shlex
from pathlib import Path

import numpy as np
import pytest

from ptycho.cli.commands import dataset
from ptycho.core.doctor.findings import Diagnosis
from ptycho.core.doctor.frame_shift import ShiftTest, check_shift
from ptycho.core.doctor.preflight import preflight, refuse_faults
from ptycho.core.doctor.slip import slip_of
from ptycho.core.formats.opening import open_scan
from ptycho.core.scan.stream import ScanStream
from ptycho.errors import DataError, MissingFileError, PtychoError
from ptycho.raw_data import RawData
from ptycho.workflows.trust import photon_scale

FIELD = Path(__file__).parents[2].parent / "shared" / "cases" / "field"

pytestmark = pytest.mark.skipif(not FIELD.is_dir(), reason="no field cases: ../shared/cases/field is not there")


def found_in(name):
    return preflight(open_scan(FIELD / name))


def mended(diagnosis, name, folder) -> ScanStream:
    """The scan after the steps of `ptycho dataset` that the doctor says, typed as they are."""
    first, *_ = diagnosis.command(str(FIELD / name)).split(" && ")
    words = shlex.split(first)
    assert words[:2] == ["ptycho", "dataset"]
    parser = argparse.ArgumentParser()
    dataset.add_arguments(parser)
    words[words.index("-o") + 1] = str(folder / "mended.npz")
    assert dataset.run(parser.parse_args(words[2:])) == 0
    return open_scan(folder / "mended.npz")


@pytest.mark.parametrize(
    "name", ["small.npz", "mask_float64.cxi", "micrometer.cxi", "nonsquare.npz", "raster4d.npz", "eiger_u32max.npz"]
)
def test_what_is_right_passes(name):
    found = found_in(name)
    assert found.healthy, str(found)
    masked = found.named("mask").numbers["masked_share"]
    assert masked == pytest.approx(192 / 64**2 if name in ("mask_float64.cxi", "eiger_u32max.npz") else 0)


def test_counts_divided_by_their_maximum_tell_their_gain():
    data, right = RawData.from_file(FIELD / "counts_norm_max.npz"), RawData.from_file(FIELD / "small.npz")
    scale, dose = photon_scale(data, 1e9)
    assert dose == "measured" and scale * data.mean_energy == pytest.approx(right.mean_energy, rel=1e-5)
    assert data.photons() == pytest.approx(right.photons(), rel=1e-5)


def test_amplitudes_stored_as_integers_are_amplitudes_of_unknown_dose():
    data = RawData.from_file(FIELD / "int_amplitude.npz")
    assert data.units == "amplitude" and photon_scale(data, 1e9)[1] == "nominal"
    assert found_in("int_amplitude.npz").named("dose").severity == "note"


def test_a_beam_that_drops_is_named_with_the_pattern():
    found = found_in("beam_drop.npz").named("beam")
    assert found.severity == "warning" and found.numbers["first"] == 24
    assert found.numbers["ratio"] == pytest.approx(0.3, rel=0.1) and found.mend == ("reconstruct --flux",)


def test_a_probe_at_the_corner_is_named_and_nothing_else_is_wrong(tmp_path):
    found = found_in("probe_corner.npz")
    assert [one.name for one in found.findings if one.severity in ("warning", "fault")] == ["probe centre"]
    made = mended(found, "probe_corner.npz", tmp_path)
    np.testing.assert_array_equal(made.fields.probeGuess, RawData.from_file(FIELD / "small.npz").probeGuess)
    assert preflight(made).healthy


def test_one_insane_position_is_named_before_anything_of_its_size_is_made(tmp_path):
    found = found_in("pos_glitch_1e6.npz")
    with pytest.raises(DataError, match=r"Pattern 7 of 49 .* Mend it: ptycho dataset subsample .* --drop 7"):
        refuse_faults(found, "a.npz")
    made = mended(found, "pos_glitch_1e6.npz", tmp_path)
    assert len(made.frames) == 48 and preflight(made).healthy


def test_micrometres_taken_for_pixels_are_asked_for():
    with pytest.raises(DataError, match=r"within 0\.416 pixels: .* which\?.*--unit um --object-pixel-nm"):
        refuse_faults(found_in("pos_um.npz"), "a.npz")
    with pytest.raises(PtychoError, match=r"positions span 3\.36 x 3\.36, taken for m: .*which unit is it\?"):
        open_scan(FIELD / "um_no_units.cxi")


def test_sources_that_are_gone_are_named():
    with pytest.raises((DataError, MissingFileError), match=r"expected gone_0\.h5 in its folder, to which it links"):
        open_scan(FIELD / "vds_sources_gone.cxi")


@pytest.mark.slow
def test_a_frame_lost_in_the_middle_is_named_with_the_pattern(tmp_path):
    slip = slip_of(open_scan(FIELD / "dropped_middle.npz"))
    found = Diagnosis((check_shift(ShiftTest((), 0.0, 0.0, 0, 48), slip),))
    assert found.named("frame shift").numbers == {"frames": 1, "first": 24}
    made, right = mended(found, "dropped_middle.npz", tmp_path), RawData.from_file(FIELD / "small.npz")
    kept = np.delete(np.arange(48), 24)
    np.testing.assert_array_equal(made.fields.xcoords, right.xcoords[kept])
    np.testing.assert_array_equal(made.frames.read(np.arange(47)), right.diff3d[kept])

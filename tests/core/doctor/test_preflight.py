"""What must not be passed is named with what mends it."""

import numpy as np
import pytest

from ptycho.core.doctor.findings import Diagnosis, Finding
from ptycho.core.doctor.preflight import MENDING, blocking, preflight, refuse_faults
from ptycho.core.scan.stream import ScanStream
from ptycho.errors import DataError


def diagnosis(*found):
    return Diagnosis(tuple(Finding(name, severity, f"{name} it is.") for name, severity in found))


def test_a_sound_scan_passes(scan):
    found = preflight(ScanStream.of(scan.scan_file()))
    assert found.healthy
    refuse_faults(found, "scan.npz")


def test_only_faults_that_void_an_object_stop():
    some = diagnosis(("overlap", "fault"), ("units", "warning"), ("hot pixels", "fault"), ("dose", "warning"))
    assert blocking(some) == []
    refuse_faults(some, "scan.npz")


@pytest.mark.parametrize("name", MENDING)
def test_each_names_what_mends_it(name):
    with pytest.raises(DataError) as caught:
        refuse_faults(diagnosis(("dose", "warning"), (name, "fault")), "my scan.npz")
    text = str(caught.value)
    assert text.startswith(f"my scan.npz: {name}: {name} it is. Mend it: ") and text.endswith("go on with --force")
    assert "{scan}" not in text and ("'my scan.npz'" in text) == ("{scan}" in MENDING[name])


def test_further_faults_are_counted():
    with pytest.raises(DataError, match=r"\(1 more: ptycho doctor s\.npz\)"):
        refuse_faults(diagnosis(("units", "fault"), ("order", "fault")), "s.npz")


def test_metres_taken_for_pixels_stop(scan):
    fields = scan.scan_file()
    metres = {"xcoords": fields.xcoords * 1e-8, "ycoords": fields.ycoords * 1e-8, "objectGuess": None}
    stream = ScanStream.of(type(fields)(**{**vars(fields), **metres}))
    assert np.ptp(stream.fields.xcoords) < 1e-4
    with pytest.raises(DataError, match="place: All positions lie within"):
        refuse_faults(preflight(stream), "scan.npz")


def test_patterns_that_were_not_centred_stop(scan):
    fields = scan.scan_file()
    moved = np.fft.ifftshift(fields.diff3d, axes=(1, 2))
    with pytest.raises(DataError, match=r"centre: The zero frequency is at the corner .* ptycho dataset recentre"):
        refuse_faults(preflight(ScanStream.of(type(fields)(**{**vars(fields), "diff3d": moved}))), "scan.npz")


@pytest.mark.parametrize("value", [1e5, -1e12, np.nan])
def test_a_position_far_from_all_others_is_named_with_the_command(scan, value):
    fields = scan.scan_file()
    x = fields.xcoords.copy()
    x[[2, 4]] = value
    found = preflight(ScanStream.of(type(fields)(**{**vars(fields), "xcoords": x, "objectGuess": None})))
    with pytest.raises(DataError, match=r"ptycho dataset subsample scan.npz -o scan-mended.npz --drop 2,4 &&"):
        refuse_faults(found, "scan.npz")


def test_a_pattern_that_is_no_numbers_is_left_out_and_its_pixels_are_not_masked(scan):
    fields = scan.scan_file()
    patterns = np.array(fields.diff3d, np.float32)
    patterns[3], patterns[1, 5, 6] = np.nan, -7
    found = preflight(ScanStream.of(type(fields)(**{**vars(fields), "diff3d": patterns}))).named("numbers")
    assert found.mend == ("mask --invalid", "subsample --drop 3") and found.numbers["broken"] == [3]
    patterns[1] = 1
    found = preflight(ScanStream.of(type(fields)(**{**vars(fields), "diff3d": patterns}))).named("numbers")
    assert found.mend == ("subsample --drop 3",) and "mask" not in found.sentence


def test_micrometres_of_a_few_pixels_under_a_wide_probe_stop(scan):
    fields = scan.scan_file()
    near = {"xcoords": 64 + (fields.xcoords - 64) * 0.01, "ycoords": 64 + (fields.ycoords - 64) * 0.01}
    with pytest.raises(DataError, match=r"not in pixels; which\?"):
        refuse_faults(preflight(ScanStream.of(type(fields)(**{**vars(fields), **near}))), "scan.npz")


@pytest.mark.parametrize("where", [(3,), (3, 10, 12)])
def test_one_insane_pattern_is_named_and_nothing_is_masked_for_it(scan, where):
    fields = scan.scan_file()
    patterns = np.array(fields.diff3d, np.float32)
    patterns[where] = 1e12
    found = preflight(ScanStream.of(type(fields)(**{**vars(fields), "diff3d": patterns})))
    assert [one.name for one in found.findings if one.severity in ("warning", "fault")] == ["dose"]
    assert found.named("dose").mend == ("subsample --drop 3",)


def test_nothing_is_masked_where_all_is_saturated(scan):
    fields = scan.scan_file()
    patterns = np.full(fields.diff3d.shape, 65534, np.uint16)
    found = preflight(ScanStream.of(type(fields)(**{**vars(fields), "diff3d": patterns}))).named("saturation")
    assert (found.severity, found.mend) == ("fault", ())


@pytest.mark.parametrize("nphotons", [10**400, 0, -5.0, "many", [1], float("nan")], ids=lambda value: str(value)[:9])
def test_a_dose_that_is_no_number_is_named(scan, nphotons):
    fields = scan.scan_file()
    metadata = {**(fields.metadata or {}), "nphotons": nphotons}
    found = preflight(ScanStream.of(type(fields)(**{**vars(fields), "metadata": metadata}))).named("dose")
    assert found.severity == "warning" and "nphotons" in found.sentence and len(found.sentence) < 160

"""One line mends all that can be mended, and the commands take it as it is."""

import shlex

import numpy as np

from ptycho.cli.command import parser_of
from ptycho.core.doctor import examine
from ptycho.core.doctor.findings import Diagnosis, Finding, Severity
from ptycho.core.doctor.mending import mending, ranges
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream


def parsed(line: str) -> None:
    parser = parser_of("ptycho")
    for part in line.split(" && "):
        program, *arguments = shlex.split(part)
        assert program == "ptycho"
        parser.parse_args(arguments)


def test_the_flags_of_a_step_come_together_and_steps_in_their_order() -> None:
    asked = ["turn --transpose --flip-x", "mask --hot", "recentre --shift=-4,1", "mask --dead", "mask --hot"]
    line = mending(asked, "my scan.npz")
    assert line == (
        "ptycho dataset mask 'my scan.npz' -o 'my scan-mended.npz' --hot --dead && "
        "ptycho dataset recentre 'my scan-mended.npz' -o 'my scan-mended.npz' --shift=-4,1 && "
        "ptycho dataset turn 'my scan-mended.npz' -o 'my scan-mended.npz' --transpose --flip-x && "
        "ptycho reconstruct 'my scan-mended.npz'"
    )
    parsed(line)


def test_how_a_scan_is_read_is_said_once_where_it_is_read() -> None:
    only_units = mending(["--units counts", "reconstruct --probe patterns"], "a.npz")
    assert only_units == "ptycho reconstruct a.npz --units counts --probe patterns"
    with_step = mending(["--units counts", "mask --hot"], "a.npz")
    assert with_step == (
        "ptycho dataset mask a.npz -o a-mended.npz --hot --units counts && ptycho reconstruct a-mended.npz"
    )
    parts = ["--patterns", "a.h5", "--scan-positions", "p.csv:x,y", "--unit", "um"]
    put_together = mending(["move --frames=-1"], "a.h5", parts)
    assert put_together == (
        "ptycho convert a-mended.npz --patterns a.h5 --scan-positions p.csv:x,y --unit um && "
        "ptycho dataset move a-mended.npz -o a-mended.npz --frames=-1 && ptycho reconstruct a-mended.npz"
    )
    for line in (only_units, with_step, put_together):
        parsed(line)
    assert mending(["reconstruct"], "a.h5", parts).startswith("ptycho reconstruct --patterns a.h5")


def test_numbers_of_patterns_are_not_used_after_they_have_changed() -> None:
    line = mending(["subsample --drop 3,7-9", "move --frames=2"], "a.npz")
    assert "--drop" not in line and "--frames=2" in line
    assert "--drop 3,7-9" in mending(["subsample --drop 3,7-9", "move --scale 0.8"], "a.npz")


def test_notes_ask_for_nothing() -> None:
    def diagnosis(severity: Severity, *mend: str) -> Diagnosis:
        return Diagnosis((Finding("hot pixels", severity, "1 hot pixel.", {}, mend),))

    assert diagnosis("note", "mask --hot").command() == diagnosis("fault").command() == mending([], "a.npz") == ""
    assert "Mend it" not in diagnosis("note", "mask --hot").text()
    text = diagnosis("warning", "mask --hot").text("a.npz", flags=["--units", "counts"])
    assert text.splitlines()[-2].startswith(
        "Mend it: ptycho dataset mask a.npz -o a-mended.npz --hot --units counts &&"
    )


def test_ranges_are_short() -> None:
    assert ranges([]) == ""
    assert ranges(np.array([0, 1, 2, 5, 8, 9])) == "0-2,5,8-9"


def test_what_the_doctor_finds_is_mended_by_a_line_that_can_be_typed() -> None:
    """Hot and dead pixels, NaN, dark patterns, off centre, saturated: all in one."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-16:16, -16:16]
    lit = 300 * np.exp(-((y - 6) ** 2 + (x + 1) ** 2) / 60)
    data = np.minimum(rng.poisson(lit, (40, 32, 32)), 200).astype(np.float64)
    data[:, 2, 3], data[:, 21, 14], data[5, 9, 9] = 230, 0, np.nan
    data[[11, 12, 30]] = 0
    scan = ScanFile(data, 4 * np.arange(40.0), rng.random(40), None, units="counts")
    diagnosis = examine(ScanStream.of(scan), reconstructions=False)
    line = diagnosis.command("scan.npz")
    for flag in ("--hot", "--dead", "--invalid", "--above 200", "--drop 11-12,30", "--shift=-6,1"):
        assert flag in line
    parsed(line)
    named = {flag for finding in diagnosis.findings for mend in finding.mend for flag in mend.split()}
    assert named <= set(shlex.split(line)) | {"mask", "subsample", "recentre"}

"""Shadows that move with the scan are near field where no beam in the window could move them so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.doctor import examine
from ptycho.core.doctor.near_field import check_field, follow_shadows
from ptycho.core.doctor.statistics import gather
from ptycho.core.formats.opening import open_scan
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import disk_probe
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.objects import make_object
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.core.simulation.scan_paths import raster_positions

N, MAGNIFIED = 64, 15.0
"""Object pixels of the positions in one of the detector."""


def near_field(photons: float = 1e6, kind: str = "siemens_star") -> ScanFile:
    """A beam of 40 detector pixels, its shadow where `wavelength distance / pixel^2` is 3."""
    rng = np.random.default_rng(2)
    sample = make_object(kind, (120, 120), np.random.default_rng(1))
    x, y = raster_positions((120, 120), N, 6, 2, rng)
    patches, _, _ = extract_rounded(sample, x, y, N)
    f = np.fft.fftfreq(N)
    free_space = np.exp(-3j * np.pi * (f[:, None] ** 2 + f**2))
    fields = np.fft.ifft2(np.fft.fft2(disk_probe(N, 40) * patches) * free_space)
    intensity = np.abs(fields) ** 2
    counts = rng.poisson(photons * intensity / intensity.sum(axis=(1, 2)).mean()).astype(np.uint32)
    known = {"object_pixel_size_m": 1e-8, "detector_pixel_size_m": 1e-5}
    return ScanFile(counts, MAGNIFIED * x, MAGNIFIED * y, None, units="counts", metadata=known)


def far_field(kind: str, photons: float = 1e6, **settings) -> ScanFile:
    settings = {"N": 64, "shape": (120, 120), "step": 7.0, "seed": 3, **settings}
    made = expose(*plan_scan(ScanSettings(kind=kind, photons=photons, units="counts", **settings)))
    return ScanFile(made.diffraction, made.xcoords, made.ycoords, made.probe, units="counts")


def followed(scan: ScanFile):
    stream = ScanStream.of(scan)
    return follow_shadows(stream, gather(stream))


@pytest.mark.parametrize(("photons", "mirrored"), [(1e4, False), (1e6, True)])
def test_a_near_field_is_named_with_its_numbers(photons: float, mirrored: bool) -> None:
    scan = near_field(photons)
    scan = replace(scan, xcoords=1000 - scan.xcoords, ycoords=scan.ycoords) if mirrored else scan
    test = followed(scan)
    finding = check_field(test, scan.metadata)
    assert finding.severity == "fault"
    assert "looks like near field" in finding.sentence
    assert 1 / test.speed == pytest.approx(MAGNIFIED, rel=0.06)
    assert test.width == pytest.approx(0.95 * 40 * MAGNIFIED, rel=0.15)
    # D = 570 pixels of 10 nm, wavelength distance = 64 x 10 nm x 10 um
    assert finding.numbers["fresnel_number"] == pytest.approx(5.7e-6**2 / 6.4e-12, rel=0.35)
    assert check_field(test, None).numbers["fresnel_number"] is None
    # a shadow moves by so many detector pixels of 10 um for an object pixel of 10 nm
    magnification = finding.numbers["magnification"]
    assert magnification == pytest.approx(1000 / MAGNIFIED, rel=0.03)
    assert finding.mend == (f"--near-field {magnification:.4g}",)
    assert check_field(test, None).mend == ()
    assert "--energy-keV, --distance-m and --detector-pixel-um" in check_field(test, None).sentence


@pytest.mark.parametrize(("off", "severity"), [(1.0, "ok"), (1.3, "warning")])
def test_in_near_field_the_magnification_is_looked_at(off: float, severity: str) -> None:
    scan = near_field()
    known = {"near_field": {"fresnel_number": 1 / 3, "wavelength_px": 0.0}}
    said = replace(scan, xcoords=off * scan.xcoords / MAGNIFIED, ycoords=off * scan.ycoords / MAGNIFIED, metadata=known)
    diagnosis = examine(ScanStream.of(said), reconstructions=False)
    finding = diagnosis.named("near field")
    assert finding.severity == severity, finding.sentence
    assert diagnosis.named("dose").numbers["photons_per_pattern"] > 1e5
    assert "not examined" in diagnosis.named("probe").sentence


CONE = {"probe_settings": {"pupil_radius": 20.0, "defocus": 7.0}}


@pytest.mark.parametrize("kind", ["siemens_star", "smooth"])
def test_the_cone_of_a_defocused_beam_is_a_far_field(kind: str) -> None:
    """Shadows move in it too, by the ratio of cone and beam: 2 x 20 pixels over 2 x 64 x 7 / 20."""
    scan = far_field(kind, 1e7, **CONE)
    test = followed(scan)
    if test.moves:
        assert test.speed == pytest.approx(40 / 44.8, rel=0.2)
        assert "cone of a beam" in check_field(test, None).sentence
    assert check_field(test, None).severity == "ok"
    assert kind != "siemens_star" or test.moves


@pytest.mark.parametrize(
    ("kind", "photons", "settings"),
    [
        ("lines", 1e7, {}),
        ("lines", 1e7, {"probe_settings": {"defocus": 0.5}}),
        ("siemens_star", 1e4, {"probe": "disk"}),
        ("siemens_star", 1e7, {"probe": "gaussian"}),
    ],
)
def test_far_fields_are_not_taken_for_near(kind: str, photons: float, settings) -> None:
    assert check_field(followed(far_field(kind, photons, **settings)), None).severity == "ok"


def test_a_few_points_or_one_place_show_nothing() -> None:
    scan = far_field("lines")
    few = replace(scan, diff3d=scan.diff3d[:8], xcoords=scan.xcoords[:8], ycoords=scan.ycoords[:8])
    one_place = replace(scan, xcoords=0 * scan.xcoords, ycoords=0 * scan.ycoords)
    for each in (few, one_place):
        assert followed(each) is None
    assert check_field(None, None).severity == "note"


def test_a_large_detector_is_binned() -> None:
    """Speeds stay in pixels of the detector."""
    scan = near_field()
    large = replace(scan, diff3d=np.repeat(np.repeat(scan.diff3d, 3, axis=1), 3, axis=2))
    assert followed(large).speed == pytest.approx(3 / MAGNIFIED, rel=0.06)


def test_real_scans_are_told_apart(scan_dir: Path) -> None:
    for name, severity in (
        ("petra_p25_near_field.cxi", "fault"),
        ("siemens_star_128.npz", "ok"),
        ("tungsten_64.npz", "ok"),
    ):
        finding = examine(open_scan(scan_dir / name), reconstructions=False).named("near field")
        assert finding.severity == severity, finding.sentence
        if severity == "fault":  # that with which the star is sharp (docs/benchmarks.md)
            assert finding.numbers["magnification"] == pytest.approx(307.7, rel=0.003)

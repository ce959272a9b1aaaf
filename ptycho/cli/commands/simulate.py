"""`ptycho simulate`: make a scan with a known object and write it as a scan file."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho.cli.scan_flags import Pair, scan_file
from ptycho.errors import ConfigError

if TYPE_CHECKING:
    from ptycho.core.simulation.exposure import ScanPlan
    from ptycho.core.simulation.plan import ScanSettings

SUMMARY = "make a scan with a known object and write it as a scan file"

_log = logging.getLogger(__name__)
_ARRAYS = (".npy", ".npz", ".h5", ".hdf5", ".cxi")
"""Suffixes of files that hold arrays; any other is a picture."""
_SHOWN_PATTERNS = 64
"""Patterns, spread over the scan, that the preview averages."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; what is left out makes 576 patterns of 64 x 64 pixels in a second."""
    from ptycho.core.physics.probes import PROBES
    from ptycho.core.simulation.objects import OBJECTS
    from ptycho.core.simulation.plan import ScanSettings
    from ptycho.core.simulation.scan_paths import SCAN_PATHS

    usual = ScanSettings()
    parser.add_argument(
        "-o", "--output", type=scan_file, required=True, metavar="SCAN.npz", help="the scan file to write"
    )
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="write a picture of it, too")
    parser.add_argument("--seed", type=int, default=usual.seed, help="of everything that is random")
    parser.add_argument("--no-truth", action="store_true", help="leave the object out of the file")

    group = parser.add_argument_group("object")
    group.add_argument("--kind", choices=OBJECTS, default=usual.kind, help="what the object shows")
    group.add_argument(
        "--object", type=Path, metavar="FILE", help="take the object from NPY, NPZ, HDF5 or a picture instead"
    )
    group.add_argument("--phase-picture", type=Path, metavar="FILE", help="second picture, for the phase")
    group.add_argument("--size", type=_SIZES, metavar="H[,W]", help="sides of the object, pixels (default: 4 N)")
    group.add_argument(
        "--amplitude", action=Pair, default=usual.amplitude, metavar=("LOW", "HIGH"), help="lowest and highest"
    )
    group.add_argument(
        "--phase", action=Pair, default=usual.phase, metavar=("LOW", "HIGH"), help="lowest and highest, radians"
    )
    group.add_argument(
        "--object-setting", type=_SETTING, action="append", default=[], metavar="NAME=VALUE", help="of the kind"
    )

    group.add_argument(
        "--slices", type=int, default=usual.slices, help="of a thick sample, 2 to 20, each with an object of its own"
    )
    group.add_argument("--thickness", type=float, metavar="METRES", help="of the whole sample, with --slices")
    group.add_argument("--energy-keV", type=float, metavar="X", help="of the photons; with --slices, and for the file")
    group.add_argument(
        "--object-pixel-nm", type=float, metavar="X", help="side of a pixel; with --slices, and for the file"
    )

    group = parser.add_argument_group("probe")
    group.add_argument(
        "--N",
        type=int,
        help=f"side of a pattern, pixels; networks take 64, 128, 256 (default: the probe file's, or {usual.N})",
    )
    group.add_argument("--probe", choices=PROBES, default=usual.probe, help="kind of probe")
    group.add_argument("--probe-file", type=Path, metavar="FILE", help="take the probe from NPY, NPZ or HDF5 instead")
    group.add_argument(
        "--probe-setting", type=_SETTING, action="append", default=[], metavar="NAME=VALUE", help="of the kind"
    )
    group.add_argument(
        "--aberration",
        type=_ABERRATION,
        action="append",
        default=[],
        metavar="J=RADIANS",
        help="Zernike polynomial of a zone plate's pupil by Noll's index, and its coefficient",
    )
    group.add_argument(
        "--modes", type=_POWERS, default=usual.modes, metavar="P,P,...", help="powers of incoherent modes"
    )
    group.add_argument(
        "--probe-drift",
        type=float,
        default=usual.probe_drift,
        metavar="WAVES",
        help="of defocus at the edge of its far field, that its focus drifts by from the first pattern to the last",
    )

    group = parser.add_argument_group("scan")
    group.add_argument("--path", choices=SCAN_PATHS, default=usual.path, help="how the probe moves")
    apart = group.add_mutually_exclusive_group()
    apart.add_argument("--step", type=float, help="distance of neighbouring positions, pixels (default: N/8)")
    apart.add_argument(
        "--overlap", type=float, help="linear overlap of neighbours, of the disk with 90 %% of the probe's energy"
    )
    apart.add_argument("--count", type=int, help="number of positions, about")
    group.add_argument("--jitter", type=float, default=usual.jitter, help="largest known displacement, pixels")
    group.add_argument(
        "--position-error", type=float, default=usual.position_error, help="sigma of the unknown one, pixels"
    )
    group.add_argument(
        "--fly", type=float, default=usual.fly, help="share of each step that the stage moves during a pattern, 0 to 1"
    )
    group.add_argument(
        "--stage-scale",
        action=Pair,
        default=usual.stage_scale,
        metavar=("X", "Y"),
        help="true positions are so many times farther apart than the file says",
    )
    group.add_argument(
        "--stage-rotation", type=float, default=usual.stage_rotation, help="and turned by so many degrees"
    )
    group.add_argument(
        "--stage-shear", type=float, default=usual.stage_shear, help="and the axes so many degrees less than 90 apart"
    )
    group.add_argument(
        "--backlash",
        action=Pair,
        default=usual.backlash,
        metavar=("X", "Y"),
        help="unknown pixels between lines there and back (--path snake)",
    )

    group = parser.add_argument_group("detector")
    group.add_argument(
        "--fresnel-number",
        type=float,
        default=usual.fresnel_number,
        metavar="F",
        help="of a pixel, p^2 / (wavelength distance): near field at that distance (default: far field)",
    )
    group.add_argument("--photons", type=float, default=usual.photons, help="mean number of photons per pattern")
    group.add_argument("--no-noise", action="store_true", help="store what is expected instead of counting photons")
    group.add_argument("--units", choices=("amplitude", "counts"), default=usual.units, help="what to store")
    group.add_argument("--gap-width", type=int, default=usual.gap_width, help="of gaps between modules, pixels")
    group.add_argument("--gap-offset", type=int, default=usual.gap_offset, help="of the gaps from the middle, pixels")
    group.add_argument("--bad-pixels", type=float, default=usual.bad_pixels, help="fraction of pixels that are bad")
    group.add_argument(
        "--background", type=float, default=usual.background, metavar="COUNTS", help="in every pixel, beside --photons"
    )
    group.add_argument(
        "--detector-blur",
        type=float,
        default=usual.detector_blur,
        metavar="SIGMA",
        help="standard deviation of the Gaussian that each pixel's light spreads over, pixels",
    )
    group.add_argument("--beam-stop", type=float, default=usual.beam_stop, help="its diameter, pixels")


def run(options: argparse.Namespace) -> int:
    """Simulate, write and report."""
    from ptycho.core.simulation.exposure import expose_to_file
    from ptycho.core.simulation.plan import plan_scan
    from ptycho.core.simulation.truth_files import read_probe

    probe = None if options.probe_file is None else read_probe(options.probe_file, options.N)
    settings = _scan_settings(options)
    if probe is not None:
        settings = dataclasses.replace(settings, N=probe.shape[-1])
    plan, rng = plan_scan(settings, object=_object(options), probe=probe)
    described = {**dataclasses.asdict(settings), **_sources(options)}
    metadata = {"simulation": described, **settings.geometry}
    expose_to_file(plan, rng, options.output, metadata, truth=not options.no_truth)
    _report(plan, options.output)
    if options.preview is not None:
        _preview(plan, options.output, options.preview)
    return 0


def _scan_settings(options: argparse.Namespace) -> ScanSettings:
    from ptycho.core.simulation.plan import ScanSettings

    probe_settings = dict(options.probe_setting)
    if options.aberration:
        probe_settings["aberrations"] = dict(options.aberration)
    names = {field.name for field in dataclasses.fields(ScanSettings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    return ScanSettings(
        **given,
        shape=options.size,
        object_settings=dict(options.object_setting),
        probe_settings=probe_settings,
        noise=not options.no_noise,
    )


def _object(options: argparse.Namespace) -> Any:
    """The object from a file, or None where the settings describe it."""
    from ptycho.cli.pictures import read_picture
    from ptycho.core.simulation.objects import object_from_images
    from ptycho.core.simulation.truth_files import read_object

    path = options.object
    if path is None or path.suffix.lower() in _ARRAYS:
        if options.phase_picture is not None:
            raise ConfigError("--phase-picture: expected --object with a picture beside it, found none; name both")
        if path is not None and options.size is not None:
            raise ConfigError(f"--size: expected no size for an object from {path}, found one; leave it out")
        return None if path is None else read_object(path)
    picture = read_picture(path)
    second = picture if options.phase_picture is None else read_picture(options.phase_picture)
    return object_from_images(picture, second, options.size, options.amplitude, options.phase)


def _sources(options: argparse.Namespace) -> dict[str, str]:
    """The files that the simulation drew from, for the metadata."""
    names = {name: getattr(options, name) for name in ("object", "phase_picture", "probe_file")}
    return {f"{name}_from": path.name for name, path in names.items() if path is not None}


def _preview(plan: ScanPlan, scan: Path, picture: Path) -> None:
    import numpy as np

    from ptycho.core.formats.opening import open_scan
    from ptycho.figures.simulation import save_plan_png

    n = len(plan.xcoords)
    patterns = open_scan(scan).frames.read(np.arange(0, n, 1 + n // _SHOWN_PATTERNS))
    _log.info("Wrote %s", save_plan_png(plan, patterns, picture))


def _report(plan: ScanPlan, path: Path) -> None:
    from ptycho.core.physics.diffraction import as_modes
    from ptycho.core.physics.probes import probe_diameter

    height, width = plan.object.shape[-2:]
    N, diameter = plan.probe.shape[-1], probe_diameter(plan.probe)
    _log.info(
        "Object %d x %d pixels; probe 90 %% of it in %.1f pixels, %d mode(s)",
        height,
        width,
        diameter,
        len(as_modes(plan.probe)),
    )
    if plan.mask is not None:
        _log.info("%.2f %% of the detector is masked", 100 * (1 - plan.mask.mean()))
    size = path.stat().st_size / 1e6
    _log.info(
        "Wrote %s: %d patterns of %d x %d, %s, %g photons each, %.1f MB",
        path,
        len(plan.xcoords),
        N,
        N,
        plan.units,
        plan.photons,
        size,
    )


def _reader(expected: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """An argument type that says what it expected."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text}") from None

    return checked


def _number(text: str) -> float | int:
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


def _tuple(text: str, lengths: tuple[int, ...], read: Callable[[str], Any] = float) -> tuple[Any, ...]:
    parts = tuple(read(part) for part in text.split(","))
    if lengths and len(parts) not in lengths:
        raise ValueError(text)
    return parts


def _assignment(text: str, name: Callable[[str], Any], value: Callable[[str], Any]) -> tuple[Any, Any]:
    left, equals, right = text.partition("=")
    if not (left and equals):
        raise ValueError(text)
    return name(left), value(right)


def _one_or_more(text: str) -> Any:
    numbers = _tuple(text, (), _number)
    return numbers if len(numbers) > 1 else numbers[0]


_POWERS = _reader("numbers with commas between them", lambda text: _tuple(text, ()))
_SIZES = _reader("one or two whole numbers, H,W", lambda text: (2 * _tuple(text, (1, 2), int))[:2])
_ABERRATION = _reader("J=RADIANS, for example 5=0.8", lambda text: _assignment(text, int, float))
_SETTING = _reader("NAME=NUMBER or NAME=NUMBER,NUMBER", lambda text: _assignment(text, str, _one_or_more))

"""`ptycho dataset`: a scan made from a scan, block by block, so that it may be larger than memory."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho.cli.commands import _scan_maps
from ptycho.cli.scan_flags import add_scan, scan_file, stream_from
from ptycho.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ptycho.core.scan.stream import ScanStream

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "make a scan from a scan: subsample, split, move, crop, bin, recentre, mask, turn, dtype, merge; map, unmap"

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one subparser per operation."""
    operations = parser.add_subparsers(dest="operation", required=True, metavar="OPERATION")

    def add(name: str, text: str, inputs: bool = False, parts: bool = False) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = _scan_maps.add_operation(operations, name, text)
        if parts:
            add_scan(made)
        elif inputs:
            made.add_argument("scans", type=Path, nargs="+", metavar="SCAN", help="scan files of one sample and probe")
        else:
            made.add_argument("scan", type=Path, metavar="SCAN", help="scan file of any format, or scan map")
        if name != "split":
            made.add_argument("-o", "--output", type=scan_file, required=True, metavar="OUT", help="scan file to write")
        if not parts:
            made.add_argument("--units", choices=("amplitude", "counts"), help="what the diffraction patterns hold")
        made.add_argument("--compress", action="store_true", help="deflate the arrays: smaller and slower to read")
        return made

    subsample = add("subsample", "keep some of the patterns")
    subsample.add_argument("--n", type=int, metavar="N", help="keep N, drawn at random, in scan order")
    subsample.add_argument("--seed", type=int, default=0, help="of that draw")
    subsample.add_argument("--every", type=int, metavar="K", help="keep each K-th")
    subsample.add_argument("--keep", type=_ranges, metavar="I,J-K", help="keep these, counted from 0")
    subsample.add_argument("--drop", type=_ranges, metavar="I,J-K", help="leave these out, counted from 0")
    split = add("split", "split into a training and a test scan that lie side by side")
    split.add_argument("--train", type=scan_file, required=True, metavar="OUT", help="training scan to write")
    split.add_argument("--test", type=scan_file, required=True, metavar="OUT", help="test scan to write")
    split.add_argument("--fraction", type=float, default=0.2, help="share of the points in the test scan")
    split.add_argument("--axis", choices=("x", "y"), default="y", help="coordinate along which to cut")
    split.add_argument("--gap", type=float, default=0.0, help="pixels before the cut that neither part gets")
    move = add("move", "multiply positions by a factor, or pair them with the patterns anew", parts=True)
    move.add_argument("--scale", type=float, default=1.0, metavar="F", help="factor for all coordinates")
    move.add_argument(
        "--frames", type=int, default=0, metavar="K", help="pattern j gets position j + K; what gets none is left out"
    )
    move.add_argument("--first", type=int, default=0, metavar="J", help="pattern from which on --frames holds")
    move.add_argument("--last", type=int, metavar="J", help="last pattern for which it holds (default: to the end)")
    crop = add("crop", "keep the central pixels of the detector; object pixels grow")
    crop.add_argument("--size", type=int, required=True, metavar="N", help="side that is kept, pixels")
    binned = add("bin", "add up detector pixels; the window of a pattern shrinks")
    binned.add_argument("--factor", type=int, default=2, metavar="F", help="F x F pixels become one")
    centre = add("recentre", "move the zero frequency to [N/2, N/2]")
    centre.add_argument(
        "--shift", type=_pair, metavar="DY,DX", help="pixels to move the patterns by (default: found by the probe)"
    )
    centre.add_argument(
        "--probe", action="store_true", help="move the light of the probe to its middle (patterns by --shift alone)"
    )
    mask = add("mask", "mark bad detector pixels")
    mask.add_argument("--bad", type=Path, metavar="NPY", help="boolean array (N, N), True where a pixel is bad")
    mask.add_argument("--pixels", type=_pixels, metavar="Y,X;Y,X", help="these pixels")
    mask.add_argument("--above", type=float, metavar="VALUE", help="pixels that reach this value in any pattern")
    mask.add_argument(
        "--invalid",
        action="store_true",
        help="pixels that are in any pattern NaN, infinite, or negative where no background was subtracted",
    )
    mask.add_argument("--hot", action="store_true", help="pixels that ptycho doctor calls hot")
    mask.add_argument("--dead", action="store_true", help="pixels that ptycho doctor calls dead")
    turn = add("turn", "exchange or reverse the axes of the detector, first --transpose")
    for name, text in (
        ("transpose", "exchange y and x"),
        ("flip-y", "reverse the rows"),
        ("flip-x", "reverse the columns"),
    ):
        turn.add_argument(f"--{name}", action="store_true", help=text)
    dtype = add("dtype", "change the type of the patterns; integers are rounded")
    dtype.add_argument("--to", required=True, metavar="TYPE", help="uint16, float32, ...")
    add("merge", "join several scans of one sample and probe", inputs=True)
    _scan_maps.add_arguments(operations)


def run(options: argparse.Namespace) -> int:
    """Read, change and write, or keep a scan map; 0."""
    if options.operation in _scan_maps.OPERATIONS:
        return _scan_maps.run(options)
    from ptycho.core.formats.opening import open_scan
    from ptycho.core.scan.stream import write_stream

    if options.operation == "move":
        streams = [stream_from(options, options.scan, fitting=False)]
    else:
        paths = options.scans if options.operation == "merge" else [options.scan]
        streams = [open_scan(path, options.units) for path in paths]
    streams = [_with_units(stream) for stream in streams]
    for output, stream in _OPERATIONS[options.operation](streams, options).items():
        write_stream(output, stream, options.compress)
        logger.info("%s: %d patterns of %d x %d, %s", output, *stream.frames.shape, stream.frames.dtype)
    return 0


Outputs = dict[Path, "ScanStream"]


def _subsample(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    import numpy as np

    from ptycho.core.scan_edit.points import subsample, subset

    (stream,), total = streams, len(streams[0].frames)
    given = {name: getattr(options, name) for name in ("n", "every", "keep", "drop")}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise ConfigError(f"subsample: expected one of --n, --every, --keep and --drop, found {chosen or 'none'}")
    if chosen[0] in ("n", "every"):
        return {options.output: subsample(stream, options.n, options.every, options.seed)}
    indices = np.array(given[chosen[0]], np.intp)
    if indices.max() >= total:
        raise ConfigError(
            f"--{chosen[0]}: expected numbers below {total}, the patterns there are, found {indices.max()}"
        )
    kept = np.unique(indices) if chosen[0] == "keep" else np.setdiff1d(np.arange(total), indices)
    return {options.output: subset(stream, kept)}


def _split(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    from ptycho.core.scan_edit.points import split_by_position

    train, test = split_by_position(streams[0], options.fraction, options.axis, options.gap)
    if options.train == options.test:
        raise ConfigError(f"split: expected two files to write, found {options.train} twice; name another")
    return {options.train: train, options.test: test}


def _move(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    from ptycho.core.scan_edit.points import move_positions

    return {options.output: move_positions(streams[0], options.scale, options.frames, options.first, options.last)}


def _crop(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    from ptycho.core.scan_edit.detector import crop_detector

    limit = min(streams[0].frames.shape[1:])
    if options.size > limit:
        raise ConfigError(f"--size: expected an even size from 2 to {limit}, found {options.size}")
    return {options.output: crop_detector(streams[0], options.size)}


def _bin(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    from ptycho.core.scan_edit.detector import bin_detector

    return {options.output: bin_detector(streams[0], options.factor, _units(streams[0]))}


def _recentre(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    from ptycho.core.scan_edit.centre import find_centre, mean_intensity
    from ptycho.core.scan_edit.detector import recentre, recentre_probe

    (stream,), shift = streams, options.shift
    if options.probe:
        stream, shift = recentre_probe(stream), shift or (0, 0)
    if shift is None:
        mean = mean_intensity(stream.frames, _units(stream), stream.fields.mask)
        centre = find_centre(mean, stream.fields.probeGuess)
        dy, dx = centre.offset
        shift = centre.shift(mean.shape)
        where = "the probe's far field" if centre.fits else "[N/2, N/2], by its mass"
        logger.info("the mean pattern lies (%+.1f, %+.1f) pixels (y, x) from %s", dy, dx, where)
    logger.info("patterns moved by (%d, %d) pixels (y, x)", *shift)
    return {options.output: recentre(stream, *shift)}


def _mask(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    import numpy as np

    from ptycho.core.doctor.detector import dead_pixels, faulty_pixels
    from ptycho.core.doctor.statistics import gather
    from ptycho.core.scan_edit.detector import mask_pixels

    (stream,) = streams
    _, height, width = stream.frames.shape
    bad = np.zeros((height, width), bool)
    if options.bad is not None:
        bad |= _bad_pixels(options.bad, bad.shape)
    for y, x in options.pixels or ():
        if not (y < height and x < width):
            raise ConfigError(
                f"--pixels: expected rows below {height} and columns below {width}, found {y},{x}; correct it"
            )
        bad[y, x] = True
    if options.invalid or options.hot or options.dead or options.above is not None:
        statistics = gather(stream)
        bad |= statistics.unusable if options.invalid else False
        bad |= faulty_pixels(statistics, stream.fields) if options.hot else False
        bad |= dead_pixels(statistics) if options.dead else False
        bad |= statistics.highest >= options.above if options.above is not None else False
    elif options.bad is None and not options.pixels:
        raise ConfigError(
            "mask: expected pixels to mark, found none; give --bad, --pixels, --above, --invalid, --hot or --dead"
        )
    logger.info("%d of %d detector pixels marked as bad", int(bad.sum()), bad.size)
    return {options.output: mask_pixels(stream, bad)}


def _turn(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    from ptycho.core.quality.orientation import Orientation
    from ptycho.core.scan_edit.detector import turn_detector

    return {
        options.output: turn_detector(streams[0], Orientation(options.transpose, options.flip_y, options.flip_x)),
    }


def _dtype(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    import numpy as np

    from ptycho.core.scan_edit.points import change_dtype

    try:
        wanted = np.dtype(options.to)
    except TypeError as error:
        raise ConfigError(
            f"--to {options.to}: expected a type such as uint16 or float32, found none of NumPy"
        ) from error
    return {options.output: change_dtype(streams[0], wanted)}


def _merge(streams: list[ScanStream], options: argparse.Namespace) -> Outputs:
    from ptycho.core.scan_edit.points import merge

    return {options.output: merge(streams)}


_OPERATIONS: dict[str, Callable[[list[Any], argparse.Namespace], Outputs]] = {
    "subsample": _subsample,
    "split": _split,
    "move": _move,
    "crop": _crop,
    "bin": _bin,
    "recentre": _recentre,
    "mask": _mask,
    "turn": _turn,
    "dtype": _dtype,
    "merge": _merge,
}


def _with_units(stream: ScanStream) -> ScanStream:
    """The scan with its units on record: a part of it might be taken for something else."""
    from ptycho.core.scan.stream import stream_units

    try:
        units = stream_units(stream)
    except DataError as error:
        logger.warning("%s", error)
        return stream
    return replace(stream, fields=replace(stream.fields, units=units))


def _units(stream: ScanStream) -> Any:
    """What the patterns hold; DataError where nothing tells."""
    from ptycho.core.scan.stream import stream_units

    return stream_units(stream)


def _bad_pixels(path: Path, shape: tuple[int, ...]) -> Any:
    from ptycho.core.files.damage import readable
    from ptycho.core.files.npz import read_npy

    with readable(path, "a NumPy array (.npy)", ConfigError, "name another one"):
        bad = read_npy(path)
    if bad.shape != shape or bad.dtype.kind not in "biuf":
        raise ConfigError(f"{path}: expected one array of shape {shape}, found {bad.dtype} {bad.shape}")
    return bad.astype(bool)


def _ranges(text: str) -> list[int]:
    """'3,10-12' as [3, 10, 11, 12]."""
    numbers: list[int] = []
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdecimal() for end in ends):
            raise argparse.ArgumentTypeError(f"expected numbers and ranges such as 3,10-12, found {text}")
        numbers += range(int(ends[0]), int(ends[-1]) + 1)
    if not numbers:
        raise argparse.ArgumentTypeError(f"expected numbers and ranges such as 3,10-12, found {text}")
    return numbers


def _pair(text: str) -> tuple[int, int]:
    try:
        dy, dx = (int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected two whole numbers DY,DX, found {text}") from error
    return dy, dx


def _pixels(text: str) -> list[tuple[int, int]]:
    pixels = [_pair(part) for part in text.split(";")]
    if any(min(pixel) < 0 for pixel in pixels):
        raise argparse.ArgumentTypeError(f"expected rows and columns of at least 0, found {text}")
    return pixels

"""Several scans of one object as one scan: their positions in one laboratory frame, each with its own probe and dose.

Scans that overlap only in part, or with nothing but a neighbour (a mosaic), are the same thing. Where all doses are
known, the patterns are in roots of photons, so that each counts as much as its photons tell.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.scratch import SCRATCH_BYTES, scratch_array
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.probes import with_modes
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.scaling import recorded_photons, to_amplitude
from ptycho.core.scan.identity import ScanIdentity
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.points import merge
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

__all__ = ["joined", "moved", "with_one_probe", "with_own_probes"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

ALIKE = 1e-3
"""Relative difference of sizes of pixels, energies and Fresnel numbers that are the same."""


def joined(scans: Sequence[RawData]) -> RawData:
    """Scans of one object as one, pattern by pattern in their order; `scans` of it are views of the same patterns.

    Positions are those of the files, moved to one origin where the files say where theirs is (`origin_px`). Without a
    probe in each of them there is none. The patterns stand once in memory, or, where one scan is a memory map, in a
    temporary file above `ptycho.core.files.scratch.SCRATCH_BYTES`.

    Raises:
        ConfigError: fewer than two scans.
        DataError: other pixels, sizes of patterns, wavelengths, near with far field, a known background of one, or
            blurs that differ.
    """
    if len(scans) < 2:
        raise ConfigError(f"scans: expected two or more of one object, found {len(scans)}; name another")
    for other in scans[1:]:
        _check_alike(scans[0], other)
    factors = _roots_of_photons(scans)
    counts = all(scan.units == "counts" for scan in scans) and set(factors) == {1.0}
    streams = [_stream(scan, factor, counts) for scan, factor in zip(scans, factors, strict=True)]
    whole = merge(streams, one_probe=False)
    mapped = any(isinstance(scan.diff3d, np.memmap) for scan in scans)
    budget = SCRATCH_BYTES if mapped else whole.frames.nbytes
    patterns = whole.frames.into(scratch_array(whole.frames.shape, whole.frames.dtype, budget))
    fields = replace(whole.fields, diff3d=patterns, Y=None, probeGuess=None, metadata=_metadata(scans))
    made = RawData(**vars(fields), blur=scans[0].blur)
    bounds = np.cumsum([0, *map(len, scans)])
    made.scans = tuple(
        scan.replaced(**{**vars(stream.fields), "diff3d": patterns[low:high], "Y": None})
        for scan, stream, low, high in zip(scans, streams, bounds[:-1], bounds[1:], strict=True)
    )
    if any(scan.flux is not None for scan in scans):
        made.flux = np.concatenate([np.ones(len(scan)) if scan.flux is None else scan.flux for scan in scans])
    digest = hashlib.sha256(" ".join(scan.identity.sha256 for scan in scans).encode()).hexdigest()
    made.made_of = ScanIdentity(" + ".join(scan.identity.name for scan in scans), digest)
    if all(scan.has_probe for scan in scans):
        made = with_own_probes(made, [scan.probeGuess for scan in made.scans])
    return made


def with_own_probes(data: RawData, probes: Sequence[Array]) -> RawData:
    """Joined scans with a probe `(N, N)` or `(M, N, N)` for each; all get as many modes as the one with most."""
    count = max(len(as_modes(np.asarray(probe))) for probe in probes)
    own = [with_modes(np.asarray(probe), count) for probe in probes]
    index = np.repeat(np.arange(len(data.scans)), [len(scan) for scan in data.scans])
    scans = tuple(scan.with_probe(probe) for scan, probe in zip(data.scans, own, strict=True))
    return _made(data, scans, ScanProbes(np.stack(own[1:]), index), probeGuess=own[0])


def with_one_probe(data: RawData) -> RawData:
    """Joined scans with the probe of the first for all of them."""
    return _made(data, data.scans, None)


def moved(data: RawData, offsets: NDArray[np.float64]) -> RawData:
    """Joined scans, each moved as a whole.

    Args:
        data: of `joined`.
        offsets: (S, 2) x and y by which the positions of each scan change, pixels.
    """
    steps = np.repeat(offsets, [len(scan) for scan in data.scans], axis=0)
    scans = tuple(
        scan.replaced(**_moved(scan, np.broadcast_to(step, (len(scan), 2))))
        for scan, step in zip(data.scans, offsets, strict=True)
    )
    return _made(data, scans, data.scan_probes, **_moved(data, steps))


def _moved(scan: RawData, steps: Array) -> dict[str, Any]:
    fields = scan.scan_file()
    pairs = {"xcoords": 0, "ycoords": 1, "xcoords_start": 0, "ycoords_start": 1}
    return {
        name: None if getattr(fields, name) is None else getattr(fields, name) + steps[:, axis]
        for name, axis in pairs.items()
    }


def _made(data: RawData, scans: tuple[RawData, ...], probes: ScanProbes | None, **fields: Any) -> RawData:
    """The joined scan of these scans with other arrays."""
    other = data.replaced(**fields)
    other.scans, other.scan_probes, other.made_of = scans, probes, data.made_of
    return other


def _stream(scan: RawData, factor: float, counts: bool) -> ScanStream:
    """A scan with its positions from the common origin, in counts or in amplitudes times a factor."""
    x0, y0 = (scan.metadata or {}).get("origin_px") or (0.0, 0.0)
    steps = np.broadcast_to((float(x0), float(y0)), (len(scan), 2))
    units = scan.units
    fields = replace(scan.scan_file(), units=units, **_moved(scan, steps))
    if any((x0, y0)):
        fields = replace(fields, objectGuess=None)  # whose pixels are those of the positions as they were
    stream = ScanStream.of(fields)
    if counts or (units == "amplitude" and factor == 1):
        return stream
    frames = stream.frames.map(lambda values: factor * to_amplitude(values, units), None, np.float32)
    probe = None if fields.probeGuess is None else factor * fields.probeGuess
    return ScanStream.joined(frames, None, replace(fields, units="amplitude", probeGuess=probe, Y=None))


def _roots_of_photons(scans: Sequence[RawData]) -> list[float]:
    """What brings the amplitudes of each scan to roots of photons; 1 for all where a dose is not known."""
    scales = [photon_scale(scan, NOMINAL_PHOTONS) for scan in scans]
    if any(dose == "nominal" for _, dose in scales):
        return [1.0] * len(scans)
    # what was recorded with a dose scatters about it
    return [1.0 if abs(scale - 1) < 0.02 else float(np.sqrt(scale)) for scale, _ in scales]


def _metadata(scans: Sequence[RawData]) -> dict[str, Any]:
    """That of the first, with the names of all and their mean dose."""
    found = {key: value for key, value in (scans[0].metadata or {}).items() if key not in ("nphotons", "origin_px")}
    doses = [recorded_photons(scan.metadata) for scan in scans]
    if all(dose is not None for dose in doses):
        found["nphotons"] = float(np.average(np.array(doses, float), weights=[len(scan) for scan in scans]))
    return {**found, "name": " + ".join(str(scan.known_metadata["name"]) for scan in scans)}


def _check_alike(first: RawData, other: RawData) -> None:
    """Raise DataError where two scans cannot share an object."""
    for scan in (first, other):
        if scan.background is not scan.added:
            raise DataError(
                f"{scan.name}: expected no known background, as it is one for the patterns of several scans, found "
                "one; have it found with the object (--background)"
            )
    if first.N != other.N:
        raise _unlike(first, other, "patterns of", f"{first.N} pixels", f"{other.N} pixels", "--crop or --bin")
    if first.blur != other.blur:
        one, another = (f"{scan.blur or 0:.6g} pixels" for scan in (first, other))
        raise _unlike(first, other, "a blur of the detector of", one, another)
    if (first.near_field is None) != (other.near_field is None):
        one, another = ("far field" if scan.near_field is None else "near field" for scan in (first, other))
        raise _unlike(first, other, "patterns of the", one, another)
    if first.near_field is not None and other.near_field is not None:
        _check_number(first, other, "Fresnel number", first.near_field.fresnel_number, other.near_field.fresnel_number)
    for name, key in (("energy in eV", "energy_eV"), ("pixel of the object in m", "object_pixel_m")):
        _check_number(first, other, name, *(scan.known_metadata.get(key) for scan in (first, other)))


def _check_number(first: RawData, other: RawData, name: str, one: float | None, another: float | None) -> None:
    if one is not None and another is not None and abs(one - another) > ALIKE * abs(one):
        raise _unlike(first, other, f"the {name}", f"{one:.6g}", f"{another:.6g}")


def _unlike(first: RawData, other: RawData, what: str, one: str, another: str, flag: str = "") -> DataError:
    mend = f"bring them to one ({flag})" if flag else "leave it out, or reconstruct it by itself"
    return DataError(
        f"{other.path or 'scan 2'}: expected {what} {one} as in {first.path or 'scan 1'}, found {another}; {mend}"
    )

"""The error bars of a reconstruction, by a parametric bootstrap: counts drawn anew from it, and refined from there.

The model at the solution, with its flux, background, blur and modes, says how many photons every pixel of every pattern
expects. Poisson numbers about these are refined as the scan was, with everything that moved there but the positions,
which are held. Begun at the solution a refinement has nothing but noise to fit, which takes a few iterations; so many
more on the scan itself say how much of the way was left.
"""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from ptycho.config.options import IterationOptions
from ptycho.core.files.scratch import scratch_array
from ptycho.core.physics.diffraction import as_modes, diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import probe_diameter
from ptycho.core.quality.trust import NOISE, Trust
from ptycho.core.quality.uncertainty import ObjectSpread, Uncertainty
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.steps.raster import scanned_area
from ptycho.core.result import percent
from ptycho.core.scaling import frame_blocks
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.iterate import first_flux
from ptycho.workflows.solver import Refine
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

__all__ = ["check_uncertainty", "expected_photons", "measure_uncertainty", "redrawn", "scanned_field"]

logger = logging.getLogger(__name__)

DRAWS, ITERATIONS = 4, 8
"""Draws, and iterations of each: with more of either the deviations differ by 1 to 3 % (docs/uncertainty.md)."""
SPARSE, SPARSE_ITERATIONS = 0.4, 24
"""Overlap of neighbours below which slow phases are held so little that draws need more iterations, and how many."""
UNFINISHED = 0.45
"""Way left, in standard deviations, from which on the numbers do not hold: up to 0.4 it was seen to do no harm."""
NARROW = 1.05
"""Error of the scan over that of the draws from which on it is said that the numbers are too small; up to `NOISE` they
hold. Noise that was fitted is missing in both, but not in what noise leaves of a known object: a deviance of 1 times
that may be 15 % above what it should be."""


def check_uncertainty(data: RawData, options: IterationOptions, network: bool) -> None:
    """What can be known to have no error bars, before anything is reconstructed.

    Args:
        data: the scan, or several.
        options: of the iteration.
        network: whether it begins with what a network knows.

    Raises:
        ConfigError: what is asked for beside it. DataError: a scan that does not tell how many photons it has.
    """
    for expected, given, found in (
        ("one scan", bool(data.scans), f"{len(data.scans)} that share an object"),
        (
            "iteration alone",
            network,
            "a network, or an array, whose knowledge is no noise (--model, --train, --start; of one pass alone "
            "ptycho_inference --no-refine --uncertainty finds error bars)",
        ),
        ("a far field", data.near_field is not None, "a near one, whose slow phases spread further than this tells"),
        ("a thin object", options.slices > 1, f"slices={options.slices}"),
        ("an object of which nothing is known", options.object_prior is not None, "--object-prior"),
        ("the same probe in all patterns", options.variable_probe > 0, "--variable-probe"),
    ):
        if given:
            raise ConfigError(f"--uncertainty: expected {expected}, found {found}; leave one of both out")
    if photon_scale(data, NOMINAL_PHOTONS)[1] == "nominal":
        raise DataError(
            f"{data.name}: --uncertainty: expected counts, or amplitudes with the dose in the metadata (nphotons), "
            "found neither, so that the noise is not known; state the dose"
        )


def measure_uncertainty(
    found: Reconstruction,
    data: RawData,
    refine: Refine,
    options: IterationOptions,
    made_probe: bool = False,
    draws: int = DRAWS,
    iterations: int | None = None,
) -> Uncertainty:
    """How far photon noise takes every pixel of a result.

    Args:
        found: of `ptycho.workflows.iteration.iterate` on this scan, with its trust.
        data: the scan, with the probe that the iteration began with; it tells how many photons it has.
        refine: `refine(scan, start, iterations, *, likelihood, refine_probe, ...)` of a backend.
        options: of the iteration.
        made_probe: as of `iterate`.
        draws: 2 or more.
        iterations: of each; None: as many as the overlap of neighbours asks for.

    Raises:
        ConfigError, DataError: as `check_uncertainty`.
    """
    check_uncertainty(data, options, network=found.method != "refined")
    within, overlap = scanned_field(found)
    if iterations is None:
        iterations = ITERATIONS if overlap >= SPARSE else SPARSE_ITERATIONS
    moves = options.refine_probe is not False
    further = partial(
        refine,
        start=found,
        iterations=iterations,
        likelihood="amplitude" if found.counts_from is None else "poisson",
        refine_probe=moves,
        refine_flux=first_flux(data, options, found) is not None,
        refine_background=options.background_family,
        refine_blur=options.detector_blur == "find" and found.blur is not None,
        scale="object" if made_probe else "probe",
        tolerance=0.0,
    )
    expected = expected_photons(found, data)
    spread, left = ObjectSpread(found.object, found.coverage, moves, within), []
    for stream in np.random.SeedSequence(options.seed).spawn(draws):
        drawn = further(redrawn(data, expected, np.random.default_rng(stream)))
        spread.add(drawn.object)
        left.append(drawn.error_history[drawn.kept])
    amplitude, phase = spread.deviations()
    gone_on = further(data)
    unfinished, misfit = spread.moved(gone_on.object), gone_on.error_history[0] / float(np.mean(left))
    holds, remarks = _worth(found.trust, unfinished, misfit, overlap, bool(options.refine_positions))
    return Uncertainty(
        amplitude.astype(np.float32), phase.astype(np.float32), draws, iterations, unfinished, misfit, holds, remarks
    )


def scanned_field(found: Reconstruction) -> tuple[NDArray[np.bool_], float]:
    """(H, W) where the scan positions of a result lie, in their convex hull, and the linear overlap of neighbours as if
    they were a square raster in it; of positions on a line their box.
    """
    x, y, shape = found.xcoords, found.ycoords, found.object.shape
    within = scanned_area(shape, x, y)
    area = float(np.count_nonzero(within))
    try:
        hull = ConvexHull(np.stack([x, y], axis=1))
    except (QhullError, ValueError):  # fewer than three, or on a line
        pass
    else:
        columns, rows = np.arange(shape[1]), np.arange(shape[0])[:, None]
        for right, down, offset in hull.equations:
            within &= right * columns + down * rows + offset <= 0.5
        area = float(hull.volume)
    step = float(np.sqrt(area)) / max(np.sqrt(len(x)) - 1, 1)
    return within, 1 - step / probe_diameter(found.probe)


def expected_photons(found: Reconstruction, data: RawData) -> NDArray[np.float32]:
    """(n, N, N) photons that a result expects in every pixel of every pattern, 0 where it is not valid.

    Args:
        found: of the scan.
        data: the scan, which tells how many photons it has; above 256 MiB what is returned is on disk.
    """
    scale, _ = photon_scale(data, NOMINAL_PHOTONS)
    recording, modes = data.recorded(found.recording), as_modes(found.probe).astype(np.complex128)
    expected = scratch_array((len(data), data.N, data.N), np.float32)
    for block in frame_blocks(len(data), modes.size):
        part = np.arange(block.start, block.stop)
        patches, dx, dy = extract_rounded(found.layers, found.xcoords[part], found.ycoords[part], data.N)
        photons = scale * diffract(modes, patches, dx, dy, recording.of(part))
        if data.mask is not None:
            photons = np.where(data.mask[part] if data.mask.ndim == 3 else data.mask, photons, 0)
        expected[block] = photons
    return expected


def redrawn(data: RawData, expected: NDArray[np.float32], rng: np.random.Generator) -> RawData:
    """The scan as it might have been recorded: Poisson counts about what is expected, as amplitudes.

    Args:
        data: the scan, whose positions, mask, probe and unit it has.
        expected: of `expected_photons`.
        rng: draws pattern by pattern, in their order.
    """
    scale, _ = photon_scale(data, NOMINAL_PHOTONS)
    frames, counted = scratch_array(expected.shape, np.float32), 0.0
    for block in frame_blocks(len(data), data.N**2):
        counts = rng.poisson(expected[block])
        counted += float(counts.sum())
        frames[block] = np.sqrt(counts / scale)
    known = {**(data.metadata or {}), "nphotons": counted / len(data)}
    made = data.replaced(diff3d=frames, units="amplitude", metadata=known)
    return made if data.background is None else made.with_recording(background=data.background)


def _worth(
    trust: Trust | None, unfinished: float, misfit: float, overlap: float, moved_positions: bool
) -> tuple[bool, tuple[str, ...]]:
    """Whether the numbers hold, and what makes them too small, a clause each."""
    against, beside = [], []
    told = f"the patterns are explained to {misfit:.3g} times what noise leaves"
    if misfit > NOISE:
        against.append(f"{told}: the model is wrong by more than the noise")
    elif trust is not None and trust.grade != "to the noise":
        against.append(f"the trust in the object is '{trust.grade}'")
    elif misfit > NARROW:
        beside.append(f"{told}: the deviations are too small by a tenth or so")
    if unfinished > UNFINISHED:
        more = f"further iterations still move the object, by {unfinished:.2g} deviations"
        against.append(f"{more}: it is not at its end (--iterations 400)")
    if overlap < SPARSE:
        beside.append(
            f"neighbours overlap by {percent(max(overlap, 0))} alone: deviations of slow phases are too small, by a "
            "tenth or more"
        )
    if moved_positions:
        beside.append("positions were held: what they are off by is not in it")
    return not against, (*against, *beside)

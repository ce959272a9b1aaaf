"""The last step of a reconstruction: whether it holds, what speaks against it, and what to do next."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from ptycho.core.doctor.beam import FEWEST, beam_change
from ptycho.core.doctor.findings import Diagnosis
from ptycho.core.doctor.slip import slip_of
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.quality.trust import FORETOLD, Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.result import plural
from ptycho.core.scan.stream import ScanStream
from ptycho.raw_data import RawData
from ptycho.workflows.solver import Solver
from ptycho.workflows.validation.foretell import clusters_of, foretell
from ptycho.workflows.validation.next_step import Finished, fixed_modes, remedy
from ptycho.workflows.validation.units_doubt import other_units

__all__ = ["beam_fault", "doctors_faults", "passed_or_refined", "weak_region", "with_final_trust"]

ANSWERED = ("order", "overlap")
"""Faults of the doctor's that patterns answer which foretell each other."""
UNTIED = 0.25
"""Linear overlap up to which right patterns may foretell nothing of each other, whatever is wrong or not."""
TOGETHER = 9
"""Patterns looked at together, a pattern and its neighbours."""
WEAKER, CERTAIN = 1.12, 6.0
"""Their deviance over that of the median nine from which on they are weak, and by how many standard deviations."""
REGION, REGION_SHARE, REGION_LEFT = 6, 0.01, 0.02
"""Patterns that make a region, their share of the scan, and the share of their structure that they leave at least."""


def with_final_trust(finished: Finished, diagnosis: Diagnosis) -> Reconstruction:
    """The result with all that decides about it, where `trust` has what its own patterns say.

    A part of the patterns is kept back and has to be foretold by the others; faults of the doctor's that the result
    does not answer stay, and so do those found here. Where none names what is wrong remedies are tried.
    """
    begun, found = time.perf_counter(), finished.found
    trust = found.trust
    assert trust is not None
    if len(finished.data) < FEWEST:
        few = f"{plural(len(finished.data), 'pattern')}: too few to keep some back, so that nothing foretells them"
        return replace(found, trust=replace(trust, faults=(*doctors_faults(diagnosis, trust), few)))
    clusters = clusters_of(found, finished.data)
    trust = replace(trust, foretold=foretell(found, clusters, finished.data, finished.solver))
    modes = (fixed_modes(finished) or _units(finished)) if trust.grade == "to the noise" else ""
    told = finished.options.refine_flux != "auto" or finished.data.flux is not None  # somebody knows what changed
    beam = "" if told else _beams(trust, found)
    faults = (*doctors_faults(diagnosis, trust), beam, modes)
    trust = replace(trust, faults=tuple(one for one in faults if one))
    if trust.grade == "to the noise":
        trust = replace(trust, advice=weak_region(replace(found, trust=trust)))
        scans = finished.data.scans or (finished.data,)
        slips = [slip_of(ScanStream.of(scan.scan_file())) for scan in scans] if trust.advice else []
        slip = next((one for one in slips if one is not None), None)
        if slip is not None:
            trust = replace(trust, faults=(slip.sentence.rstrip("."),), advice="")
    elif not trust.faults:
        trust = replace(trust, advice=remedy(replace(finished, found=replace(found, trust=trust)), clusters))
    return replace(found, trust=trust, timings=found.timings | {"verdict": time.perf_counter() - begun})


def _units(finished: Finished) -> str:
    """Values taken for the wrong unit, where modes were added: these explain such patterns, by whatever object."""
    added = len(finished.found.probe) > len(as_modes(np.asarray(finished.data.probeGuess)))
    return other_units(finished.data, finished.solver.refine) if added else ""


def passed_or_refined(found: Reconstruction, data: RawData, solver: Solver, beyond: str = "") -> Reconstruction:
    """The result of a network, where `trust` has what its own patterns say: a green verdict is earned on unseen ones.

    A pass alone whose verdict is not green is to be refined, before anything else is blamed; `beyond` says what of the
    scan is unlike all that the network was trained on.
    """
    trust = found.trust
    assert trust is not None
    if trust.grade == "to the noise" and len(data) >= FEWEST:
        trust = replace(trust, foretold=foretell(found, clusters_of(found, data), data, solver))
    if trust.grade != "to the noise" and found.method == "network":
        far = f", on a scan beyond its training, {beyond}" if beyond else ""
        trust = replace(trust, advice=f"one pass of the network only{far}: add refinement, --refine 80")
    return replace(found, trust=trust)


def doctors_faults(diagnosis: Diagnosis, trust: Trust) -> tuple[str, ...]:
    """What the doctor calls a fault and the result does not answer, a clause each.

    Overlap that it only warns of is one where patterns that are explained foretell no others: nobody could.
    """
    answered = trust.foretold is not None and trust.foretold.share >= FORETOLD
    untied = trust.foretold is not None and not answered and trust.explained
    return tuple(
        f"fault of the scan, {one.name}: {one.sentence.rstrip('.')}"
        for one in diagnosis.findings
        if (one.severity == "fault" and not (answered and one.name in ANSWERED))
        or (one.name == "overlap" and untied and one.numbers["overlap"] < UNTIED and not one.numbers["probe_doubted"])
    )


def weak_region(found: Reconstruction) -> str:
    """Where neighbouring patterns are explained worse than the rest together; empty where there is no such place.

    A part of an object in a wrong minimum is lost in the noise of single patterns and in the mean of all.
    """
    trust = found.trust
    assert trust is not None
    points = np.column_stack([found.xcoords, found.ycoords])
    near = np.asarray(KDTree(points).query(points, k=min(TOGETHER, len(points)))[1])
    expected = np.maximum(trust.expected[near].sum(axis=1), 1e-30)
    ratio = trust.deviance[near].sum(axis=1) / expected
    usual, scatter = float(np.median(ratio)), np.sqrt(np.square(trust.deviation[near]).sum(axis=1)) / expected
    region = _largest((ratio > WEAKER * usual) & (ratio - usual > CERTAIN * scatter), near)
    there = trust.only(np.isin(np.arange(len(points)), region))
    if len(region) < max(REGION, REGION_SHARE * len(points)) or there.unexplained < REGION_LEFT:
        return ""
    x, y = points[region].mean(axis=0)
    leave = f"{len(region)} patterns there leave {there.overall_ratio / usual:.2g} times what the others leave"
    return f"look at the object near x {x:.0f}, y {y:.0f}: {leave}"


def _largest(weak: NDArray[np.bool_], near: NDArray[np.intp]) -> NDArray[np.intp]:
    """The most patterns of these (n,) that hang together, each with its neighbours (n, k)."""
    if not weak.any():
        return np.zeros(0, np.intp)
    source = np.repeat(np.arange(len(near)), near.shape[1])
    links = weak[source] & weak[near.ravel()]
    graph = coo_matrix((links[links], (source[links], near.ravel()[links])), shape=(len(near), len(near)))
    label = connected_components(graph, directed=False)[1]
    return np.flatnonzero(weak & (label == np.argmax(np.bincount(label[weak]))))


def _beams(trust: Trust, found: Reconstruction) -> str:
    """`beam_fault`; of several scans with probes of their own, which have their doses, the first one's that has it."""
    if not isinstance(found.variation, ScanProbes):
        return beam_fault(trust)
    scan = found.variation.scan
    return next(filter(None, (beam_fault(trust, scan == k) for k in range(found.variation.count))), "")


def beam_fault(trust: Trust, which: NDArray[np.bool_] | slice = slice(None)) -> str:
    """A beam that fell or rose through the scan; empty where the brightness of patterns does not follow their order.

    An object takes such a change for its own, so that nothing else shows it.

    Args:
        trust: of all patterns.
        which: (n,) those of one of several scans; all.
    """
    change = beam_change(trust.counts[which])
    if change == 1.0:
        return ""
    return (
        f"the patterns change in brightness to {100 * change:.0f} % from the first to the last, which is taken for the "
        "beam (--no-flux: for the sample, --flux: certainly for the beam)"
    )

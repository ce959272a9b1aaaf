"""Fourier ptychography: from images under many LEDs to a judged sample, by the same iteration as any scan.

The images are patterns, the pupil is the probe, and the spectrum of the sample the object
(`ptycho.core.physics.fourier_ptychography`); the iteration begins with the spectrum of the bright-field image, since
from a flat one it goes astray.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig
from ptycho.config.options import IterationOptions
from ptycho.core.fourier_result import as_sample
from ptycho.core.physics.fourier_ptychography import (
    KEY,
    SEEN,
    Microscope,
    pupil_functions,
)
from ptycho.core.progress import Watch, log_progress
from ptycho.core.quality.foretold import Foretold
from ptycho.core.quality.trust import NOISE, Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.steps.preconditioner import illumination
from ptycho.core.refinement.sums.parts import places
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.iteration.fourier_scan import FourierScan
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.iteration.iteration_plan import Plan
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.journal import Journal, run_digest
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.solver import Refine, Solver
from ptycho.workflows.trust import NOMINAL_PHOTONS, scan_trust
from ptycho.workflows.unfinished import STATE, Unfinished

__all__ = ["FourierRequest", "reconstruct_sample"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]
Found = TypeVar("Found", Refinement, Reconstruction)
KEPT_BACK, LEAST = 8, 24
"""Images that are kept back to be foretold by the others, and how many there have to be for that."""
INNER = 2 / 3
"""Share of the LEDs, those nearest to the axis, among which they are: others see the rim, which no second one sees."""
ITERATIONS = 30
"""Of that, and of trials of what may be wrong."""
BETTER = 1.3
"""Ratio of errors from which on a remedy is believed."""


@dataclass(frozen=True)
class FourierRequest:
    """What is asked for beside the images."""

    backend: BackendName
    iteration: IterationOptions = field(default_factory=IterationOptions)
    execution: PyTorchExecutionConfig | None = None
    tell: Callable[[str], None] = logger.info
    """Told in one line each what was found and decided."""
    watch: Watch = log_progress
    folder: Path | None = None
    """Of the run: what a run that was cut off goes on from is kept there."""


def reconstruct_sample(scan: FourierScan, request: FourierRequest) -> Reconstruction:
    """Reconstruct the sample, its pupil and what else is asked for, and measure how well it explains the images.

    Returns:
        The sample (L, L), with the pupil (n, n) as `probe`, in the unit of the images' amplitudes. Positions are those
        of the LEDs in the spectrum, `ptycho.core.physics.fourier_ptychography.spectrum_of` the sample.

    Raises:
        ConfigError: options that mean nothing here.
    """
    options, told = _options(request.iteration), []

    def tell(line: str) -> None:
        told.append(line)
        request.tell(line)

    for line in (*scan.notes, *scan.faults):
        tell(line)
    backend = backend_named(request.backend)
    run = backend.settled(RunOptions(execution=request.execution, watch=request.watch))
    functions = pupil_functions(scan.microscope.disk(scan.data.N))
    config = InferenceConfig(backend=request.backend)
    solver = Solver.of(backend, config, run).with_settings(pupil=functions)
    plan = Plan(scan.start.probe, options.refine_probe is not False, False)
    with _kept(scan, request, options) as kept:
        watch = request.watch
        if kept is not None:
            solver = replace(solver, refine=kept.journal.recorded(solver.refine))
            watch = kept.unfinished.watched(watch, scan.data)
        found = iterate(scan.data, solver, options, scan.start, watch, tell=tell, plan=plan)
        if kept is not None:
            kept.unfinished.settle()
        known = _known(found.refinement, scan.microscope)
        device = backend.device(run)
        solved = measured_reconstruction(known, scan.data, solver.trust, settings=asdict(options), device=device)
        solved = _judged(scan, replace(solved, object=known.object), solver, options)
    return _sample(scan, replace(solved, provenance={**solved.provenance, "told": told}))


def _judged(scan: FourierScan, solved: Reconstruction, solver: Solver, options: IterationOptions) -> Reconstruction:
    """A result with what unseen images say of it, and the next step."""
    begun = time.perf_counter()
    trust = solved.trust
    assert trust is not None
    trust = replace(trust, foretold=_foretold(scan, solved, solver), faults=scan.faults)
    if trust.grade != "to the noise" or trust.overall_ratio > NOISE:
        trust = replace(trust, advice=_advice(scan, solved, solver.refine, options))
    return replace(solved, trust=trust, timings=solved.timings | {"verdict": time.perf_counter() - begun})


def _sample(scan: FourierScan, solved: Reconstruction) -> Reconstruction:
    """The sample of a spectrum of the scan."""
    pixel = scan.microscope.pixel_m * scan.data.N / solved.frame.width
    return as_sample(solved, (scan.data.metadata or {})[KEY], pixel)


class _Kept(NamedTuple):
    """What a run with a folder keeps of its refinements."""

    journal: Journal
    unfinished: Unfinished


@contextmanager
def _kept(scan: FourierScan, request: FourierRequest, options: IterationOptions) -> Iterator[_Kept | None]:
    """Where a run has a folder, have its refinements kept there, and what was found where it is cut off."""
    if request.folder is None:
        yield None
        return
    asked = [scan.data.recorded_identity.sha256, (scan.data.metadata or {})[KEY], request.backend, asdict(options)]
    unfinished = Unfinished(request.folder, lambda found: _sample(scan, _known(found, scan.microscope)))
    with unfinished.kept():
        yield _Kept(Journal(request.folder / STATE, run_digest(asked), unfinished.see), unfinished)


def _options(asked: IterationOptions) -> IterationOptions:
    """What is left open is decided as it is best here."""
    if asked.fly_points is not None:
        raise ConfigError(f"fly_points={asked.fly_points!r}: expected none, LEDs do not move; leave --fly out")
    if asked.detector_blur:
        raise ConfigError(f"detector_blur={asked.detector_blur}: expected 0 for images; leave --detector-blur out")
    if asked.object_prior is not None:
        raise ConfigError(
            f"object_prior={asked.object_prior!r}: expected none, what is searched for is the spectrum of the sample; "
            "leave --object-prior out"
        )
    modes = None if asked.modes == "auto" else asked.modes
    if modes not in (None, 1):
        raise ConfigError(f"modes={modes}: expected one pupil; leave --modes out")
    # LEDs far from the axis are darker by far: no change of the beam is to be seen in the order of the images
    flux = False if asked.refine_flux == "auto" else asked.refine_flux
    # amplitudes of few photons are too small on average: that would be taken for LEDs that are darker
    likelihood = "poisson" if flux and asked.likelihood == "auto" else asked.likelihood
    return replace(asked, modes=None, refine_flux=flux, likelihood=likelihood)


def _known(found: Found, microscope: Microscope) -> Found:
    """Without what edges of pupils alone see."""
    n, shape = found.probe.shape[-1], found.object.shape
    rows, cols, _, _ = places(found.xcoords, found.ycoords, n, shape)
    light = illumination(microscope.disk(n) ** 2, rows, cols, shape)
    return replace(found, object=np.where(light > SEEN, found.object, 0).astype(np.complex64))


def _foretold(scan: FourierScan, solved: Reconstruction, solver: Solver) -> Foretold | None:
    """What the other images foretell of some, from the same start, with the pupil and the places that were found."""
    data, count = scan.data, len(scan.data)
    if count < LEAST:
        return None
    away = np.hypot(data.xcoords - scan.start.frame.width // 2, data.ycoords - scan.start.frame.height // 2)
    nearest = np.argsort(away, kind="stable")[1 : max(KEPT_BACK + 1, int(INNER * count))]
    kept = np.sort(nearest[np.linspace(0, len(nearest) - 1, KEPT_BACK).round().astype(int)])
    start = replace(scan.start, xcoords=solved.xcoords, ycoords=solved.ycoords)
    again = solver.refine(
        data,
        start,
        ITERATIONS,
        probe=solved.probe,
        likelihood="amplitude",
        refine_probe=False,
        holdout=kept.astype(np.int64),
        patience=ITERATIONS + 1,
        **solved.recording.known,
    )

    def compared(image: Array) -> Trust:
        where, known = (solved.xcoords, solved.ycoords), solved.recording
        return scan_trust(image, solved.probe, *where, data, NOMINAL_PHOTONS, solver.trust, recording=known)

    before, after = compared(scan.start.object), compared(again.object)
    return Foretold(
        kept.astype(np.int64),
        misfit=after.misfit[kept],
        noise=after.noise[kept],
        blank=before.misfit[kept],
        deviation=after.deviation[kept] / 4,
    )


def _advice(scan: FourierScan, solved: Reconstruction, refine: Refine, options: IterationOptions) -> str:
    """The next step, a clause: what else may move is tried, and the images say which explains them best."""
    usual: dict[str, Any] = {"likelihood": "amplitude", "refine_probe": options.refine_probe is not False}
    usual |= {"patience": ITERATIONS + 1, **solved.recording.known}

    def error(data: RawData = scan.data, **moving: Any) -> float:
        x, y = (solved.xcoords, solved.ycoords) if data is scan.data else (data.xcoords, data.ycoords)
        found = refine(data, replace(scan.start, xcoords=x, ycoords=y), ITERATIONS, **{**usual, **moving})
        return found.error_history[found.kept]

    before = error()
    errors = {said: error(**moving) for said, moving in _trials(options).items()}
    mirrored = _mirrored(scan.data, scan.start.frame.width)
    errors["images are mirrored: --flip x, or the command without it"] = error(mirrored)
    best = min(errors, key=lambda said: errors[said])
    if before > BETTER * errors[best]:
        return f"{best} (the images are then explained {before / errors[best]:.2g} times better)"
    return "check --na, --magnification, the height of the LEDs, --flip and --rotation"


def _trials(options: IterationOptions) -> dict[str, dict[str, Any]]:
    """What may help, a clause each that names its flag, and how it is tried; the first of equals is named."""
    trials: dict[str, dict[str, Any]] = {}
    if options.refine_probe is False:
        trials["the objective has aberrations: leave out --refine-probe false"] = {"refine_probe": True}
    if not options.refine_positions:
        stage = "the board of LEDs is turned, sheared or at another height: --positions stage"
        trials[stage] = {"refine_positions": "stage"}
        trials["LEDs are not in their places: --positions"] = {"refine_positions": True}
    if options.background_family is None:
        trials["light comes to every image: --background constant"] = {"refine_background": "constant"}
    if not options.refine_flux:
        trials["LEDs are not equally bright: --flux"] = {"refine_flux": True}
    return trials


def _mirrored(data: RawData, side: int) -> RawData:
    """The scan with the sign of x turned; that of both axes gives the conjugate of the sample, as well."""
    x = 2 * (side // 2) - data.xcoords
    return RawData(x, data.ycoords, None, None, data.diff3d, data.probeGuess, metadata=data.metadata, units=data.units)

"""From a scan to a judged object in one call: what is wrong with it, a probe, a method, iteration, the trust.

What the command `ptycho reconstruct` and the function `ptycho.reconstruct` do; everything that a caller leaves open is
decided by the scan, and said.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig
from ptycho.config.options import IterationOptions
from ptycho.core.doctor.findings import Diagnosis
from ptycho.core.doctor.preflight import blocking, preflight, refuse_faults
from ptycho.core.files.atomic import output_folder
from ptycho.core.files.written import written, written_before
from ptycho.core.formats.reconstruction_npz import read_npz, write_npz
from ptycho.core.geometry import object_frame
from ptycho.core.memory import check_room
from ptycho.core.progress import IterationReport, Watch, log_progress
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.centre import at_corner, probe_offset, probe_shift
from ptycho.errors import ConfigError
from ptycho.networks.registry import PATTERN_SIZES
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend, BackendName
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.choose_method import choose_method, training_for_scan
from ptycho.workflows.effects.detector_blur import blurring
from ptycho.workflows.effects.scan_offsets import scan_offsets
from ptycho.workflows.effects.thick import slicing
from ptycho.workflows.iteration.find_probe import FoundProbe, find_probe
from ptycho.workflows.iteration.iterate import first_flux, iterate
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.journal import Journal, run_digest
from ptycho.workflows.reconstruct import beyond_coverage, load_and_reconstruct
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.shared_object import moved, with_one_probe, with_own_probes
from ptycho.workflows.sharing.team import SINGLE, Team
from ptycho.workflows.solver import Refine, Solver
from ptycho.workflows.train import train
from ptycho.workflows.unfinished import STATE, Unfinished, forget
from ptycho.workflows.validation.final_trust import with_final_trust
from ptycho.workflows.validation.next_step import Finished
from ptycho.workflows.validation.uncertainty import check_uncertainty, measure_uncertainty

__all__ = ["Outcome", "Request", "probe_asked_for", "reconstruct_scan"]

logger = logging.getLogger(__name__)

FROM_PATTERNS = "patterns"
"""The source of a probe that is found anew although the scan has one."""


@dataclass(frozen=True)
class Request:
    """What is asked for beside the scan."""

    backend: BackendName
    iteration: IterationOptions = field(default_factory=IterationOptions)
    probe: str | None = None
    """Where it is from (`ptycho.workflows.iteration.find_probe`), or 'patterns'; None: from the scan, else its
    patterns."""
    model: Path | None = None
    """Archive of a network, whose pass is the start."""
    train_seconds: float | None = None
    """Train a network for so long, whose pass is the start."""
    start: Start | None = None
    """An earlier result to go on from."""
    force: bool = False
    """Go on where the scan has a fault."""
    uncertainty: bool = False
    """Measure how far photon noise takes every pixel (`ptycho.workflows.validation.uncertainty`)."""
    folder: Path | None = None
    """Of the run: what a run that was killed goes on from is kept there, and a network that was trained."""
    execution: PyTorchExecutionConfig | None = None
    tell: Callable[[str], None] = logger.info
    """Told in one line each what was found and decided."""
    watch: Watch = log_progress
    """Told how far the training and the iteration are."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    reconstruction: Reconstruction
    diagnosis: Diagnosis
    told: tuple[str, ...]
    """What was found and decided, line by line."""
    state: Path | None = None
    """Folder of what a run that was killed goes on from."""

    def forget(self) -> None:
        """Delete that: the result is written."""
        if self.state is not None:
            forget(self.state.parent)


def reconstruct_scan(data: RawData, request: Request) -> Outcome:
    """Reconstruct a scan: look at it, find its probe where it has none, choose a method, iterate, measure the trust.

    Raises:
        DataError: a fault of the scan with which an object would mean nothing (`ptycho.core.doctor.preflight`), unless
            `force`.
        ConfigError, ArchiveError: a probe, a model or a start that cannot be used.
    """
    backend = backend_named(request.backend)
    with backend.team(RunOptions(execution=request.execution)) as team:
        return _Run(data, request, team).outcome()


def probe_asked_for(data: RawData, refine: Refine, asked: str | None) -> FoundProbe | None:
    """The probe that is asked for, or where the scan has none that of its patterns; None: the scan's own is meant."""
    if asked is None and data.has_probe:
        return None
    return find_probe(data, refine, None if asked == FROM_PATTERNS else asked)


class _Run:
    """A reconstruction under way."""

    def __init__(self, data: RawData, request: Request, team: Team = SINGLE) -> None:
        self.data, self.request, self.team = data, request, team
        self.backend: Backend = backend_named(request.backend)
        self.options = self.backend.settled(RunOptions(execution=request.execution, watch=request.watch))
        self.kept = None if request.folder is None else request.folder / STATE
        self.unfinished = None if request.folder is None else Unfinished(request.folder)
        self.journal = None
        if self.kept is not None and self.unfinished is not None:
            self.journal = Journal(self.kept, self._identity(), self.unfinished.see)
        self.told: list[str] = []
        self.made_probe = False

    def outcome(self) -> Outcome:
        """Go all the way; where that is cut off what was found up to there is written."""
        with nullcontext() if self.unfinished is None else self.unfinished.kept():
            return self._outcome()

    def _outcome(self) -> Outcome:
        asked = self.request
        if asked.iteration.slices > 1 and (asked.model is not None or asked.train_seconds is not None):
            raise ConfigError("slices: expected iteration alone, found a network; leave --model and --train out")
        if self.data.scans:
            _refuse_together(asked)
        if asked.uncertainty:
            check_uncertainty(self.data, asked.iteration, network=_from_network(asked))
        check_room(object_frame(self.data.xcoords, self.data.ycoords, self.data.N))
        slicing(self.data, asked.iteration, asked.start)  # what slices lack is said before anything is looked at
        diagnosis = self._examined()
        if asked.model is not None or asked.train_seconds is not None:
            self.data = self.data.fitted(sizes=PATTERN_SIZES)  # one grid for the pass and the iteration
        self._find_probe()
        if self.data.scans:
            self._share()
        choice = choose_method(diagnosis, asked.model, asked.train_seconds, asked.iteration.object_prior)
        start = self.request.start
        if start is None:
            self._tell(f"Method: {choice.why}")
        else:
            self._tell("Method: iteration from the result given")
        network = self._network_pass(diagnosis) if choice.method == "network" else None
        if network is not None:
            start = replace(network, object=beyond_coverage(network.object, network.coverage > 0))
        watch = asked.watch if self.unfinished is None else self.unfinished.watched(asked.watch, self.data)
        solver = self.solver
        found = iterate(
            self.data,
            solver,
            asked.iteration,
            start,
            watch,
            self.made_probe,
            self._tell,
            to_the_end=asked.uncertainty,
        )
        if self.unfinished is not None:
            self.unfinished.settle()
        reconstruction = measured_reconstruction(
            found.refinement,
            self.data,
            solver.trust,
            settings=self._settings(),
            device=self.backend.device(self.options),
        )
        if network is not None:
            reconstruction = _after_network(reconstruction, network)
        if self.data.scans:
            known = {**reconstruction.metadata, "scans": [scan.name for scan in self.data.scans]}
            reconstruction = replace(reconstruction, metadata=known)
        background = reconstruction.background
        if background is not None:  # then so has what is tried from here on
            solver = solver.with_settings(background=background)
        if reconstruction.blur != self.data.blur:
            solver = solver.with_settings(blur=reconstruction.blur or 0.0)
        if reconstruction.slices is not None:
            solver = solver.with_settings(slices=len(reconstruction.slices), gap=reconstruction.gap)
        finished = Finished(reconstruction, self.data, solver, asked.iteration, self.made_probe)
        reconstruction = with_final_trust(finished, diagnosis)
        if asked.uncertainty:
            reconstruction = self._with_uncertainty(reconstruction)
        reconstruction = replace(reconstruction, provenance={**reconstruction.provenance, "told": list(self.told)})
        return Outcome(reconstruction, diagnosis, tuple(self.told), self.kept)

    def _with_uncertainty(self, found: Reconstruction) -> Reconstruction:
        """A result with its error bars, told."""
        begun = time.perf_counter()
        known = measure_uncertainty(found, self.data, self.solver.refine, self.request.iteration, self.made_probe)
        seconds = time.perf_counter() - begun
        self._tell(f"Uncertainty by {known.method}, in {seconds:.3g} s")
        return replace(found, uncertainty=known, timings=found.timings | {"uncertainty": seconds})

    def _identity(self) -> str:
        """The scan and what was asked for, by a digest: no other run goes on from the steps of this one."""
        start = self.request.start
        image = start.object if isinstance(start, Reconstruction | Refinement) else start
        return run_digest([self.data.recorded_identity.sha256, self.request.backend, self._settings()], image)

    def _settings(self) -> dict[str, Any]:
        """What was asked for, for the provenance."""
        asked = self.request
        named = {"probe": asked.probe, "model": asked.model, "train_seconds": asked.train_seconds, "force": asked.force}
        named["uncertainty"] = asked.uncertainty
        told = {name: str(value) if isinstance(value, Path) else value for name, value in named.items() if value}
        return {**asdict(asked.iteration), **told}

    @property
    def solver(self) -> Solver:
        """That of the backend; each refinement is kept where the run has a folder."""
        config = InferenceConfig(backend=self.request.backend)
        shared, alone = (Solver.of(self.backend, config, self.options, team) for team in (self.team, SINGLE))
        both = shared.refine, alone.refine
        if self.journal is not None:
            both = self.journal.recorded(shared.refine), self.journal.recorded(alone.refine)
        return replace(shared, refine=partial(self._refined, *both))

    def _refined(
        self,
        shared: Refine,
        alone: Refine,
        scan: Any,
        start: Any = None,
        iterations: int = 40,
        report: Callable[[int, float], None] | None = None,
        **settings: Any,
    ) -> Refinement:
        """A refinement; those that nobody asked to be reported are trials, of few patterns, which one process does."""
        if report is not None:
            return shared(scan, start, iterations, report=report, **settings)
        return alone(
            scan, start, iterations, report=IterationReport(iterations, self.request.watch, "trial"), **settings
        )

    def _tell(self, line: str) -> None:
        self.told.append(line)
        self.request.tell(line)

    def _examined(self) -> Diagnosis:
        if self.data.scans:
            return Diagnosis(tuple(one for scan in self.data.scans for one in self._looked_at(scan).findings))
        return self._looked_at(self.data)

    def _looked_at(self, scan: RawData) -> Diagnosis:
        """What the doctor says of a scan, told; of one of several with its name."""
        found = preflight(ScanStream.of(scan.scan_file()))
        name = str(scan.path or scan.name)
        if not self.request.force:
            refuse_faults(found, name)
        passed = {one.name for one in blocking(found)}
        calling = [one for one in found.findings if one.severity in ("warning", "fault")]
        whose = f"{scan.name}: " if self.data.scans else ""
        for one in calling:
            forced = " (--force: gone on all the same)" if one.name in passed else ""
            self._tell(f"{whose}{one.name}: {one.sentence}{forced}")
        if not calling:
            self._tell(f"{whose}Checks: {found.verdict}")
        return found

    def _find_probe(self) -> None:
        """Put the probe that was asked for, or found, in the place of the scan's, of several scans of each of them."""
        if self.data.scans:
            self.data = with_own_probes(self.data, [self._probed(scan).probeGuess for scan in self.data.scans])
        else:
            self.data = self._probed(self.data)

    def _probed(self, scan: RawData) -> RawData:
        """A scan with the probe to begin with."""
        found = probe_asked_for(scan, self.solver.refine, self.request.probe)
        whose = f"{scan.name}: " if self.data.scans else ""
        if found is not None:
            self.made_probe = True
            self._tell(f"{whose}{found.sentence}")
            return scan.with_probe(found.probe)
        if at_corner(probe_offset(scan.probeGuess), scan.probeGuess.shape[-2:]):
            self._tell(f"{whose}The probe was moved from the corner of the window to its middle")
            return scan.with_probe(np.roll(scan.probeGuess, probe_shift(scan.probeGuess), (-2, -1)))
        return scan

    def _share(self) -> None:
        """Bring the scans of one object to where they lie, and give them one probe where that was asked for."""
        asked, start = self.request.iteration, self.request.start
        known = isinstance(start, Reconstruction | Refinement) and len(start.xcoords) == len(self.data)
        if asked.scan_offsets and not known:
            found = scan_offsets(self.data, self.solver.refine)
            self.data = moved(self.data, found.offsets) if found.any else self.data
            self._tell(found.note)
        if asked.shared_probe:
            self.data = with_one_probe(self.data)

    @property
    def _as_known(self) -> RawData:
        """The scan with what is known of its beam and detector before anything is iterated, for a network."""
        flux = first_flux(self.data, self.request.iteration, None)
        return self.data.with_recording(flux, blur=blurring(self.request.iteration).get("blur"))

    def _network_pass(self, diagnosis: Diagnosis) -> Reconstruction:
        """One pass of the network, which is trained first where that was asked for."""
        done = None if self.kept is None else self.kept / "pass.npz"
        if done is not None and done.exists():
            return read_npz(done)
        model = self.request.model
        config = InferenceConfig(model_path=model, backend=self.request.backend)
        if model is None:
            config = replace(config, model_path=self._trained(diagnosis))
        found = load_and_reconstruct(self.backend, self._as_known, config, self.options)
        beyond = found.provenance["model"].get("beyond")
        if beyond:
            self._tell(f"Network: the scan is beyond what it was trained on: {beyond}")
        if done is not None:
            done.parent.mkdir(parents=True, exist_ok=True)
            write_npz(found, done)
        return found

    def _trained(self, diagnosis: Diagnosis) -> Path:
        """The archive of a network that was trained on the scan, in the folder of the run."""
        folder, data = self.request.folder, self._as_known
        assert folder is not None  # the callers see to it
        archive, checkpoint = folder / "wts.h5.zip", folder / "checkpoints" / "last.ckpt"
        before = written_before(output_folder(self.kept or folder) / "before.json", (archive, checkpoint))
        if written(archive) != before[archive.name]:
            return archive
        config = training_for_scan(diagnosis, len(data), data.N, self.request.backend, folder)
        options = replace(
            self.options,
            max_seconds=self.request.train_seconds,
            resume=checkpoint if written(checkpoint) != before[checkpoint.name] else None,
        )
        results = train(self.backend, data, None, config, options)
        self._tell(f"Trained {config.model.architecture}, gridsize {config.model.gridsize}: {_losses(results)}")
        return self.backend.save(folder, results["models"], config)


def _from_network(asked: Request) -> bool:
    """Whether the iteration begins with more than iteration has found."""
    start = asked.start
    if asked.model is not None or asked.train_seconds is not None:
        return True
    return not (start is None or isinstance(start, Refinement)) and getattr(start, "method", "given") != "refined"


def _refuse_together(asked: Request) -> None:
    """Raise ConfigError where something is asked for that several scans of one object cannot have."""
    options = asked.iteration
    for flag, wanted in (
        ("--model", asked.model is not None),
        ("--train", asked.train_seconds is not None),
        ("--slices", options.slices > 1),
        ("--variable-probe", options.variable_probe > 0),
    ):
        if wanted:
            raise ConfigError(f"{flag}: expected one scan, found several that share an object; leave one out")


def _after_network(refined: Reconstruction, network: Reconstruction) -> Reconstruction:
    """What refinement made of a pass, with what is known of the pass."""
    return replace(
        refined,
        method="network+refined",
        network_object=network.object,
        timings={**network.timings, **refined.timings},
        synchronised=network.synchronised,
        agreement=network.agreement,
        spread=network.spread,
    )


def _losses(results: dict[str, Any]) -> str:
    name, values = next(iter(results["history"].items()))
    return f"{len(values)} epochs, {name} {values[0]:.4g} -> {values[-1]:.4g}"

"""What a command takes beside its configuration: how scans are read, what is done with them, how much is told.

Each field is a flag of the command and a key of its settings file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ptycho.config.config import LearningRate
from ptycho.config.schema import Doc

__all__ = [
    "FourierRun",
    "HalvesRun",
    "InferenceRun",
    "LiveRun",
    "ReconstructionRun",
    "RefinementSettings",
    "TrainingRun",
]

Units = Annotated[
    Literal["amplitude", "counts"] | None,
    Doc("what the diffraction patterns hold (none: what the file says, or its numbers show)", basic=True),
]
MemoryMap = Annotated[
    Literal["auto", "always", "never"],
    Doc("leave the patterns in the file and read them batch by batch (auto: where they are large)"),
]
DebugDump = Annotated[Path | None, Doc("folder for what stitching works with (none: not written)")]
Pdf = Annotated[bool, Doc("write every picture as PDF, too")]
Compare = Annotated[Path | None, Doc("a truth or an earlier result that the report compares this one with", basic=True)]
Probe = Annotated[
    str | None,
    Doc(
        "the probe: a file, fzp:..., aperture:... or gaussian:... (ptycho probe --help), or 'patterns' to find it "
        "there (none: that of the scan; where it has none, from the patterns)",
        basic=True,
    ),
]
Force = Annotated[bool, Doc("go on where the scan has a fault, and say so", basic=True)]
Crop = Annotated[
    int | None, Doc("keep so many detector pixels a side, before binning (none: what holds the light)", at_least=2)
]
Bin = Annotated[int, Doc("add up so many detector pixels a side", at_least=1)]
Recorded = Annotated[
    Path | None,
    Doc(
        "earlier result of this scan whose flux, background and blur of the detector are known then, a run of ptycho "
        "reconstruct SCAN --flux --background --detector-blur (none: none is)"
    ),
]
Resume = Annotated[Path | None, Doc("go on with the run in this folder, which was cut off", basic=True)]
Quiet = Annotated[bool, Doc("report warnings and errors only")]
Debug = Annotated[bool, Doc("log every step, and show the traceback of an error")]


@dataclass
class TrainingRun:
    """Run: what is done besides training, and how."""

    do_stitching: Annotated[bool, Doc("reconstruct the object after training", basic=True)] = False
    resume: Annotated[Path | None, Doc("checkpoint to go on from, with its optimiser and epoch", basic=True)] = None
    start_from: Annotated[
        Path | None,
        Doc(
            "begin with the weights of this trained network, in its shape (universal: those of the package)", basic=True
        ),
    ] = None
    overwrite: Annotated[
        bool, Doc("write to an output folder that holds a model (off: to the next one without, NAME-2, NAME-3 ...)")
    ] = False
    max_seconds: Annotated[
        float | None, Doc("stop after so many seconds of training; one-cycle rates fit into it", above=0, basic=True)
    ] = None
    learning_rate: LearningRate = None
    find_probe: Annotated[
        int | None,
        Doc(
            "first find the probe by at most so many iterations of refinement on the scan (none: 40, where the doctor "
            "finds that the probe does not fit)",
            at_least=0,
        ),
    ] = None
    simulated_objects: Annotated[
        int,
        Doc(
            "train on so many simulated objects under the probe, positions and dose of the scan instead of on its "
            "patterns, which then validate (0: on the scan)",
            at_least=0,
        ),
    ] = 0
    recording: Recorded = None
    units: Units = None
    memory_map: MemoryMap = "auto"
    pdf: Pdf = False
    debug_dump: DebugDump = None
    quiet: Quiet = False
    debug: Debug = False


@dataclass
class InferenceRun:
    """Run: what is done besides one pass of the network, and how."""

    refine: Annotated[
        int,
        Doc(
            "at most so many iterations of refinement of object and probe after the network (0, or --no-refine: none)",
            at_least=0,
            basic=True,
        ),
    ] = 80
    overwrite: Annotated[
        bool, Doc("write to an output folder that holds a result (off: to the next one without, NAME-2, NAME-3 ...)")
    ] = False
    recording: Recorded = None
    units: Units = None
    memory_map: MemoryMap = "auto"
    uncertainty: Annotated[
        bool,
        Doc("with --no-refine also find how wrong the pass is, a bar for amplitude and phase of every pixel"),
    ] = False
    compare: Compare = None
    pdf: Pdf = False
    debug_dump: DebugDump = None
    quiet: Quiet = False


@dataclass
class ReconstructionRun:
    """Run: where the reconstruction begins, and where it goes."""

    output_dir: Annotated[
        Path | None,
        Doc("folder to write to, a new one (none: named after the scan, numbered where that is taken)", basic=True),
    ] = None
    probe: Probe = None
    model: Annotated[
        Path | None,
        Doc("begin with a pass of this trained network (universal: that of the package, for any scan)", basic=True),
    ] = None
    train: Annotated[
        float | None, Doc("train a network for so many seconds and begin with its pass", above=0, basic=True)
    ] = None
    start: Annotated[Path | None, Doc("go on from this earlier result, with these settings", basic=True)] = None
    recording: Recorded = None
    resume: Resume = None
    force: Force = False
    overwrite: Annotated[bool, Doc("write into a folder that holds a result already", basic=True)] = False
    crop: Crop = None
    bin: Bin = 1
    frc: Annotated[
        bool,
        Doc("also reconstruct both halves of the scan, and report the resolution; takes as long again", basic=True),
    ] = False
    uncertainty: Annotated[
        bool,
        Doc(
            "also find how far photon noise takes every pixel, one standard deviation of amplitude and of phase; takes "
            "up to as long again",
            basic=True,
        ),
    ] = False
    compare: Compare = None
    pdf: Pdf = False
    memory_map: MemoryMap = "auto"
    quiet: Quiet = False
    debug: Debug = False


@dataclass
class HalvesRun:
    """Run: what is halved, what both halves begin with, and where the resolution goes."""

    output_dir: Annotated[
        Path | None,
        Doc(
            "folder to write to; that of a run gets the resolution into its report (none: named after the scan)",
            basic=True,
        ),
    ] = None
    halves_of: Annotated[
        Literal["patterns", "photons"],
        Doc(
            "what is halved: every second pattern, or the photons of every pattern, which tells of noise alone",
            basic=True,
        ),
    ] = "patterns"
    probe: Probe = None
    force: Force = False
    overwrite: Annotated[bool, Doc("write into a folder that holds a resolution already", basic=True)] = False
    crop: Crop = None
    bin: Bin = 1
    pdf: Pdf = False
    memory_map: MemoryMap = "auto"
    quiet: Quiet = False
    debug: Debug = False


@dataclass
class LiveRun:
    """Run: where positions come, when the scan is over, and where the result goes."""

    output_dir: Annotated[
        Path | None,
        Doc("folder to write to; a run that was cut off there goes on (none: named after the source)", basic=True),
    ] = None
    positions_from: Annotated[
        str | None,
        Doc(
            "where positions come: a text that grows, FILE[:X,Y,FRAME], a folder of such, or data sets of an HDF5 file "
            "(none: with the frames)",
            basic=True,
        ),
    ] = None
    like: Annotated[
        Path | None,
        Doc("a scan or a result of the same set-up, whose probe, mask and geometry are taken", basic=True),
    ] = None
    count: Annotated[int | None, Doc("the scan is over when so many patterns are joined", at_least=1, basic=True)] = (
        None
    )
    idle: Annotated[float, Doc("the scan is over when nothing has come for so many seconds", above=0, basic=True)] = (
        60.0
    )
    frame_offset: Annotated[
        int, Doc("added to the number of a frame, where frames and positions begin to count differently")
    ] = 0
    page: Annotated[bool, Doc("show it on a page of this machine alone, http://127.0.0.1", basic=True)] = True
    port: Annotated[
        int | None,
        Doc("of the page (none: 8117, or where that is taken another)", at_least=0, at_most=65535, basic=True),
    ] = None
    probe: Probe = None
    model: Annotated[
        Path | None,
        Doc(
            "show the pass of this trained network, also universal, and begin with it in the end",
            basic=True,
        ),
    ] = None
    resume: Resume = None
    force: Force = False
    overwrite: Annotated[bool, Doc("write into a folder that holds a result already", basic=True)] = False
    crop: Crop = None
    bin: Bin = 1
    compare: Compare = None
    pdf: Pdf = False
    memory_map: MemoryMap = "auto"
    quiet: Quiet = False
    debug: Debug = False


@dataclass
class FourierRun:
    """Run: where the sample goes."""

    output_dir: Annotated[
        Path | None,
        Doc("folder to write to, a new one (none: named after the images, numbered where that is taken)", basic=True),
    ] = None
    resume: Resume = None
    overwrite: Annotated[bool, Doc("write into a folder that holds a result already", basic=True)] = False
    compare: Compare = None
    pdf: Pdf = False
    quiet: Quiet = False
    debug: Debug = False


@dataclass
class RefinementSettings:
    """Refinement."""

    refine_probe: Annotated[bool, Doc("let the probe move too")] = True
    refine_positions: Annotated[bool, Doc("let the scan positions move too, by fractions of a pixel", basic=True)] = (
        False
    )
    likelihood: Annotated[
        Literal["amplitude", "poisson"], Doc("what is fitted (poisson: for few counts)", flag="refine-likelihood")
    ] = "amplitude"
    holdout: Annotated[
        float,
        Doc(
            "patterns that stay unseen and choose the result, a fraction below 1 or a number",
            at_least=0,
            flag="refine-holdout",
        ),
    ] = 0.0
    beyond_noise: Annotated[
        bool, Doc("go on where photon noise is all that is left to explain", flag="refine-beyond-noise")
    ] = False

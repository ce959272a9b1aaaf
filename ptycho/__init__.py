"""Ptychography: object and probe from overlapping diffraction patterns, by iteration, by a network, or by both.

    import ptycho
    found = ptycho.reconstruct("scan.npz")
    found.save("result")

Functions:

    load_scan             read a scan from a file of any format that is known
    simulate              make a scan whose object is known
    export_product        write positions, probe and object of a scan for ptychodus
    import_product        read a scan from a product of ptychodus and the file with its patterns
    doctor                examine a scan: what is wrong with it, and the settings to begin with
    reconstruct           reconstruct a scan by iteration, without a network
    find_probe            find a probe in the patterns, from the optics or in a file
    fourier_ptychography  reconstruct a sample from microscope images under many LEDs
    led_board             where the LEDs of a board are
    refine                refine an object, the probe and the positions on a scan
    train                 train a network on a scan, without labels
    infer                 reconstruct a scan with a trained network
    compare               compare two objects: figures of merit, Fourier ring correlation
    load_reconstruction   read a reconstruction that was saved

Data and results:

    RawData               a scan: patterns, positions, probe
    Reconstruction        an object, how it was found, where it lies, how far to trust it
    Refinement            what a refinement found, and how it came there
    TrainedModel          a network after its training
    Trust                 how well a reconstruction explains every pattern
    Uncertainty           how far photon noise takes every pixel of it
    Comparison            how like two objects are
    Diagnosis             what the doctor found

Settings:

    ModelConfig           the network
    TrainingConfig        a training; its sections follow
    InferenceConfig       a reconstruction with a network
    PyTorchExecutionConfig  device, precision, loggers of the PyTorch backend
    IterationOptions      an iteration without a network
    GroupOptions          its groups of neighbouring scan points
    ScaleOptions          its scales
    NetworkOptions        its network beyond the model
    ObjectiveOptions      its further terms of the loss
    StageOptions          its stages (PyTorch)
    StitchOptions         how patches become one object
    PatchStatsOptions     statistics of the patches
    ScanSettings          a simulated scan

Errors:

    PtychoError           base of all that follow
    ConfigError           a setting that cannot work
    DataError             a scan, a probe or an array that breaks the data contract
    ArchiveError          a model archive that is damaged, incomplete or too new
    MissingFileError      a file that is not there
    OutputError           a place that cannot be written
    BackendError          a backend that was asked for and cannot run
    DivergedError         a training whose loss or weights are no longer finite
    LostProcessError      a process of several that share the work is gone

Nothing of it is loaded before it is used. The TensorFlow backend is in this package, that of PyTorch in `ptycho_torch`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptycho.api.fourier import fourier_ptychography as fourier_ptychography
    from ptycho.api.iteration import reconstruct as reconstruct
    from ptycho.api.iteration import refine as refine
    from ptycho.api.networks import TrainedModel as TrainedModel
    from ptycho.api.networks import infer as infer
    from ptycho.api.networks import train as train
    from ptycho.api.probes import find_probe as find_probe
    from ptycho.api.results import compare as compare
    from ptycho.api.results import load_reconstruction as load_reconstruction
    from ptycho.api.scans import doctor as doctor
    from ptycho.api.scans import export_product as export_product
    from ptycho.api.scans import import_product as import_product
    from ptycho.api.scans import load_scan as load_scan
    from ptycho.api.scans import simulate as simulate
    from ptycho.config.config import InferenceConfig as InferenceConfig
    from ptycho.config.config import ModelConfig as ModelConfig
    from ptycho.config.config import PyTorchExecutionConfig as PyTorchExecutionConfig
    from ptycho.config.config import TrainingConfig as TrainingConfig
    from ptycho.config.options import GroupOptions as GroupOptions
    from ptycho.config.options import IterationOptions as IterationOptions
    from ptycho.config.options import NetworkOptions as NetworkOptions
    from ptycho.config.options import ObjectiveOptions as ObjectiveOptions
    from ptycho.config.options import PatchStatsOptions as PatchStatsOptions
    from ptycho.config.options import ScaleOptions as ScaleOptions
    from ptycho.config.options import StageOptions as StageOptions
    from ptycho.config.options import StitchOptions as StitchOptions
    from ptycho.core.doctor.findings import Diagnosis as Diagnosis
    from ptycho.core.formats.led_table import led_board as led_board
    from ptycho.core.quality.comparison import Comparison as Comparison
    from ptycho.core.quality.trust import Trust as Trust
    from ptycho.core.quality.uncertainty import Uncertainty as Uncertainty
    from ptycho.core.reconstruction import Reconstruction as Reconstruction
    from ptycho.core.refinement.refinement import Refinement as Refinement
    from ptycho.core.simulation.plan import ScanSettings as ScanSettings
    from ptycho.errors import ArchiveError as ArchiveError
    from ptycho.errors import BackendError as BackendError
    from ptycho.errors import ConfigError as ConfigError
    from ptycho.errors import DataError as DataError
    from ptycho.errors import DivergedError as DivergedError
    from ptycho.errors import LostProcessError as LostProcessError
    from ptycho.errors import MissingFileError as MissingFileError
    from ptycho.errors import OutputError as OutputError
    from ptycho.errors import PtychoError as PtychoError
    from ptycho.raw_data import RawData as RawData

__version__ = "0.2.0"

_HOMES = {
    "ptycho.api.scans": ("load_scan", "simulate", "doctor", "export_product", "import_product"),
    "ptycho.api.iteration": ("reconstruct", "refine"),
    "ptycho.api.networks": ("train", "infer", "TrainedModel"),
    "ptycho.api.probes": ("find_probe",),
    "ptycho.api.fourier": ("fourier_ptychography",),
    "ptycho.core.formats.led_table": ("led_board",),
    "ptycho.api.results": ("compare", "load_reconstruction"),
    "ptycho.raw_data": ("RawData",),
    "ptycho.core.reconstruction": ("Reconstruction",),
    "ptycho.core.refinement.refinement": ("Refinement",),
    "ptycho.core.quality.trust": ("Trust",),
    "ptycho.core.quality.uncertainty": ("Uncertainty",),
    "ptycho.core.quality.comparison": ("Comparison",),
    "ptycho.core.doctor.findings": ("Diagnosis",),
    "ptycho.config.config": ("ModelConfig", "TrainingConfig", "InferenceConfig", "PyTorchExecutionConfig"),
    "ptycho.config.options": (
        *("GroupOptions", "ScaleOptions", "NetworkOptions", "ObjectiveOptions", "StageOptions", "StitchOptions"),
        *("PatchStatsOptions", "IterationOptions"),
    ),
    "ptycho.core.simulation.plan": ("ScanSettings",),
    "ptycho.errors": (
        *("PtychoError", "ConfigError", "DataError", "ArchiveError", "MissingFileError", "OutputError"),
        *("BackendError", "DivergedError", "LostProcessError"),
    ),
}
"""Where the public names live; the block above says the same to type checkers, and a test compares the two."""

_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'ptycho' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})

"""The command lines that train and reconstruct: of either backend, and the same for PyTorch alone."""

from __future__ import annotations

from dataclasses import replace

from ptycho.cli.flags import OtherName
from ptycho.cli.fourier_flags import add_fourier_flags
from ptycho.cli.scan_flags import add_live_source, add_scan, add_scans
from ptycho.cli.settings import Command
from ptycho.config.config import InferenceConfig, TrainingConfig
from ptycho.config.reconstruction import ReconstructionConfig
from ptycho.config.run import FourierRun, HalvesRun, InferenceRun, LiveRun, ReconstructionRun, TrainingRun

__all__ = [
    "FOURIER",
    "FRC",
    "INFERENCE",
    "INFERENCE_EXECUTION",
    "LIVE",
    "PYTORCH_INFERENCE",
    "PYTORCH_TRAINING",
    "RECONSTRUCTION",
    "TRAINING",
]

INFERENCE_EXECUTION = (
    "accelerator",
    "devices",
    "nodes",
    "process_timeout",
    "deterministic",
    "precision",
    "num_workers",
    "inference_batch_size",
)
"""Fields of PyTorchExecutionConfig that matter to inference."""

_PROCESSES = tuple(
    OtherName(f"--{name}", f"execution.{name.replace('-', '_')}", f"--torch-{name}", deprecated=False)
    for name in ("devices", "nodes", "process-timeout")
)
_MASK = (
    OtherName("--refine-probe", "run.find_probe", "--find-probe"),
    OtherName("--probe-mask-diameter", "network.mask_diameter", "--mask-diameter", deprecated=False),
    OtherName("--probe-mask-sigma", "network.mask_sigma", "--mask-sigma", deprecated=False),
)
_NO_REFINE = OtherName("--no-refine", "run.refine", "--refine", value="0", deprecated=False)

TRAINING = Command(
    program="ptycho_train",
    required="--train-data-file SCAN.npz --output-dir FOLDER",
    summary="Train a network on a scan, write its archive and, with --do-stitching, the reconstruction.",
    config=TrainingConfig,
    run=TrainingRun,
    other_names=(*_MASK, *_PROCESSES),
)
INFERENCE = Command(
    program="ptycho_inference",
    required="--model-path MODEL --test-data SCAN.npz --output-dir FOLDER",
    summary="Reconstruct a scan with a trained model and write the object as pictures, NPZ and HDF5.",
    config=InferenceConfig,
    run=InferenceRun,
    execution=INFERENCE_EXECUTION,
    refines=True,
    skip=("model",),
    other_names=(_NO_REFINE, *_PROCESSES),
)
RECONSTRUCTION = Command(
    program="ptycho reconstruct",
    required="SCAN",
    summary="Reconstruct a scan: look at it, find what it needs, iterate, judge the result; no other flag is needed.",
    config=ReconstructionConfig,
    run=ReconstructionRun,
    execution=("accelerator", "device_memory", "deterministic", "devices", "nodes", "process_timeout"),
    arguments=add_scans,
    other_names=(OtherName("--device", "execution.accelerator", "--accelerator", deprecated=False),),
    prefix="",
)
FRC = replace(
    RECONSTRUCTION,
    program="ptycho frc",
    summary="Find the resolution of a scan: reconstruct its two halves, each by itself, and say how far they agree.",
    run=HalvesRun,
    arguments=add_scan,
)
LIVE = replace(
    RECONSTRUCTION,
    program="ptycho live",
    required="SOURCE",
    summary="Reconstruct a scan while it is measured: show what has come, and in the end reconstruct all of it.",
    run=LiveRun,
    arguments=add_live_source,
    other_names=(*RECONSTRUCTION.other_names, OtherName("--model-path", "run.model", "--model", deprecated=False)),
)

FOURIER = replace(
    RECONSTRUCTION,
    program="ptycho fourier",
    required="IMAGES --na NA --magnification M --detector-pixel-um UM --wavelength-nm NM --leds FILE",
    summary="Reconstruct a sample from microscope images under many LEDs (Fourier ptychography), and judge the result.",
    run=FourierRun,
    execution=("accelerator", "deterministic"),
    arguments=add_fourier_flags,
)

_DEVICE = OtherName("--device", "execution.accelerator", "--accelerator")
_NOT_TWICE = (
    "config.backend",
    "config.scheduler",
    *(f"execution.{name}" for name in ("learning_rate", "gradient_clip_val", "gradient_clip_algorithm")),
)
"""Where no flag has a prefix, these would stand there twice."""

PYTORCH_TRAINING = replace(
    TRAINING,
    program="python -m ptycho_torch.train",
    backend="pytorch",
    prefix="",
    no_flags=_NOT_TWICE,
    other_names=(
        *_MASK,
        _DEVICE,
        OtherName("--disable-mlflow", "execution.logger_backend", "--logger", value="none"),
        OtherName("--max-epochs", "config.nepochs", "--nepochs", deprecated=False),
    ),
)
PYTORCH_INFERENCE = replace(
    INFERENCE,
    program="python -m ptycho_torch.inference",
    backend="pytorch",
    prefix="",
    no_flags=_NOT_TWICE,
    other_names=(_NO_REFINE, _DEVICE),
)

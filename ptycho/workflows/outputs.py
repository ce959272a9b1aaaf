"""What a run leaves in its output folder: pictures, an NPZ, a ptychodus product and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ptycho.core.files.atomic import RESULT_FILE, output_folder
from ptycho.core.files.whole_set import whole_set
from ptycho.core.formats.reconstruction_npz import write_npz
from ptycho.core.formats.reconstruction_product import write_ptychodus_product
from ptycho.core.fourier_result import as_spectrum
from ptycho.core.physics.fourier_ptychography import KEY
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.result import reconstruction_of
from ptycho.errors import ConfigError, DataError
from ptycho.figures.reconstruction import save_amplitude_png, save_phase_png, save_summary_png
from ptycho.figures.trust import save_trust_png
from ptycho.raw_data import RawData
from ptycho.report.page import REPORT_FILE
from ptycho.workflows.front_door import Outcome
from ptycho.workflows.report import RESULT_NAMES, RunFolder, shown_patterns, write_report

__all__ = [
    "remove_results",
    "save_outputs",
    "save_reconstruction",
    "save_reconstructions",
    "save_result",
    "save_run",
    "write_report",
]

_EXPERIMENT = "experiment_"


def save_reconstruction(
    reconstruction: Reconstruction,
    output_dir: Path,
    data: RawData | None = None,
    *,
    compare_with: Path | None = None,
    pdf: bool = False,
) -> list[Path]:
    """Write a reconstruction in every form and return the paths, all files or none (`ptycho.core.files.whole_set`).

    The files are `reconstructed_amplitude.png`, `reconstructed_phase.png`, `summary.png`,
    `reconstruction.npz`, `reconstruction.h5` (ptychodus product), `trust.png` where the trust was measured, when
    the result was refined, `network_amplitude.png` and `network_phase.png` of the object before refinement, and
    `report.html` (`ptycho.workflows.report`). Those of an earlier result in the folder that this one does not have go,
    and so does a resolution of another scan.

    Args:
        reconstruction: what to write.
        output_dir: folder to write to, made when it is not there.
        data: the scan of the result, for the summary and the report.
        compare_with: an earlier result or a truth, a file, that the report compares it with.
        pdf: write every picture as PDF, too.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    folder = Path(output_dir)
    beside = RunFolder.beside(reconstruction, folder)
    with whole_set(folder, (*RESULT_NAMES, *beside.outdated)) as made:
        paths = _written(reconstruction, made, data, pdf)
        paths.append(write_report(reconstruction, made / REPORT_FILE, data, compare_with, beside))
    return [folder / path.name for path in paths]


def _written(r: Reconstruction, folder: Path, data: RawData | None, pdf: bool) -> list[Path]:
    """Everything but the report, in this folder."""
    patterns = None if data is None else shown_patterns(data)
    pixel = r.pixel_m
    paths = [
        write_npz(r, folder / RESULT_FILE),
        save_amplitude_png(r.object, r.coverage, folder / "reconstructed_amplitude.png", pixel, pdf),
        save_phase_png(r.object, r.coverage, folder / "reconstructed_phase.png", pixel, pdf),
        save_summary_png(r, folder / "summary.png", patterns=patterns, pdf=pdf),
    ]
    if KEY not in r.metadata:  # a product has positions in space
        paths.append(write_ptychodus_product(r, folder / "reconstruction.h5"))
    if r.trust is not None:
        paths.append(save_trust_png(as_spectrum(r), folder / "trust.png", pdf))
    if r.network_object is not None:
        paths.append(save_amplitude_png(r.network_object, r.coverage, folder / "network_amplitude.png", pixel, pdf))
        paths.append(save_phase_png(r.network_object, r.coverage, folder / "network_phase.png", pixel, pdf))
    return paths


def save_run(
    outcome: Outcome, data: RawData, output_dir: Path, *, compare_with: Path | None = None, pdf: bool = False
) -> list[Path]:
    """Write what `ptycho.workflows.front_door.reconstruct_scan` found; what a killed run goes on from is deleted.

    The arguments are those of `save_reconstruction`.
    """
    written = save_reconstruction(outcome.reconstruction, output_dir, data, compare_with=compare_with, pdf=pdf)
    outcome.forget()
    return written


def save_reconstructions(reconstructions: Sequence[Reconstruction], output_dir: Path, pdf: bool = False) -> list[Path]:
    """Write those of several experiments, the first to the folder, the others to `experiment_<number>` in it."""
    paths = []
    for number, found in enumerate(reconstructions):
        paths += save_reconstruction(found, _home(output_dir, number), pdf=pdf)
    return paths


def remove_results(output_dir: Path, kept: int) -> None:
    """Remove the results of experiments that an earlier training left in its folder beside the model.

    Args:
        output_dir: of `save_reconstructions`.
        kept: so many experiments have a result of this training.
    """
    numbers = [int(path.name[len(_EXPERIMENT) :]) for path in output_dir.glob(f"{_EXPERIMENT}[0-9]*") if path.is_dir()]
    for number in (0, *numbers):
        folder = _home(output_dir, number)
        if number >= kept and any((folder / name).exists() for name in RESULT_NAMES):
            with whole_set(folder, RESULT_NAMES):
                pass
            if number and not any(folder.iterdir()):
                folder.rmdir()


def _home(output_dir: Path, number: int) -> Path:
    return output_dir / f"{_EXPERIMENT}{number}" if number else output_dir


def save_result(result: Reconstruction | Refinement, path: Path) -> Path:
    """Write a result in the form that the suffix of `path` says, and return the path: `ObjectResult.save`."""
    found = reconstruction_of(result) if isinstance(result, Refinement) else result
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return write_npz(found, path)
    if suffix in (".h5", ".hdf5"):
        return write_ptychodus_product(found, path)
    if suffix:
        raise ConfigError(f"{path}: expected .npz, .h5, .hdf5 or a folder, found the suffix {suffix}; change it")
    save_reconstruction(found, path)
    return path


def save_outputs(
    amp: npt.ArrayLike | None,
    phase: npt.ArrayLike | None,
    results: Mapping[str, Any] | None,
    output_prefix: str | Path,
) -> list[Path]:
    """Write what a workflow returned and return the paths; None for any of the three leaves its files out.

    Args:
        amp, phase: amplitude and phase (rad) of the object, (H, W) or with axes of length 1 besides.
        results: results of the workflow. Where `results["reconstruction"]` is there, everything is written
            from it, as by `save_reconstruction`, and `amp` and `phase`, which say the same, are not needed.
        output_prefix: folder to write to, made when it is not there.

    Raises:
        DataError: `amp` or `phase` is no picture.
        OutputError: the folder or a file cannot be written.
    """
    reconstruction = (results or {}).get("reconstruction")
    if reconstruction is not None:
        return save_reconstruction(reconstruction, Path(output_prefix))
    folder, paths = output_folder(Path(output_prefix)), []
    if amp is not None:
        picture = _picture("amp", amp)
        name = folder / "reconstructed_amplitude.png"
        paths.append(save_amplitude_png(picture.astype(np.complex128), np.ones(picture.shape), name))
    if phase is not None:
        picture = _picture("phase", phase)
        name = folder / "reconstructed_phase.png"
        paths.append(save_phase_png(np.exp(1j * picture), np.ones(picture.shape), name))
    return paths


def _picture(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return `values` as a real array (H, W), axes of length 1 dropped."""
    array = np.asarray(values)
    picture = array.reshape([length for length in array.shape if length != 1] or [1, 1])
    if picture.ndim != 2 or np.iscomplexobj(picture):
        raise DataError(f"{name}: expected real numbers of shape (H, W), found {array.dtype} of shape {array.shape}")
    return picture.astype(np.float64)

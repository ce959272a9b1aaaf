"""Fourier ptychography: a sample from microscope images under many LEDs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ptycho import params
from ptycho.api.backends import installed_backend
from ptycho.api.iteration import told_of
from ptycho.config.config import PyTorchExecutionConfig, config_from_dict
from ptycho.config.options import IterationOptions
from ptycho.core.formats.led_table import Leds, leds_at
from ptycho.core.formats.sources import frames_at, source
from ptycho.core.physics.fourier_ptychography import Microscope
from ptycho.core.progress import log_progress
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.scaling import Units
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError
from ptycho.workflows.backend import BackendName
from ptycho.workflows.fourier import FourierRequest, reconstruct_sample
from ptycho.workflows.iteration.fourier_scan import Region, fourier_scan
from ptycho.workflows.outputs import save_reconstruction

__all__ = ["fourier_ptychography"]


@params.left_alone()
def fourier_ptychography(
    images: ArrayLike | Path | str,
    leds: Leds | ArrayLike | Path | str,
    *,
    na: float,
    magnification: float,
    detector_pixel_m: float,
    wavelength_m: float,
    region: Region | None = None,
    units: Units = "counts",
    output_dir: Path | str | None = None,
    backend: BackendName | None = None,
    execution: PyTorchExecutionConfig | None = None,
    report: Callable[[int, float], None] | None = None,
    **settings: Any,
) -> Reconstruction:
    """Reconstruct a sample, and the pupil of the objective, from images that were lit from many angles.

    What `ptycho fourier` does; what is found and decided is logged.

    Args:
        images: (k, rows, columns), one for each LED, or the file that has them as 'FILE[:PATH]'.
        leds: `ptycho.led_board(rows, columns, pitch_m, height_m)`, or (k, 3) x, y, z of each LED as seen from the
            sample, metres, or (k, 2) direction sines, or a table of these, a file.
        na: numerical aperture of the objective.
        magnification: of the image on the camera.
        detector_pixel_m: side of a camera pixel, metres.
        wavelength_m: of the light, metres.
        region: first column, first row and side of the part to reconstruct, pixels; None: the largest square in the
            middle.
        units: 'counts', or 'amplitude' where pixels hold the root of the intensity.
        output_dir: folder to write the result and its pictures to; None writes nothing.
        backend: 'pytorch' or 'tensorflow'; None takes what is installed, PyTorch first.
        execution: device and so on for PyTorch; None takes a GPU where there is one.
        report: called with the iteration (0 = start) and its relative error.
        settings: fields of `ptycho.IterationOptions`: `refine_positions='stage'`, `background='constant'`,
            `refine_flux=True`, `iterations` and so on.

    Returns:
        The sample (L, L) complex64 on pixels of `pixel_m`, with the pupil (1, n, n) as `probe`, in the unit of the
        images' amplitudes, the places of the LEDs in the spectrum, pixels, and the trust.

    Raises:
        MissingFileError, DataError: no images, or another number of LEDs.
        ConfigError: optics or settings that cannot be. BackendError: no backend is installed.
    """
    microscope = Microscope(na, magnification, wavelength_m, detector_pixel_m)
    placed = _leds(leds, wavelength_m)
    if isinstance(images, Path | str):
        named = source(str(images))
        frames, name = frames_at(named), named.paths[0].name
    else:
        stack = np.asarray(images)
        if stack.ndim != 3 or stack.dtype.kind not in "iuf":
            raise DataError(f"images: expected real numbers (k, rows, columns), found {stack.dtype} {stack.shape}")
        frames, name = Frames.of(stack), "images"
    scan = fourier_scan(frames, placed, microscope, region, units, name)
    request = FourierRequest(
        backend=installed_backend(backend),
        iteration=config_from_dict(IterationOptions, settings, "fourier_ptychography"),
        execution=execution,
        watch=log_progress if report is None else partial(told_of, report),
    )
    found = reconstruct_sample(scan, request)
    if output_dir is not None:
        save_reconstruction(found, Path(output_dir), scan.data)
    return found


def _leds(given: Leds | ArrayLike | Path | str, wavelength_m: float) -> Leds:
    if isinstance(given, Leds):
        return given
    if isinstance(given, Path | str):
        return leds_at(str(given), wavelength_m)
    table = np.asarray(given, np.float64)
    if table.ndim != 2 or table.shape[1] not in (2, 3):
        raise DataError(f"leds: expected places (k, 3) or direction sines (k, 2), found {table.shape}; correct them")
    return Leds(places_m=table) if table.shape[1] == 3 else Leds(directions=table)

"""The command line `ptycho fourier`: from microscope images under many LEDs to a judged sample in a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ptycho.cli.fourier_flags import leds_of, microscope_of
from ptycho.cli.programs import FOURIER
from ptycho.cli.progress import shown_progress
from ptycho.cli.resuming import TAKEN, begin, meant_by, resumable
from ptycho.cli.run import (
    LOG_FILE,
    check_compared,
    free_folder,
    output_folder,
    quiet_tensorflow,
    report_files,
    report_reconstruction,
    report_trust,
    run_command,
    run_log,
)
from ptycho.cli.settings import Settled
from ptycho.errors import ConfigError

__all__ = ["fourier_main"]

_log = logging.getLogger(__name__)


def fourier_main(argv: Sequence[str] | None = None) -> int:
    """Reconstruct a sample from images under many LEDs, and write it as pictures and NPZ, with a report.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    return run_command(FOURIER, _fourier, argv, partial(meant_by, FOURIER))


def _fourier(asked: Settled, debug: bool) -> None:
    run, options = asked.run, asked.options
    if options.images is None:
        raise ConfigError("IMAGES is required: name the images, one for each LED")
    check_compared(run.compare)
    microscope = microscope_of(options)
    leds = leds_of(options, microscope.wavelength_m)

    from ptycho.core.formats.sources import frames_at, source
    from ptycho.report.page import REPORT_FILE
    from ptycho.workflows.backend_selector import require_backend
    from ptycho.workflows.fourier import FourierRequest, reconstruct_sample
    from ptycho.workflows.iteration.fourier_scan import fourier_scan
    from ptycho.workflows.outputs import save_reconstruction
    from ptycho.workflows.unfinished import forget

    quiet_tensorflow(asked.config.backend, debug)
    require_backend(asked.config.backend)
    images = source(options.images)
    name = images.paths[0].name if len(images.paths) == 1 else Path(options.images).parent.name or "images"
    named = run.output_dir or Path(f"{Path(name).stem}_fourier")
    folder = run.resume or free_folder(named, run.overwrite, results=TAKEN)
    resumes = run.resume is not None
    with output_folder(folder), resumable(FOURIER, folder, resumes), run_log(folder / LOG_FILE):
        frames = frames_at(images)
        scan = fourier_scan(frames, leds, microscope, options.region, options.units, name)
        if not resumes:
            begin(FOURIER, folder, asked.arguments)
        with shown_progress(not run.quiet) as watch:
            config = asked.config
            request = FourierRequest(config.backend, config.iteration, asked.execution, _log.info, watch, folder)
            found = reconstruct_sample(scan, request)
        written = save_reconstruction(found, folder, scan.data, compare_with=run.compare, pdf=run.pdf)
        forget(folder)
        report_reconstruction(found)
        report_files(written)
        report_trust(found)
        _log.info("Look at %s", folder / REPORT_FILE)

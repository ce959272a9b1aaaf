"""Reconstruction without a network: from a flat object, or from any start, to what the patterns say."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptycho.api.backends import installed_backend
from ptycho.api.scans import Scan, as_scan
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.passes import Likelihood
from ptycho.core.refinement.run import Refinement, Start
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.refined_result import measured_reconstruction
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.trust import NOMINAL_PHOTONS, noise_error, scan_trust

__all__ = ["reconstruct", "refine"]

ITERATIONS = 80
"""After which a scan that can be solved is solved; a refinement that gains nothing more ends sooner."""


def reconstruct(
    scan: Scan,
    *,
    iterations: int = ITERATIONS,
    refine_probe: bool = True,
    refine_positions: bool = False,
    likelihood: Likelihood = "amplitude",
    backend: BackendName | None = None,
    execution: PyTorchExecutionConfig | None = None,
    **settings: Any,
) -> Reconstruction:
    """Reconstruct a scan by iteration alone, from a flat object, and measure how well it explains the patterns.

    It ends early where photon noise is all that is left, so far as the dose is known, or where it gains nothing more.

    Args:
        scan: a scan or its file.
        iterations, refine_probe, refine_positions, likelihood, backend, execution, settings: as in `refine`.

    Returns:
        The object (H, W) complex64: times the probe it predicts the amplitudes of the scan. It lies on the pixels of
        the scan's `objectGuess` where there is one, else in the smallest frame that holds every patch; with its
        coverage, the probe (M, N, N) as refined, positions in pixels and the trust.

    Raises:
        MissingFileError, DataError: no sound scan. ConfigError: a setting that cannot work.
        BackendError: no backend is installed.

    >>> found = reconstruct(example, iterations=10)
    >>> found.method, found.object.shape, found.trust.grade
    ('refined', (128, 128), 'to the noise')
    """
    data, used = as_scan(scan), installed_backend(backend)
    if "noise" not in settings:
        settings["noise"] = _noise(data, likelihood)
    found = refine(
        data,
        iterations=iterations,
        refine_probe=refine_probe,
        refine_positions=refine_positions,
        likelihood=likelihood,
        backend=used,
        execution=execution,
        **settings,
    )
    return measured_reconstruction(found, data)


def refine(
    scan: Scan,
    start: Start | None = None,
    iterations: int = ITERATIONS,
    *,
    refine_probe: bool = True,
    refine_positions: bool = False,
    likelihood: Likelihood = "amplitude",
    backend: BackendName | None = None,
    execution: PyTorchExecutionConfig | None = None,
    **settings: Any,
) -> Refinement:
    """Refine an object, the probe and, when asked for, the positions on the patterns of a scan.

    Args:
        scan: a scan or its file.
        start: None begins flat; a `Reconstruction` or `Refinement` goes on where it ended; an array (H, W) complex
            lies in the frame of the result.
        iterations: at most so many.
        refine_probe: whether all modes of the probe move too.
        refine_positions: whether positions move too, by fractions of a pixel.
        likelihood: 'amplitude', or 'poisson' for few photons.
        backend: 'pytorch' or 'tensorflow'; None takes what is installed, PyTorch first.
        execution: device and so on for PyTorch; None takes a GPU where there is one.
        settings: further keywords of `ptycho_torch.refine.refine` and `ptycho.tf.refine.refine`: `holdout`,
            `batch_size`, `noise`, `frame`, `report` and so on.

    Returns:
        The best point seen, never worse than the start: object (H, W), probe (M, N, N), positions in pixels, and the
        relative error after every iteration.

    Raises:
        MissingFileError, DataError: no sound scan, or a start that does not fit. ConfigError: a setting that cannot
        work. BackendError: no backend is installed.

    >>> found = refine(example, iterations=3)
    >>> found.iterations, found.error_history[found.kept] < found.error_history[0] / 2
    (3, True)
    """
    data, used = as_scan(scan), installed_backend(backend)
    if "frame" not in settings and not isinstance(start, Reconstruction | Refinement):
        settings["frame"] = _frame(data)
    engine = backend_named(used)
    return engine.refine(
        data,
        start,
        iterations,
        InferenceConfig(backend=used),
        engine.settled(RunOptions(execution=execution)),
        refine_probe=refine_probe,
        refine_positions=refine_positions,
        likelihood=likelihood,
        **settings,
    )


def _frame(data: RawData) -> ObjectFrame | None:
    """The pixels of `objectGuess`, where every patch lies in it; None leaves the choice to the refinement."""
    if data.objectGuess is None:
        return None
    height, width = data.objectGuess.shape[-2:]
    needed = object_frame(data.xcoords, data.ycoords, data.N)
    inside = needed.x0 >= 0 and needed.y0 >= 0
    inside = inside and needed.x0 + needed.width <= width and needed.y0 + needed.height <= height
    return ObjectFrame(height, width, 0, 0) if inside else None


def _noise(data: RawData, likelihood: Likelihood) -> float:
    """What photon noise leaves of the relative error, by the light that a flat object lets through."""
    frame = object_frame(data.xcoords, data.ycoords, data.N)
    x, y = frame.local(data.xcoords, data.ycoords)
    flat, probe = np.ones(frame.shape, np.complex64), as_modes(np.asarray(data.probeGuess))
    return noise_error(scan_trust(flat, probe, x, y, data, NOMINAL_PHOTONS), likelihood)

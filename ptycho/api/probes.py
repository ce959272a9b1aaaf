"""Probes: one for a scan that has none, or another one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from ptycho.api.backends import installed_backend
from ptycho.api.scans import Scan, as_scan
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig
from ptycho.core.refinement.refinement import Refinement
from ptycho.workflows.backend import BackendName
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.iteration import find_probe as workflow
from ptycho.workflows.iteration.find_probe import FoundProbe
from ptycho.workflows.run_options import RunOptions

__all__ = ["find_probe"]


def find_probe(
    scan: Scan,
    source: str | Path | None = None,
    *,
    backend: BackendName | None = None,
    execution: PyTorchExecutionConfig | None = None,
) -> FoundProbe:
    """Find a probe for a scan: in its patterns, from the optics, or in a file.

    Args:
        scan: a scan or its file; a probe that it has is not looked at.
        source: None: the patterns; optics in metres, 'fzp:diameter=160um,outer=70nm,stop=60um,defocus=0.6mm',
            'aperture:size=5um,distance=1mm', 'gaussian:fwhm=1um' or 'kb:width=,height=,focal=', for which the scan has
            to tell energy, distance and pixel size; or a file with a probe, a scan, a result or an array.
        backend, execution: as in `ptycho.refine`; only where the patterns are asked.

    Returns:
        The probe (M, N, N) complex64 in the unit of the scan's amplitudes, and a sentence on where it is from;
        `scan.with_probe(found.probe)` is the scan with it.

    Raises:
        MissingFileError, DataError: no sound scan, no such file, or a geometry that the scan does not tell.
        ConfigError: optics that cannot be read. BackendError: no backend is installed.

    >>> find_probe(example, example).sentence
    'Probe of minimal_dataset_v1.npz, taken as it is; 24.4 of 64 pixels wide (90 % of its energy)'
    """

    @cache
    def refinement() -> Callable[..., Refinement]:
        used = installed_backend(backend)
        engine = backend_named(used)
        run = engine.settled(RunOptions(execution=execution))
        return partial(engine.refine, config=InferenceConfig(backend=used), run=run)

    # optics and files need no backend, which takes seconds to load
    return workflow.find_probe(as_scan(scan), lambda *given, **settings: refinement()(*given, **settings), source)

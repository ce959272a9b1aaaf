"""A probe worth training with: what the patterns of a scan themselves say it is, before any network sees them."""

from __future__ import annotations

import logging
from typing import Literal

from ptycho.config.options import IterationOptions
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.find_probe import find_probe
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.solver import Solver

__all__ = ["with_refined_probe"]

logger = logging.getLogger(__name__)


def with_refined_probe(data: RawData, solver: Solver, iterations: int) -> RawData:
    """The same scan with the probe that refinement finds from a flat object, in place of the file's or of none.

    A network believes its probe: with one from an optics model that is not quite right no training helps. Its energy
    and place stay those of the file's probe (`ptycho.core.refinement.steps.gauge`), so that the unit of the object
    does, too. Where the scan has none, `find_probe` brings the first.

    Args:
        data: a scan; it is not changed, and its patterns are not copied.
        solver: of a backend.
        iterations: at most so many; some 40 bring a probe, some 100 its last digits.

    Raises:
        ConfigError: `iterations` is less than 1.
    """
    if iterations < 1:
        raise ConfigError(f"refine_probe: expected at least 1 iteration, found {iterations}; some 40 bring a probe")
    begin = data if data.has_probe else _with_first_probe(data, solver)
    frees: Literal["auto"] | bool = "auto" if data.has_probe else True  # one just found is not worth holding
    options = IterationOptions(iterations=iterations, likelihood="amplitude", refine_probe=frees, modes=None)
    found = iterate(begin, solver, options).refinement
    logger.info(
        "probe: %d iterations in %.1f s, relative Fourier error %.3g with a flat object, %.3g at the end",
        found.iterations,
        found.seconds,
        found.error_history[0],
        found.error_history[found.kept],
    )
    made = data.with_probe(found.probe)
    made.made_of = data.identity.derived(f"its probe refined by {iterations} iterations")
    return made


def _with_first_probe(data: RawData, solver: Solver) -> RawData:
    found = find_probe(data, solver.refine)
    logger.info("%s", found.sentence)
    return data.with_probe(found.probe)

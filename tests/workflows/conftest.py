"""Simulated scans that an iteration is tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.raw_data import RawData


def _simulated(**settings: Any) -> RawData:
    """121 patterns of counts, and the truth; of several modes the scan knows one, with the energy of all."""
    given = {"N": 32, "shape": (76, 76), "step": 4.0, "jitter": 0.5, "photons": 1e6, "seed": 3, "units": "counts"}
    made = expose(*plan_scan(ScanSettings(**{**given, **settings})))
    probe = made.probe
    if probe.ndim == 3:
        probe = probe[0] * np.float32(np.linalg.norm(probe) / np.linalg.norm(probe[0]))
    return RawData(
        made.xcoords, made.ycoords, None, None, made.diffraction, probe, objectGuess=made.object, units=made.units
    )


@pytest.fixture(scope="session")
def simulated() -> Callable[..., RawData]:
    """`simulated(**settings)`, `ptycho.core.simulation.plan.ScanSettings` of a small scan."""
    return _simulated


@pytest.fixture(scope="session")
def plain() -> RawData:
    """Such a scan as it comes."""
    return _simulated()

"""`ptycho.find_probe`: a backend is loaded where the patterns are asked, and not before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ptycho
from ptycho.api import probes
from ptycho.core.physics.probes import probe_overlap
from ptycho.errors import BackendError


@pytest.fixture
def no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str | None) -> None:
        raise BackendError(f"{name} was asked for")

    monkeypatch.setattr(probes, "installed_backend", fail)


def test_a_file_needs_no_backend(no_backend: None, fixture_file: Path) -> None:
    scan = ptycho.load_scan(fixture_file)
    found = ptycho.find_probe(scan, fixture_file)
    assert np.sum(np.abs(found.probe) ** 2) == pytest.approx(scan.mean_energy, rel=1e-5)
    assert scan.with_probe(found.probe).probeGuess.shape == (1, 64, 64)


def test_the_patterns_are_asked_with_the_backend_that_is_named(no_backend: None, fixture_file: Path) -> None:
    with pytest.raises(BackendError, match="tensorflow was asked for"):
        ptycho.find_probe(fixture_file, backend="tensorflow")


@pytest.mark.slow
def test_both_backends_find_the_same(fixture_file: Path) -> None:
    one, other = (ptycho.find_probe(fixture_file, backend=name) for name in ("pytorch", "tensorflow"))
    assert one.tried[0].name == other.tried[0].name
    assert one.tried[0].error == pytest.approx(other.tried[0].error, rel=0.01)
    assert probe_overlap(one.probe, other.probe) > 0.999

"""Whole refinements of both backends against those of the oracle."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement import position_search
from ptycho.core.refinement.priors.object_prior import Belief, ObjectPrior
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData
from ptycho.tf import refine as tf_refine
from ptycho_torch import refine as torch_refine

N, SIZE = 16, 44
NEAR = NearField(0.2)


THOUGHT = ObjectPrior(
    "network", 0.01, belief=Belief(np.full((30, 20), 0.8 + 0.1j), np.full((30, 20), 0.5), ObjectFrame(30, 20, 4, 3))
)
LAWS: dict[str, dict[str, Any]] = {
    "object": {"refine_probe": False, "tolerance": 0.0},
    "probe modes": {"tolerance": 0.0},
    "positions": {"refine_positions": True, "tolerance": 0.0},
    "stage": {"refine_positions": "stage", "tolerance": 0.0},
    "positions searched for": {"refine_positions": "search", "position_bound_px": 3.0, "tolerance": 0.0},
    "poisson": {"likelihood": "poisson", "tolerance": 0.0},
    "mini-batches": {"batch_size": 10, "seed": 3},
    "flux": {"refine_flux": True, "tolerance": 0.0},
    "fly scan": {"refine_positions": True, "refine_flux": True, "tolerance": 0.0},
    "fly scan, near field": {"refine_positions": True, "tolerance": 0.0},
    "background": {"refine_background": "smooth", "tolerance": 0.0},
    "blur": {"refine_blur": True, "refine_flux": True, "blur": 0.5, "tolerance": 0.0},
    "few edges": {"object_prior": ObjectPrior("tv", 1e-3), "tolerance": 0.0},
    "pure phase, mini-batches": {"object_prior": ObjectPrior("phase", 0.1), "batch_size": 10, "seed": 3},
    "near to what a network thinks": {"object_prior": THOUGHT, "likelihood": "poisson", "tolerance": 0.0},
    "held out": {"holdout": 5, "tolerance": 0.0},
    "variable probe": {"variable_probe": 2, "refine_flux": True, "tolerance": 0.0},
    "smooth variable probe": {"variable_probe": 1, "variable_probe_smooth": 10.0, "holdout": 5, "tolerance": 0.0},
    "scans with own probes": {"refine_positions": True, "refine_flux": True, "batch_size": 20, "seed": 3},
    "positions, poisson, held out": {"refine_positions": True, "likelihood": "poisson", "holdout": 5},
}
"""What is refined, each on a scan with a mask for every pattern and two modes."""


@pytest.fixture
def modes(point) -> Any:
    return point.probe.astype(np.complex64)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("engine", ["tensorflow", "pytorch"])
def test_every_engine_refines_as_the_oracle(engine, law, masked_scan, modes, way, own_probes, monkeypatch) -> None:
    """Whole refinements: single precision in the backends, double in the oracle."""
    for name, value in {"ROUNDS": 1, "BENT_FROM": 0, "PARTS": 2, "LEGS": 1, "LEG": 4}.items():
        monkeypatch.setattr(position_search, name, value)
    settings = {"probe": modes, "fly_path": way if law.startswith("fly scan") else None, **LAWS[law]}
    if law.endswith("near field"):
        masked_scan.metadata = NEAR.noted()
    if law.startswith("scans"):
        settings["variation"] = own_probes(modes, len(masked_scan))
    oracle, found = (refine_scan(masked_scan, None, 9, engine=name, **settings) for name in ("numpy", engine))
    assert (oracle.engine, found.engine) == ("numpy", engine)
    assert oracle.error_history[oracle.kept] < 0.7 * oracle.error_history[0]
    agree(found, oracle)


def test_the_backends_own_functions_are_their_engines(masked_scan, modes) -> None:
    for name, refine in (("tensorflow", tf_refine.refine), ("pytorch", torch_refine.refine)):
        agree(
            refine(masked_scan, None, 4, probe=modes),
            refine_scan(masked_scan, None, 4, engine=name, probe=modes),
            exactly=True,
        )


def agree(found: Refinement, expected: Refinement, exactly: bool = False) -> None:
    """The same way to the same point."""
    assert found.stopped == expected.stopped
    assert (found.kept, found.restarts) == (expected.kept, expected.restarts)
    loose = 0 if exactly else 1
    np.testing.assert_allclose(found.error_history, expected.error_history, rtol=1e-4 * loose)
    np.testing.assert_allclose(found.unseen_history, expected.unseen_history, rtol=1e-3 * loose)
    np.testing.assert_allclose(found.object, expected.object, atol=5e-3 * loose)
    np.testing.assert_allclose(found.probe, expected.probe, atol=5e-3 * loose * abs(expected.probe).max())
    np.testing.assert_allclose(found.xcoords, expected.xcoords, atol=5e-3 * loose)
    np.testing.assert_allclose(found.flux, expected.flux, atol=1e-3 * loose)
    np.testing.assert_allclose(found.background, expected.background, atol=1e-2 * loose)
    np.testing.assert_allclose(found.blur or 0, expected.blur or 0, atol=1e-3 * loose)
    np.testing.assert_allclose(found.penalty, expected.penalty, rtol=1e-3 * loose)
    assert (found.variation is None) == (expected.variation is None)
    if found.variation is not None and expected.variation is not None:
        varied, known = (one.variation.probes(one.probe) for one in (found, expected))
        np.testing.assert_allclose(varied, known, atol=5e-3 * loose * abs(known).max())


@pytest.mark.slow
def test_compiled_kernels_find_the_same(masked_scan) -> None:
    eager, compiled = (tf_refine.refine(masked_scan, None, 4, use_xla=xla) for xla in (False, True))
    np.testing.assert_allclose(compiled.error_history, eager.error_history, rtol=1e-4)
    np.testing.assert_allclose(compiled.object, eager.object, atol=2e-3)


def test_every_engine_finds_the_same_at_a_side_that_is_no_power_of_two() -> None:
    made = make_scan("lines", 150, 100, 25.0, 0.5, 1e6, 4)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
    oracle, *others = (refine_scan(scan, None, 3, engine=name) for name in ("numpy", "pytorch", "tensorflow"))
    assert oracle.error_history[-1] < 0.5 * oracle.error_history[0]
    for each in others:
        np.testing.assert_allclose(each.error_history, oracle.error_history, rtol=1e-3)
        assert np.linalg.norm(each.object - oracle.object) < 2e-3 * np.linalg.norm(oracle.object)


def test_both_backends_take_the_same_arguments() -> None:
    ours, theirs = (inspect.signature(each.refine).parameters for each in (tf_refine, torch_refine))
    own = {"device", "deterministic", "use_xla"}
    found = [{name: p.default for name, p in each.items() if name not in own} for each in (ours, theirs)]
    assert found[0] == found[1]


@pytest.mark.parametrize("refine", [torch_refine.refine, tf_refine.refine], ids=["pytorch", "tensorflow"])
def test_a_spectrum_and_its_pupil_are_those_of_the_oracle(refine, lit_scan) -> None:
    """Fourier ptychography, its LEDs moving together, step by step."""
    lit, start, settings = lit_scan
    asked: Any = {**settings, "refine_positions": "stage"}
    expected, found = refine_scan(lit, start, 6, **asked), refine(lit, start, 6, **asked)
    np.testing.assert_allclose(found.error_history, expected.error_history, rtol=1e-3)
    np.testing.assert_allclose(found.xcoords, expected.xcoords, atol=1e-3)
    assert np.linalg.norm(found.probe - expected.probe) < 1e-2 * np.linalg.norm(expected.probe)

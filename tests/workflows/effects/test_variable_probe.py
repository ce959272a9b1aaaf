"""A probe that changes, in words and on the command line's way."""

from functools import partial

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.effects.variable_probe import variation_advice, variation_note
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.solver import Solver

N = 16


def test_a_note_says_how_much_and_how_fast() -> None:
    modes = np.ones((1, 4, 4), complex)
    slow = np.where(np.arange(10) < 5, -0.5, 0.5)[:, None].astype(complex)
    assert variation_note(ProbeVariation(modes, slow)) == (
        "The probe changes slowly during the scan: 20 % of its light lies in 1 mode of variation"
    )
    assert variation_note(None) == "No change of the probe during the scan explains more than noise would"
    restless = 0.5 * (-1.0) ** np.arange(10)[:, None] + 0j
    assert "from pattern to pattern during the scan" in variation_note(ProbeVariation(modes, restless))


@pytest.mark.parametrize("planted, named", [({"probe_drift": 0.5}, True), ({"modes": (0.7, 0.3)}, False)])
def test_advice_needs_a_gain_that_other_faults_do_not_give(planted, named) -> None:
    settings = {"N": N, "shape": (36, 36), "kind": "siemens_star", "step": 2.5, "photons": 1e5, "seed": 3}
    made = expose(*plan_scan(ScanSettings(**settings, **planted)))
    probe = made.probe.reshape(-1, N, N)[0]
    probe = (probe * (np.linalg.norm(made.probe) / np.linalg.norm(probe))).astype(np.complex64)
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, probe, units="amplitude")
    refine = partial(refine_scan, scan, dtype=np.float32)
    found = refine(None, 40)
    trust = measured_reconstruction(found, scan, ON_HOST).trust
    assert trust is not None
    floor = float(trust.noise.sum() / trust.counts.sum())
    left, advice = variation_advice(partial(refine, found, 20, patience=21), floor)
    assert 0 < left < found.error_history[found.kept] - floor
    assert advice.endswith(" times better: --variable-probe") if named else advice == ""


def test_a_run_with_it_keeps_what_it_found_and_its_trust_knows_it(rng) -> None:
    settings = ScanSettings(N=N, shape=(40, 40), kind="siemens_star", step=3.0, photons=1e5, probe_drift=0.5, seed=3)
    made = expose(*plan_scan(settings))
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
    options = IterationOptions(iterations=16, modes=None, refine_probe=True, likelihood="amplitude", variable_probe=1)
    found = iterate(scan, Solver(refine_scan, ON_HOST), options)
    assert any(note.startswith("The probe changes slowly during the scan: ") for note in found.notes)
    refinement = found.refinement
    assert refinement.variation is not None and len(refinement.variation.modes) == 1
    known = measured_reconstruction(refinement, scan, ON_HOST)
    assert known.trust is not None and known.variation is refinement.variation
    misfit = float(known.trust.misfit.sum() / known.trust.counts.sum())
    assert misfit == pytest.approx(refinement.error_history[refinement.kept] - refinement.penalty, rel=0.05)
    # from there on it goes on where it was
    further = refine_scan(scan, known, 1, variable_probe=1)
    assert further.error_history[0] == pytest.approx(refinement.error_history[refinement.kept], rel=1e-3)


def test_what_cannot_be_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="--variable-probe: expected a probe that moves"):
        IterationOptions(variable_probe=1, refine_probe=False)
    with pytest.raises(ConfigError, match="--variable-probe-smooth: expected --variable-probe"):
        IterationOptions(variable_probe_smooth=20.0)

"""A blur of the detector, in words and on the command line's way."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.formats.reconstruction_npz import read_npz, write_npz
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.effects.detector_blur import blur_advice, blur_note, blurring
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.journal import read_step, write_step
from ptycho.workflows.solver import Solver

N = 16
FIND = IterationOptions(detector_blur="find")


def scan_with(**planted) -> RawData:
    settings = ScanSettings("siemens_star", N=N, shape=(40, 40), step=3.0, photons=1e5, seed=3, **planted)
    made = expose(*plan_scan(settings))
    probe = made.probe.reshape(-1, N, N)[0]
    probe = (probe * (np.linalg.norm(made.probe) / np.linalg.norm(probe))).astype(np.complex64)
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, probe, units="amplitude")


def test_a_note_says_how_much_and_who_said_so() -> None:
    assert blur_note(None, FIND) == "The detector is sharp: no blur of it explains the patterns better"
    assert blur_note(1.234, FIND) == "The detector blurs by 1.23 pixels (standard deviation), found in the patterns"
    given = IterationOptions(detector_blur=0.5)
    assert blur_note(0.5, given).endswith("0.5 pixels (standard deviation), as it was given")
    assert [blurring(one) for one in (IterationOptions(), FIND, given)] == [
        {},
        {"refine_blur": True},
        {"blur": 0.5},
    ]
    with pytest.raises(ConfigError, match="detector_blur"):
        IterationOptions(detector_blur=-1.0)


@pytest.mark.parametrize("planted, named", [({"detector_blur": 0.9}, True), ({"modes": (0.7, 0.3)}, False)])
def test_advice_tells_a_blur_from_further_modes(planted, named) -> None:
    gain, advice = blur_advice(scan_with(**planted), partial(refine_scan, dtype=np.float32), 2, 1e-3)
    assert advice.startswith("patterns are blurred, by some 0.") is named
    assert advice.endswith(f" {gain:.2g} times better: --detector-blur") if named else not advice


def test_a_run_with_it_keeps_what_it_found_and_its_trust_knows_it(tmp_path) -> None:
    scan = scan_with(detector_blur=0.9)
    options = replace(FIND, iterations=20, modes=None, refine_probe=True, likelihood="amplitude")
    solver = Solver(partial(refine_scan, dtype=np.float32), ON_HOST)
    found = iterate(scan, solver, options)
    refinement = found.refinement
    assert refinement.blur == pytest.approx(0.9, rel=0.1)
    assert blur_note(refinement.blur, options) in found.notes
    known = measured_reconstruction(refinement, scan, ON_HOST)
    assert known.trust is not None and known.blur == refinement.blur == known.recording.blur
    misfit = float(known.trust.misfit.sum() / known.trust.counts.sum())
    assert misfit == pytest.approx(refinement.error_history[refinement.kept], rel=0.05)
    assert read_npz(write_npz(known, tmp_path / "reconstruction.npz")) == known
    write_step(tmp_path / "step.npz", refinement, "this")
    assert read_step(tmp_path / "step.npz", "this").blur == refinement.blur
    with pytest.raises(DataError, match="blur: expected 0 to 2 pixels of a pattern of 16, found 5"):
        iterate(scan, solver, replace(options, detector_blur=5.0))

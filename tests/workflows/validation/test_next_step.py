"""Every planted fault is named by the step that mends it."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.physics.detector_blur import blurred
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.solver import Solver
from ptycho.workflows.validation.foretell import clusters_of, foretell
from ptycho.workflows.validation.next_step import Finished, remedy

REFINE = partial(refine_scan, dtype=np.float32)
SOLVER = Solver(REFINE, ON_HOST)


@pytest.fixture(scope="module")
def small(simulated) -> RawData:
    """49 patterns."""
    return simulated(shape=(60, 60))


def changed(scan: RawData, **changes) -> RawData:
    parts = {"patterns": scan.diff3d, "probe": scan.probeGuess, "units": "counts", **changes}
    x, y = scan.xcoords, scan.ycoords
    return RawData(x, y, None, None, parts["patterns"], parts["probe"], units=parts["units"])


def advice(scan: RawData, iterations: int = 40, made_probe: bool = True, **options) -> str:
    moves = options.get("refine_probe", True)
    found = measured_reconstruction(REFINE(scan, None, iterations, refine_probe=moves), scan, ON_HOST)
    clusters = clusters_of(found, scan)
    told = foretell(found, clusters, scan, SOLVER)
    found = replace(found, trust=replace(found.trust, foretold=told))
    assert found.trust.grade != "to the noise"
    asked = IterationOptions(iterations=iterations, **options)
    return remedy(Finished(found, scan, SOLVER, asked, made_probe), clusters)


@pytest.mark.parametrize("gain", [7, 0.2])
def test_the_gain(small, gain):
    said = advice(changed(small, patterns=np.round(gain * small.diff3d).astype(np.uint32)))
    assert said.startswith("the values are not photons")
    assert float(said.split("says ")[1].split()[0]) == pytest.approx(gain, rel=0.15)


def test_an_insane_frame(small, rng):
    patterns = small.diff3d.copy()
    patterns[24] = rng.poisson(patterns.mean(), patterns[24].shape)
    assert advice(changed(small, patterns=patterns)).endswith("ptycho dataset subsample SCAN -o WITHOUT --drop 24")


def test_few_photons_are_not_taken_for_a_fault(simulated):
    said = advice(simulated(shape=(60, 60), photons=50.0))
    assert said.startswith("photons are few, 51 a pattern: fit their counts, --likelihood poisson")


def test_one_bright_pixel_in_one_frame(small):
    """The mean hardly feels it, so that anything that moves would seem to explain more than the frame is worth."""
    patterns = small.diff3d.copy()
    patterns[24, 5, 27] = 4 * patterns.max()
    assert advice(changed(small, patterns=patterns)).endswith("ptycho dataset subsample SCAN -o WITHOUT --drop 24")


def test_a_beam_that_drops_at_once(small, rng):
    """Patterns beside the step stand out most, yet it is not they that are bad."""
    left = np.where(np.arange(len(small)) < len(small) // 2, 1.0, 0.3)
    patterns = rng.binomial(small.diff3d, left[:, None, None]).astype(np.uint32)
    assert advice(changed(small, patterns=patterns), modes=None).endswith("times better: --flux")


def test_patterns_that_belong_to_other_positions(simulated):
    scan = simulated()
    said = advice(changed(scan, patterns=np.roll(scan.diff3d, 1, axis=0)))
    assert said.startswith("frame shift: ") and said.endswith("ptycho dataset move --frames=-1")


@pytest.mark.slow
def test_positions_of_a_wrong_pixel_size(simulated):
    scan = simulated(kind="dead_leaves", step=3.0)
    wide = RawData(1.15 * scan.xcoords, 1.15 * scan.ycoords, None, None, scan.diff3d, scan.probeGuess, units="counts")
    assert advice(wide).startswith("position scale: The positions are too large")


@pytest.mark.slow
def test_a_stage_that_turns(simulated):
    """Told by a part of the scan as it lies, where all positions move alike."""
    said = advice(simulated(kind="dead_leaves", stage_rotation=4.0), modes=None)
    assert said.startswith("positions are off by up to ") and said.endswith("--positions")


def test_positions_that_are_a_little_off(simulated):
    said = advice(simulated(shape=(60, 60), position_error=0.8))
    assert said.startswith("positions are off by up to ") and ": --positions" in said


@pytest.mark.parametrize("waves", [0.5, pytest.param(1.0, marks=pytest.mark.slow)])
def test_a_probe_that_drifts_is_not_taken_for_positions(simulated, waves):
    scan = simulated(shape=(60, 60), step=3.0, kind="dead_leaves", probe_drift=waves)
    assert advice(scan).endswith(" times better: --variable-probe")


@pytest.mark.slow
def test_positions_that_are_far_off(simulated):
    assert "--positions search --position-bound" in advice(simulated(shape=(60, 60), position_error=3.0))


def test_a_probe_that_is_held(small):
    other = zone_plate_probe(32, 14.0, defocus=2.3)
    other *= np.float32(np.linalg.norm(small.probeGuess) / np.linalg.norm(other))
    assert advice(changed(small, probe=other), refine_probe=False, modes=None).startswith("let the probe move")


@pytest.mark.slow
def test_modes_that_are_missing(simulated):
    assert (
        advice(simulated(shape=(60, 60), modes=(0.6, 0.4)), modes=1)
        == "too few modes, unseen patterns prefer 2 to 1: --modes 2"
    )


@pytest.mark.slow
def test_a_stage_that_moves(simulated):
    said = advice(simulated(shape=(60, 60), kind="siemens_star", fly=1.0, step=5.0))
    assert said.startswith("the stage moves during a pattern") and said.endswith("times better: --fly")


@pytest.mark.slow
def test_a_beam_that_flickers(small, rng):
    left = rng.uniform(0.6, 1, len(small))
    counts = rng.binomial(small.diff3d.astype(np.int64), left[:, None, None]).astype(np.uint32)
    said = advice(changed(small, patterns=counts))
    assert said.startswith("the beam changes from pattern to pattern") and said.endswith("--flux")


def test_a_background(small, rng, caplog):
    """It takes its time, and says so."""
    caplog.set_level("INFO", "ptycho")
    said = advice(changed(small, patterns=small.diff3d + rng.poisson(200.0, small.diff3d.shape)), modes=None)
    assert "Looking for what would explain the rest, by short reconstructions" in caplog.messages
    assert said.startswith("every pattern has a background, of some ") and said.endswith(": --background")
    assert float(said.split("some ")[1].split()[0]) == pytest.approx(200, rel=0.3)


def test_patterns_that_are_blurred(small, rng):
    """Which a background explains, too, though less."""
    said = advice(changed(small, patterns=rng.poisson(blurred(small.diff3d.astype(float), 1.0))), modes=None)
    assert said.startswith("patterns are blurred, by some ") and said.endswith(" times better: --detector-blur")
    assert float(said.split("some ")[1].split()[0]) == pytest.approx(1.0, rel=0.3)


@pytest.mark.slow
def test_turned_axes(small):
    turned = np.ascontiguousarray(small.diff3d.swapaxes(1, 2))
    assert "ptycho dataset turn SCAN -o TURNED --transpose, which foretells" in advice(changed(small, patterns=turned))


@pytest.mark.slow
def test_a_probe_of_another_zone_plate(simulated):
    scan = simulated(shape=(76, 76))
    other = zone_plate_probe(32, 5.0, defocus=2.2)
    other *= np.float32(np.linalg.norm(scan.probeGuess) / np.linalg.norm(other))
    assert "--probe patterns" in advice(changed(scan, probe=other), iterations=80, made_probe=False)


def test_an_unknown_dose(small):
    amplitude = (0.013 * np.sqrt(small.diff3d)).astype(np.float32)
    said = advice(changed(small, patterns=amplitude, probe=0.013 * small.probeGuess, units="amplitude"))
    assert said.startswith("state the dose")


def test_one_that_was_still_gaining(small):
    assert advice(small, iterations=4).endswith("go on with --start RESULT --iterations 8")

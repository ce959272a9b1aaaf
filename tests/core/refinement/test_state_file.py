"""A refinement that was cut off goes on to the very same digits."""

import json

import numpy as np
import pytest

from ptycho.core.refinement.device.engine import find_engine
from ptycho.core.refinement.priors.object_prior import ObjectPrior
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.state_file import EVERY, StateFile
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import DataError
from ptycho.raw_data import RawData

SETTINGS = {
    "known probe": {"refine_probe": False},
    "moving probe": {"refine_probe": True},
    "positions": {"refine_positions": True, "holdout": 3},
    "batches": {"batch_size": 9, "likelihood": "poisson"},
    "nothing kept": {"device_memory": 0},
    "a prior": {"object_prior": ObjectPrior("phase", 1e-2), "scale": "object", "batch_size": 9},
}


@pytest.fixture(scope="module")
def scan():
    made = make_scan("lines", 64, N=32, step=9.0, jitter=1.0, photons=1e5, seed=3)
    positions = made.xcoords, made.ycoords, None, None
    return RawData(*positions, made.diffraction, made.probe, units="amplitude")


@pytest.mark.parametrize("engine", ["numpy", "pytorch", "tensorflow"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_goes_on_to_the_same_digits(kind, engine, scan, tmp_path):
    settings = {
        "engine": find_engine(engine),
        "iterations": 2 * EVERY + 6,
        "tolerance": 0.0,
        "patience": 99,
        **SETTINGS[kind],
    }
    whole = refine_scan(scan, state_file=StateFile(tmp_path / "a.npz", kind, seconds=0.0), **settings)
    cut = StateFile(tmp_path / "b.npz", kind, seconds=0.0)

    def stop(iteration, error):
        if iteration == EVERY + 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine_scan(scan, state_file=cut, report=stop, **settings)
    seen = []
    after = refine_scan(scan, state_file=cut, report=lambda iteration, _: seen.append(iteration), **settings)
    assert seen[0] == EVERY and len(after.error_history) == 2 * EVERY + 7
    assert after.error_history == whole.error_history and after.unseen_history == whole.unseen_history
    for name in ("object", "probe", "xcoords", "ycoords"):
        assert np.array_equal(getattr(after, name), getattr(whole, name)), name


def test_is_written_no_more_often_than_asked(scan, tmp_path):
    file = StateFile(tmp_path / "state.npz", "s", seconds=3600.0)
    refine_scan(scan, iterations=2 * EVERY, tolerance=0.0, state_file=file)
    assert not file.path.exists()


def test_state_of_another_search_is_refused(scan, tmp_path):
    refine_scan(scan, iterations=EVERY, tolerance=0.0, state_file=StateFile(tmp_path / "s.npz", "one", seconds=0.0))
    with pytest.raises(DataError, match=r"s\.npz: expected the state of another, found that of one; remove it"):
        refine_scan(scan, iterations=EVERY, state_file=StateFile(tmp_path / "s.npz", "another"))


def test_a_generator_that_cannot_be_is_refused(scan, tmp_path):
    file = StateFile(tmp_path / "s.npz", "one", seconds=0.0)
    refine_scan(scan, iterations=EVERY, tolerance=0.0, state_file=file)
    stored = dict(np.load(file.path))
    facts = json.loads(str(stored["facts"]))
    facts["rng"]["state"]["state"] = -1
    np.savez(file.path, **{**stored, "facts": json.dumps(facts)})
    with pytest.raises(DataError, match=r"s\.npz: expected the state of a refinement, found: .*; remove it"):
        refine_scan(scan, iterations=EVERY, state_file=file)


def test_damaged_state_is_refused(scan, tmp_path):
    (tmp_path / "s.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="expected the state of a refinement"):
        refine_scan(scan, iterations=EVERY, state_file=StateFile(tmp_path / "s.npz", "one"))

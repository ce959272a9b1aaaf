"""A team measures the trust: each compares its own patterns, and the first has what they all say."""

from dataclasses import dataclass, field, fields
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.core.quality.misfits import Misfits
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.trust import ON_HOST, TrustEngine, measure_trust
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import LostProcessError
from ptycho.raw_data import RawData
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing import team as team_module
from ptycho.workflows.sharing.shared_trust import SharedTrust
from ptycho.workflows.sharing.team import SINGLE
from ptycho.workflows.trust import scan_trust

N = 16


class OneByOne(NumpyKernels):
    """A pattern at a time, so that parts are worked on in the batches of the whole."""

    batch_pixels = N * N


def backend_of(engine=None):
    """What others find by the name of this module."""
    made = TrustEngine(lambda: OneByOne("amplitude", 0.0)) if engine is None else engine
    return SimpleNamespace(trust_engine=lambda run: made, refine=backend_of)


def shared(team, engine=None):
    made = backend_of(engine).trust_engine(None)
    run = RunOptions(watch=print)
    return SharedTrust(made.kernels, made.memory, backend=backend_of(engine), run=run, team=team)


@pytest.fixture
def scan(rng):
    """That drifts, so that its parts differ, with a mask for each pattern."""
    made = make_scan("lines", 61, N, 5.0, 0.5, 1e4, 4)
    mask = rng.random(made.diffraction.shape) > 0.1
    found = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, mask=mask, units="amplitude")
    found.truth = (made.object * np.exp(0.1j * rng.random(made.object.shape))).astype(np.complex64)
    return found


def measured(scan, engine, recording=PLAIN, image=None):
    where = scan.xcoords, scan.ycoords
    image = scan.truth if image is None else image
    return scan_trust(image, scan.probeGuess[None], *where, scan, 1e6, engine, recording=recording)


@dataclass
class _Noted:
    """A team that notes what is given to whom."""

    team: object
    parts: dict = field(default_factory=dict)
    boxes: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.team, name)

    def send(self, value, rank):
        self.parts[rank] = value
        self.team.send(value, rank)

    def exchange(self, pieces, shapes):
        self.boxes = pieces
        return self.team.exchange(pieces, shapes)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("flown", [False, True])
def test_the_trust_is_that_of_one_process_to_the_bit(scan, served, monkeypatch, rng, size, flown):
    monkeypatch.setattr(team_module.importlib, "import_module", {__name__: backend_of()}.get)
    count = len(scan)
    recording = Recording(rng.uniform(0.5, 2, count), rng.uniform(-1, 1, (count, 2, 2))) if flown else PLAIN
    with served(size) as first:
        team = _Noted(first)
        several = measured(scan, shared(team), recording)
    one = measured(scan, shared(SINGLE), recording)
    for each in fields(Misfits):
        np.testing.assert_array_equal(getattr(several, each.name), getattr(one, each.name), err_msg=each.name)
    assert several.deviance.std() > 0
    on_host = measured(scan, ON_HOST, recording)
    np.testing.assert_allclose(several.deviance, on_host.deviance, rtol=1e-9)
    assert team.parts.keys() == set(range(1, size))
    assert [box.size < 0.9 * scan.truth.size for box in team.boxes] == [True] * size
    for prediction, _, given in team.parts.values():
        patterns = RawData.from_shared(given).diff3d
        assert np.flatnonzero(patterns.any(axis=(1, 2))).tolist() == prediction.which.tolist()
        assert 0 < len(prediction.which) <= -(-count // size) and not prediction.object.size


def test_the_first_reads_its_own_patterns_alone(scan, served, monkeypatch):
    monkeypatch.setattr(team_module.importlib, "import_module", {__name__: backend_of()}.get)
    scan.scales(1e6)  # what is known of the whole is known
    read, amplitude = [], scan.amplitude
    scan.amplitude = lambda some: read.append(some) or amplitude(some)
    with served(3) as first:
        measured(scan, shared(first))
    assert len(np.concatenate(read)) == len(np.unique(np.concatenate(read))) == len(scan) // 3


def test_a_team_larger_than_the_scan_has_some_with_nothing_to_do(scan, served, monkeypatch):
    monkeypatch.setattr(team_module.importlib, "import_module", {__name__: backend_of()}.get)
    two = scan.part(np.array([3, 40]))
    two.truth = scan.truth
    with served(3) as first:
        found = measured(two, shared(first))
    np.testing.assert_array_equal(found.deviance, measured(two, shared(SINGLE)).deviance)


def test_a_few_patterns_are_the_work_of_the_first(scan):
    """Those that are not a scan of their own: nobody is asked."""
    where = scan.truth, scan.probeGuess, scan.xcoords[:3], scan.ycoords[:3]
    team = SimpleNamespace(size=2)
    found = measure_trust(*where, scan.amplitude, 1.0, "measured", scan.mask[:3], engine=shared(team))
    assert len(found.deviance) == 3


def test_one_that_fails_is_told(scan, served, monkeypatch):
    def broken():
        raise ValueError("no\nluck")

    monkeypatch.setattr(team_module.importlib, "import_module", {__name__: backend_of(TrustEngine(broken))}.get)
    with (
        pytest.raises(LostProcessError, match=r"process 1 of 2 \(counted from 0\) failed: ValueError: no luck"),
        served(2) as first,
    ):
        measured(scan, shared(first))

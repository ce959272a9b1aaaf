"""Several processes by torch.distributed: what they add up, and what is said where one is lost."""

import os
import signal
import time
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig
from ptycho.core.physics.near_field import NearField
from ptycho.core.quality.misfits import Misfits
from ptycho.core.refinement.device.images import Resident
from ptycho.core.refinement.state_file import EVERY, StateFile
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import ConfigError, LostProcessError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.shared_refinement import SharedRefinement
from ptycho.workflows.sharing.team import SINGLE
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import scan_trust
from ptycho_torch import backend
from ptycho_torch.distributed import crew
from ptycho_torch.distributed.crew import Crew, _gpu_of_the_caller, team
from ptycho_torch.images import TorchImages

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu03", "MASTER_PORT": "29500"}


def test_one_device_is_this_process():
    with team(PyTorchExecutionConfig()) as found:
        assert found is SINGLE


def test_the_program_around_stays_at_its_gpu(monkeypatch):
    """The first of several processes takes the first GPU; one that used none has none to go back to."""
    at = [3]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: at[-1])
    monkeypatch.setattr(torch.cuda, "set_device", at.append)
    for used, expected in ((True, [3, 0, 3]), (False, [3, 0])):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda used=used: used)
        del at[1:]
        with _gpu_of_the_caller():
            torch.cuda.set_device(0)
        assert at == expected


def test_several_machines_are_started_by_others(monkeypatch):
    with (
        pytest.raises(ConfigError, match="nodes=2: expected torchrun or srun to have started a process for every"),
        team(PyTorchExecutionConfig(nodes=2)),
    ):
        pass
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ConfigError, match="devices=3, nodes=1: expected 3 processes, found 4; leave both out"),
        team(PyTorchExecutionConfig(devices=3)),
    ):
        pass


def scan_of(N, size):
    made = make_scan("lines", size, N=N, step=6.0, jitter=1.0, photons=1e6, seed=3)
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")


def _add_up(crew, factor):
    numbers, image = np.array([crew.rank + 0.5]), np.full((2, 3), factor * 1j, np.complex64)
    crew.sum(numbers, image, np.array(1.0))


def _hang(crew, which):
    if crew.rank == which:
        time.sleep(600)
    crew.sum(np.zeros(1))


def _wait_for_a_gpu(crew, hanging=None):
    """As for one that waits for those of the others, and would for ever."""
    if crew.rank == hanging:
        time.sleep(600)
    with crew.watched():
        crew._until(lambda: False)


def _fail(crew):
    crew.receive()
    raise ValueError("no\nluck")


@pytest.mark.slow
def test_sums_of_several_processes():
    threads = torch.get_num_threads()
    with team(PyTorchExecutionConfig(devices=3)) as crew:
        assert (crew.rank, crew.size) == (0, 3)
        crew.begin(_add_up, 2.0)
        numbers, image, count = crew.sum(np.array([0.25]), np.full((2, 3), 1 + 0j, np.complex64), np.array(1.0))
        assert numbers == 0.25 + 1.5 + 2.5 and count == 3 and count.shape == ()
        assert image.dtype == np.complex64 and np.all(image == 1 + 4j)
        assert crew.sent == 8 * 2 + 2 * 3 * 8
        with team(PyTorchExecutionConfig(devices=2)) as again:
            assert again is crew
    assert torch.get_num_threads() == threads and not torch.distributed.is_initialized()


def _resident(values):
    return Resident(torch.from_numpy(values), values.dtype, torch.Tensor.numpy)


def _sums_of_images(crew, in_order):
    _add_in_order(crew, in_order)
    image, numbers = np.arange(6, dtype=np.complex64).reshape(3, 2) * (1j + crew.rank), np.float32(ORDERS[crew.rank])
    given = np.array(crew.rank + 0.5), _resident(image), _resident(image.astype(complex)[:, ::-1].copy()), numbers
    found = crew.sum(*given)
    if crew.rank:
        crew.send(found[-1], 0)
    return found


ORDERS = [[1e8, 1, 1e8], [1, -1e8, -1e8], [-1e8, 1e8, 1]]
"""1 is lost beside 1e8 in single precision, unless 1e8 has gone before."""


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_images_stay_where_they_are(size):
    """Tensors of the host, which go as those of GPUs do, by order or not."""
    with team(PyTorchExecutionConfig(devices=size)) as crew:
        for in_order in (False, True):
            crew.begin(_sums_of_images, in_order)
            number, image, turned, numbers = _sums_of_images(crew, in_order)
            assert number == sum(range(size)) + size / 2
            expected = np.arange(6).reshape(3, 2) * (size * 1j + sum(range(size)))
            for found, dtype in ((image, np.complex64), (turned, np.complex128)):
                assert isinstance(found, Resident) and found.dtype == dtype and found.value.is_complex()
            assert np.array_equal(image, expected) and np.array_equal(turned, expected[:, ::-1])
            for rank in range(1, size):
                assert np.array_equal(crew.receive(rank), numbers)
        assert numbers.tolist() == np.cumsum(np.float32(ORDERS), axis=0)[size - 1].tolist()


def _exchange(crew, on_a_device=False):
    pieces = [np.full((crew.rank, rank + 1), 10 * crew.rank + rank) for rank in range(crew.size)]
    if on_a_device:
        pieces = [_resident(piece * (1 + 0j)) for piece in pieces]
    return crew.exchange(pieces, [(rank, crew.rank + 1) for rank in range(crew.size)])


@pytest.mark.slow
def test_every_process_gets_what_the_others_have_for_it():
    with team(PyTorchExecutionConfig(devices=3)) as crew:
        crew.begin(_exchange)
        none, one, two = _exchange(crew)
        assert none.shape == (0, 1) and one.tolist() == [[10]] and two.tolist() == [[20], [20]]
        assert crew.sent == 0
        crew.begin(_exchange, True)
        none, one, two = _exchange(crew, True)
        assert all(isinstance(each, Resident) for each in (none, one, two))
        assert none.shape == (0, 1) and one.tolist() == [[10]] and two.tolist() == [[20], [20]]


def _add_in_order(crew, in_order):
    crew._tensors._in_order = ("cpu",) if in_order else ()


KEPT = property(lambda _: False, lambda *_: None)


def _keep_on_the_device(crew):
    """Have strips stay in tensors, as those of GPUs do, where else NumPy has them."""
    TorchImages.on_host = KEPT


@pytest.fixture
def kept_by(monkeypatch):
    """Does the same in all processes of a crew."""

    def keep(crew):
        monkeypatch.setattr(TorchImages, "on_host", KEPT, raising=False)
        crew.begin(_keep_on_the_device)

    return keep


@pytest.mark.slow
@pytest.mark.parametrize(("size", "mapped", "strips"), [(2, True, True), (2, False, False), (3, False, True)])
def test_several_find_what_one_finds(size, mapped, strips, tmp_path, kept_by):
    """In single precision: sums of another order are 1e-7 off, which every five iterations double and more.

    As GPUs do it: whole objects are added in the order of the processes, strips stay in tensors.
    """
    scan = scan_of(32, 96)
    if mapped:
        scan.to_file(tmp_path / "scan.npz")
        scan = RawData.from_file(tmp_path / "scan.npz", memory_map="always")
    run = backend.settled(RunOptions(execution=PyTorchExecutionConfig(accelerator="cpu", devices=size)))
    settings = {"refine_probe": True, "refine_positions": True, "refine_flux": True, "tolerance": 0.0, "patience": 99}
    settings |= {"strips": strips}
    with backend.team(run) as crew:
        kept_by(crew)
        crew.begin(_add_in_order, not strips)
        _add_in_order(crew, not strips)
        solvers = [Solver.of(backend, InferenceConfig(backend="pytorch"), run, each) for each in (crew, SINGLE)]
        found = [solver.refine(scan, None, 15, **settings) for solver in solvers]
        sums = crew.sent / (8 * found[0].object.size)
        # one of its size an iteration, and small ones; of strips of so small an object the rims are as much
        assert 15 < sums < (40 if strips else 25)
        shared, alone = (measured_reconstruction(found[1], scan, solver.trust).trust for solver in solvers)
    several, one = found
    for name in ("object", "probe", "xcoords", "ycoords", "flux"):
        there, here = getattr(several, name), getattr(one, name)
        assert np.linalg.norm(there - here) < 1e-5 * np.linalg.norm(here), name
    np.testing.assert_allclose(several.error_history, one.error_history, rtol=1e-4)
    for each in fields(Misfits):
        np.testing.assert_allclose(getattr(shared, each.name), getattr(alone, each.name), rtol=1e-9, err_msg=each.name)
    assert shared.verdict == alone.verdict


@pytest.mark.slow
def test_one_that_is_killed_while_the_trust_is_measured_is_told():
    """It has its patterns, and has begun."""
    scan = scan_of(64, 300)
    run = backend.settled(RunOptions(execution=PyTorchExecutionConfig(accelerator="cpu", devices=2)))
    where = np.ones((300, 300), complex), scan.probeGuess[None], scan.xcoords, scan.ycoords
    with pytest.raises(LostProcessError, match=r"process 1 of 2 .* was ended by SIGKILL"), backend.team(run) as crew:
        engine = Solver.of(backend, InferenceConfig(backend="pytorch"), run, crew).trust

        def kernels():
            os.kill(crew._started[1][0].pid, signal.SIGKILL)
            return engine.kernels()

        scan_trust(*where, scan, 1e6, replace(engine, kernels=kernels))


@pytest.mark.slow
@pytest.mark.parametrize("slices", [1, 2])
def test_strips_go_on_where_a_process_was_killed(slices, tmp_path, kept_by):
    """Those of slices are in NumPy, others stay in tensors."""
    scan = scan_of(32, 96)
    run = backend.settled(RunOptions(execution=PyTorchExecutionConfig(accelerator="cpu", devices=2)))
    settings = {"tolerance": 0.0, "patience": 99, "strips": True}
    if slices > 1:
        settings |= {"slices": slices, "gap": NearField(0.15), "refine_thickness": True}
    path, begun = tmp_path / "state.npz", []

    def found_by(crew, report):
        refine, kept = SharedRefinement(backend, InferenceConfig(backend="pytorch"), run, crew), None
        if crew is not SINGLE:
            kept_by(crew)
            kept = StateFile(path, "slices", seconds=0.0)
        return refine(scan, None, EVERY + 4, report=report, state_file=kept, **settings)

    with pytest.raises(LostProcessError, match="SIGKILL"), backend.team(run) as crew:
        found_by(crew, lambda k, _: k == EVERY + 2 and os.kill(crew._started[1][0].pid, signal.SIGKILL))
    assert path.exists()
    with backend.team(run) as crew:
        several = found_by(crew, lambda k, _: begun.append(k))
    one = found_by(SINGLE, None)
    assert begun[0] == EVERY and len(several.error_history) == EVERY + 5
    if slices > 1:
        assert several.slices.shape == one.slices.shape == (2, *one.object.shape)
        assert several.gap.fresnel_number == pytest.approx(one.gap.fresnel_number, rel=1e-5)
    for name in ("object", "probe", *(["slices"] if slices > 1 else [])):
        there, here = getattr(several, name), getattr(one, name)
        assert np.linalg.norm(there - here) < 1e-5 * np.linalg.norm(here), name


@pytest.mark.slow
def test_a_process_that_hangs_is_told():
    """Waiting for work is not hanging."""
    with (
        pytest.raises(LostProcessError, match=r"process 2 of 3 \(counted from 0\) gave no answer for 12 s"),
        team(PyTorchExecutionConfig(devices=3, process_timeout=12.0)) as crew,
    ):
        time.sleep(14)
        crew.begin(_hang, 2)
        begun = time.monotonic()
        hanging = crew._started[2][0]
        crew.sum(np.zeros(1))
    assert time.monotonic() - begun < 90 and hanging.poll() == -signal.SIGKILL


@pytest.mark.slow
def test_the_others_do_not_wait_for_a_first_that_hangs():
    with team(PyTorchExecutionConfig(devices=2, process_timeout=2.0)) as crew:
        crew.begin(_hang, None)
        other, said = crew._started[1]
        assert other.wait(60) == 1
        said.seek(0)
        assert said.read().decode().endswith("process 0 of 2 (counted from 0) gave no answer for 2 s\n")


@pytest.mark.slow
def test_a_process_that_is_lost_is_told():
    execution = PyTorchExecutionConfig(devices=3)
    with (
        pytest.raises(LostProcessError, match=r"process 2 of 3 \(counted from 0\) was ended by SIGKILL"),
        team(execution) as crew,
    ):
        os.kill(crew._started[2][0].pid, signal.SIGKILL)
        crew.begin(_add_up, 2.0)
        crew.sum(np.zeros(1), np.zeros((2, 3), np.complex64), np.array(1.0))
    with (
        pytest.raises(LostProcessError, match=r"process 1 of 2 .* failed: ValueError: no luck"),
        team(PyTorchExecutionConfig(devices=2)) as crew,
    ):
        crew.begin(_fail)
        crew.send(None, 1)
        crew.sum(np.zeros(1))
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_whoever_waits_for_a_gpu_hears_of_a_process_that_is_lost():
    """NCCL says nothing of it, and a GPU waits as long as it likes."""
    with (
        pytest.raises(LostProcessError, match=r"process 2 of 3 \(counted from 0\) was ended by SIGKILL"),
        team(PyTorchExecutionConfig(devices=3)) as crew,
    ):
        crew.begin(_wait_for_a_gpu)
        os.kill(crew._started[2][0].pid, signal.SIGKILL)
        begun = time.monotonic()
        _wait_for_a_gpu(crew)
    assert time.monotonic() - begun < 20
    with (
        pytest.raises(LostProcessError, match=r"process 1 of 2 \(counted from 0\) gave no answer for 3 s"),
        team(PyTorchExecutionConfig(devices=2, process_timeout=3.0)) as crew,
    ):
        crew.begin(_wait_for_a_gpu, 1)
        _wait_for_a_gpu(crew)


@pytest.fixture
def crew_of_two(monkeypatch):
    monkeypatch.setattr(torch.distributed, "new_group", lambda **_: None)
    return Crew(torch.distributed.HashStore(), 0, 2, 60.0)


def test_what_a_gpu_has_done_is_waited_for(crew_of_two, monkeypatch):
    class Event:
        answers = iter([True])

        def record(self):
            self.answers = iter([False, False, True])

        def query(self):
            return next(self.answers)

    made = [Event()]
    monkeypatch.setattr(torch.cuda, "Event", lambda: made[0])
    crew_of_two._arrived(torch.device("cpu"))
    assert list(Event.answers) == [True]
    crew_of_two._arrived(torch.device("cuda"))
    assert list(made[0].answers) == []


@pytest.mark.parametrize("noted", ["ptycho/wait/1", "ptycho/fault/1"])
def test_a_note_of_another_ends_the_waiting(noted, crew_of_two, monkeypatch):
    monkeypatch.setattr(crew, "LOOK_SECONDS", 0.0)
    looks = iter([False, False])
    with pytest.raises(StopIteration):  # nothing is noted: it goes on
        crew_of_two._until(lambda: next(looks))
    crew_of_two._store.set(noted, "gave up")
    with pytest.raises(RuntimeError, match="process 1 is gone"):
        crew_of_two._until(lambda: False)


def test_without_nccl_gpus_go_through_the_host(caplog, monkeypatch):
    """As PyTorch may be built; a team of one process."""
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with crew._group(torch.distributed.HashStore(), 0, 1, crew.Terms(True, True, 60.0), dict) as found:
        assert "this PyTorch has no NCCL" in caplog.text
        assert np.array_equal(found.sum(np.ones(3))[0], np.ones(3))

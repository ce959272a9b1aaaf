"""A team over connections: what it adds up and hands on, and what is said where one is lost."""

import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ptycho.core.refinement.device.images import Resident
from ptycho.errors import LostProcessError
from ptycho.workflows.sharing import connected
from ptycho.workflows.sharing.connected import Connected, Link, joined, welcomed
from ptycho.workflows.sharing.started import end, start

TOKEN = bytes(range(32))


def of_a_device(values):
    return Resident(values, values.dtype, np.array)


@pytest.mark.parametrize("kind", [np.asarray, of_a_device])
def test_sums_and_what_the_first_makes(teams, kind):
    """What is on a device is fetched, and comes back in NumPy."""

    def work(team):
        image = kind(np.full((2, 3), 1j * team.rank, np.complex64))
        number, images, count = team.sum(np.array([team.rank + 0.5]), image, np.array(1, np.int64))
        assert isinstance(images, np.ndarray)
        return number, images, count, team.first(lambda: f"of {team.rank}")

    with ThreadPoolExecutor(3) as pool:  # processes that are threads
        found = list(pool.map(work, teams(3)))
    for number, image, count, told in found:
        assert number == 0.5 + 1.5 + 2.5 and count == 3 and np.shape(count) == ()
        assert image.dtype == np.complex64 and np.all(image == 3j)
        assert told == "of 0"


@pytest.mark.parametrize("kind", [np.asarray, of_a_device])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_process_gets_what_the_others_have_for_it(teams, size, kind):
    def work(team):
        pieces = [kind(np.full((team.rank, rank + 1), 10 * team.rank + rank)) for rank in range(size)]
        return team.exchange(pieces, [(rank, team.rank + 1) for rank in range(size)])

    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(work, teams(size)))
    for rank, pieces in enumerate(found):
        assert [piece.shape for piece in pieces] == [(sender, rank + 1) for sender in range(size)]
        assert all(np.all(piece == 10 * sender + rank) for sender, piece in enumerate(pieces))


def _answer(team, factor):
    team.send(factor * team.receive(), 0)


def test_the_others_do_what_the_first_begins(teams):
    first, *others = teams(3)
    threads = [threading.Thread(target=other.serve) for other in others]
    for thread in threads:
        thread.start()
    for number in (2, 3):
        first.begin(_answer, number)
        first.send(10, 1)
        first.send(20, 2)
        assert (first.receive(1), first.receive(2)) == (10 * number, 20 * number)
    first.end(done=True)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def _fail(team):
    if team.rank == 2:
        raise ValueError("no\nluck")
    team.receive()


def served(team):
    try:
        team.serve()
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("told", ["sum", "lost"])
def test_a_process_that_fails_is_told(teams, told):
    first, *others = teams(3)
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(served, other) for other in others]
        first.begin(_fail)
        with pytest.raises(LostProcessError, match=r"^process 2 of 3 \(counted from 0\) failed: ValueError: no luck$"):
            if told == "lost":  # by another exchange than that of the team
                raise first.lost(RuntimeError("a ring was cut"))
            others[0]._tell("")  # it ends only because another one is gone
            first.sum(np.zeros(1))
        first.end(done=False)
        assert [each.result(20) for each in ends] == ["", "no\nluck"]


def test_a_process_that_does_not_answer_is_told(teams, monkeypatch):
    monkeypatch.setattr(connected, "LATE_SECONDS", 0.2)

    def work(team):
        if team.rank == 1:
            return ""
        with pytest.raises(LostProcessError) as caught:
            team.sum(np.zeros(1))
        return str(caught.value)

    processes = teams(3, timeout=0.2)  # they stay: one that goes closes its connection
    with ThreadPoolExecutor(3) as pool:
        first, _, other = pool.map(work, processes)
    assert first == "process 1 of 3 (counted from 0) gave no answer for 0.2 s"
    assert other == "process 0 of 3 (counted from 0) gave no answer for 0.2 s"


def test_one_that_is_gone_is_told_by_what_it_ended_with():
    order = "import socket, time; from ptycho.workflows.sharing.connected import joined; "
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    started = start(2, lambda rank: f"{order}link = joined('127.0.0.1', {port}, {TOKEN!r}, {rank}); time.sleep(60)", {})
    with listening:
        first = Connected(0, 2, welcomed(listening, TOKEN, 2, started), 20.0, started)
    os.kill(started[1][0].pid, signal.SIGKILL)
    with pytest.raises(LostProcessError, match=r"^process 1 of 2 \(counted from 0\) was ended by SIGKILL$"):
        first.sum(np.zeros(1))
    first.end(done=False)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_one_that_works_ends_with_the_first():
    order = "import socket, time; from ptycho.workflows.sharing.connected import joined; "
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked = f"'127.0.0.1', {listening.getsockname()[1]}, {TOKEN!r}, 1, 0.0"
        started = start(2, lambda _rank: f"{order}link = joined({asked}); link.end_with_it(); time.sleep(60)", {})
        [link] = welcomed(listening, TOKEN, 2, started).values()
    link.put("it is not read", 5.0)
    link.close()
    assert started[1][0].wait(30) == 1
    end(started, done=True)


def test_one_that_ends_instead_of_joining_is_told():
    started = start(2, lambda _rank: "raise SystemExit('no TensorFlow here')", {})
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(LostProcessError, match=r"process 1 of 2 .* ended with status 1: no TensorFlow here"),
    ):
        welcomed(listening, TOKEN, 2, started)
    end(started, done=False)


def test_only_who_knows_the_token_joins(monkeypatch):
    monkeypatch.setattr(connected, "JOINING_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(3) as pool:
        port = listening.getsockname()[1]
        found = pool.submit(welcomed, listening, TOKEN, 2, {})
        stranger = pool.submit(joined, "127.0.0.1", port, TOKEN[::-1], 1, seconds=0.0)
        with pytest.raises(LostProcessError, match=rf"process 1: expected the first at 127.0.0.1:{port}, found"):
            stranger.result(20)
        with pytest.raises(LostProcessError, match="expected 2 processes to join, found 1"):
            found.result(20)


@pytest.mark.skipif(sys.platform == "win32", reason="pairs of sockets have another family there")
def test_a_long_value_goes_whole():
    here, there = (Link(one) for one in socket.socketpair())
    sent = np.arange(300_000.0)
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(there.get, 20.0)
        here.put(sent, 20.0)
        np.testing.assert_array_equal(got.result(20), sent)
    assert not here.says_something(0.0)
    there.close()
    assert here.says_something(20.0)
    with pytest.raises(ConnectionError, match="the connection was closed"):
        here.get(20.0)

"""Patterns that are sent in each pass, on a CPU, where nothing is copied: the same bits. A GPU was not at hand."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from ptycho.core.refinement.device.engine import Engine
from ptycho.core.refinement.device.kernels import Measured
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.sums import batches
from ptycho.core.refinement.sums.batches import Batches
from ptycho.core.refinement.trust import TrustEngine, measure_trust
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData
from ptycho_torch.device.streaming import TorchStream
from ptycho_torch.refinement_kernels import RefinementKernels

N, SIZE = 16, 44


class Streaming(RefinementKernels):
    """Kernels that send patterns, as those of a GPU do, a few at once."""

    sends = True
    sent = 0

    def __init__(self, *options, **named) -> None:
        super().__init__(*options, **named)
        self.lanes, self.batch_pixels = 1, 20 * N * N
        self.stream = self if self.sends else None
        self._line = TorchStream(torch.device("cpu"))

    def hold(self, measured):
        return self._line.hold(measured)

    def send(self, held):
        Streaming.sent += 1
        return self._line.send(held)

    def arrived(self, sent):
        return self._line.arrived(sent)


class Still(Streaming):
    sends = False


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("room", [None, 0], ids=["held in the host", "read again"])
def test_patterns_that_are_sent_give_the_same_bits(room, masked, rng, monkeypatch) -> None:
    if room is not None:
        monkeypatch.setattr(batches, "available_bytes", lambda: room)
    made = make_scan("lines", SIZE, N, 5.0, 0.5, 1e4, 4)
    mask = rng.random(made.diffraction.shape) > 0.2 if masked else None
    scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, mask=mask, units="amplitude")
    settings = {"device_memory": 0, "refine_flux": True, "refine_background": "smooth", "holdout": 5, "tolerance": 0}
    before = Streaming.sent
    one, other = (
        refine_scan(scan, None, 5, engine=Engine("streaming", kind), **settings) for kind in (Streaming, Still)
    )
    assert Streaming.sent > before
    np.testing.assert_array_equal(one.object, other.object)
    assert (one.error_history, one.unseen_history) == (other.error_history, other.unseen_history)


def test_trust_sends_every_pattern_once_and_holds_none(monkeypatch) -> None:
    made, held = make_scan("lines", SIZE, N, 5.0, 0.5, 1e4, 4), []

    def watched(self: Batches, *arguments: Any, **named: Any) -> None:
        begun(self, *arguments, **named)
        held.append(self)

    begun = Batches.__init__
    monkeypatch.setattr(Batches, "__init__", watched)
    before, found = Streaming.sent, []
    for kind in (Streaming, Still):
        engine = TrustEngine(partial(kind, "amplitude", 0.0, dtype=torch.float64), memory=1 << 30)
        where = made.object, made.probe, made.xcoords, made.ycoords
        found.append(measure_trust(*where, lambda some: made.diffraction[some], 1.0, "measured", engine=engine))
    sent, kept = held
    assert Streaming.sent - before == len(sent.seen) > 1
    assert all(part.held is None and part.measured is None and part.fields is None for part in sent.seen + kept.seen)
    np.testing.assert_array_equal(found[0].deviance, found[1].deviance)


def test_what_is_packed_is_sent_as_it_is() -> None:
    stream = TorchStream(torch.device("cpu"))
    held = stream.hold(Measured(np.array([[0, 255]], np.uint8), None))
    found = stream.arrived(stream.send(held))
    assert (found.amplitude.dtype, found.valid) == (torch.uint8, None)


class Values:
    """Stands for a tensor that is copied."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def to(self, device, non_blocking):
        assert device.type == "cuda" and non_blocking
        self.seen.append("copy")
        return self

    def record_stream(self, stream):
        self.seen.append(f"kept for {stream.name}")


def test_on_a_gpu_the_work_waits_for_the_copy_and_the_host_does_not(monkeypatch) -> None:
    """With doubles of what torch.cuda has."""
    seen: list[str] = []

    class Stream:
        def __init__(self, name="copies"):
            self.name = name if isinstance(name, str) else "copies"

        def wait_event(self, event):
            seen.append(f"{self.name} waits")

    class Event:
        def record(self, stream):
            seen.append(f"recorded on {stream.name}")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext(seen.append(f"on {stream.name}")))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("work"))
    stream = TorchStream(torch.device("cuda"))
    sent = stream.send(Measured(Values(seen), None))
    assert seen == ["on copies", "copy", "recorded on copies"]
    seen.clear()
    assert stream.arrived(sent).amplitude.seen == ["work waits", "kept for work"]

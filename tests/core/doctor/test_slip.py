"""Where patterns slip along their positions: the search, with reconstructions that know the answer."""

from types import SimpleNamespace

import numpy as np
import pytest

from ptycho.core.doctor import slip as module
from ptycho.core.doctor.frame_shift import ShiftTest, Slip, may_be_off, rank_among
from ptycho.core.doctor.slip import find_slip


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch):
    """`find_slip` of a scan whose pattern j shows position `true[j]`."""

    def run(true: np.ndarray) -> Slip | None:
        def rank(sampler: object, scale: float, among: np.ndarray) -> ShiftTest:
            errors = {k: 0.01 + float(np.mean(true[among] - among != k)) for k in (-1, 0, 1)}
            return ShiftTest(tuple(sorted(errors.items())), 9.0, 2.0, 25, len(true))

        def read(places: np.ndarray, patterns: np.ndarray) -> SimpleNamespace:
            return SimpleNamespace(wrong=(true[patterns] != places).astype(float), xcoords=places, ycoords=places)

        def foretell(sample: SimpleNamespace, kept_back: np.ndarray, iterations: int, refine_probe: bool):
            alike = sample.wrong.sum() // 2  # one pattern more or less at the wrong place is not seen among many
            return SimpleNamespace(excess=alike, squares=sample.wrong[kept_back][:, None, None])

        def off(sampler: object, scale: float, among: np.ndarray, right: ShiftTest) -> bool:
            return bool(np.mean(true[among] != among) > 0.01)

        monkeypatch.setattr(module, "rank_among", rank)
        monkeypatch.setattr(module, "may_be_off", off)
        monkeypatch.setattr(module, "foretell", foretell)
        monkeypatch.setattr(module, "scaled", lambda sample, scale: sample)
        places = np.arange(len(true), dtype=float)
        return find_slip(SimpleNamespace(positions=(places, places), read=read), 1.0)  # type: ignore[arg-type]

    return run


@pytest.mark.parametrize("total", [49, 700])
def test_a_slip_up_to_the_end(total, search):
    true = np.arange(total)
    assert search(true) is None
    for first, frames in ((total // 2 + 6, 1), (total * 2 // 3, -1)):
        true = np.arange(total)
        true[first:] += frames
        assert search(true) == Slip(first, frames)


@pytest.mark.parametrize(("total", "first", "last", "frames"), [(49, 20, 34, 1), (49, 16, 35, -1), (700, 290, 433, 1)])
def test_a_slip_that_ends_again(total, first, last, frames, search):
    """A frame lost, and the second half of the file mended already."""
    true = np.arange(total)
    true[first : last + 1] += frames
    found = search(true)
    assert found == Slip(first, frames, last)
    assert found.mend == f"move --frames={frames} --first={first} --last={last}"
    assert f"From pattern {first} to {last} " in found.sentence and found.sentence.endswith(f"dataset {found.mend}.")


def test_points_that_do_not_overlap_are_not_tried(rng):
    """Successive points of a path that leaps about: their object would be as large as that of the scan."""
    x, y = rng.uniform(0, 4000, (2, 60))
    probe = np.exp(-(np.hypot(*np.mgrid[-16:16, -16:16]) ** 2) / 50)[None].astype(np.complex64)
    sampler = SimpleNamespace(positions=(x, y), probe=probe)  # without patterns: none may be read
    among = np.arange(60)
    assert not rank_among(sampler, 1.0, among).errors
    assert not may_be_off(sampler, 1.0, among, ShiftTest(((0, 0.1), (1, 1.0)), 9.0, 2.0, 25, 60))
    near = SimpleNamespace(positions=(x / 100, y / 100), probe=probe)
    with pytest.raises(AttributeError, match="read"):
        rank_among(near, 1.0, among)

"""Frames that go to another process: those of a file by its name, others by their values."""

import pickle

import numpy as np
import pytest

from ptycho.core.scan.share import Frames
from ptycho.errors import DataError
from ptycho.raw_data import RawData

OWN = np.array([1, 4])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "frames.npy"
    np.save(path, np.arange(6 * 3 * 4, dtype=np.uint16).reshape(6, 3, 4))
    return path


def sent(frames):
    return pickle.loads(pickle.dumps(frames))  # noqa: S301


@pytest.mark.parametrize("view", [np.s_[:], np.s_[1:], np.s_[::-1], np.s_[:, :, 1:3], np.s_[2:, ::2, 1]])
def test_a_map_goes_by_the_name_of_its_file(file, view):
    mapped = np.load(file, mmap_mode="r")[view]
    frames = Frames.of(mapped, OWN)
    assert frames.file == file and len(pickle.dumps(frames)) < 2000
    assert np.array_equal(sent(frames).opened(), np.load(file)[view])


def test_of_other_arrays_those_asked_for_go(file):
    whole = np.load(file)
    found = sent(Frames.of(whole, OWN)).opened()
    assert found.shape == whole.shape and found.dtype == whole.dtype
    assert np.array_equal(found[OWN], whole[OWN]) and not found[[0, 2, 3, 5]].any()


def test_a_map_without_a_name_goes_by_its_values(tmp_path):
    with (tmp_path / "gone").open("w+b") as stream:
        mapped = np.memmap(stream, np.float32, "w+", shape=(6, 2))
        mapped[:] = np.arange(12).reshape(6, 2)
        (tmp_path / "gone").unlink()
        assert sent(Frames.of(mapped, OWN)).opened()[4].tolist() == [8, 9]


def test_a_file_that_is_not_there_is_told(file):
    frames = Frames.of(np.load(file, mmap_mode="r"), OWN)
    file.unlink()
    with pytest.raises(DataError, match=r"frames\.npy: expected the patterns, .* found: No such file .*; put the scan"):
        frames.opened()


@pytest.mark.parametrize("memory_map", ["always", "never"])
def test_a_scan_arrives_with_what_is_known_of_it(tmp_path, memory_map):
    rng = np.random.default_rng(0)
    counts = rng.poisson(50.0, (6, 8, 8)).astype(np.float32)
    mask = rng.random((6, 8, 8)) > 0.1
    made = RawData(np.arange(6.0), np.zeros(6), None, None, counts, np.ones((8, 8), complex), mask=mask, units="counts")
    made.to_file(tmp_path / "scan.npz")
    scan = RawData.from_file(tmp_path / "scan.npz", memory_map=memory_map)
    scan = scan.with_recording(np.linspace(1, 2, 6), np.full((8, 8), 0.5))
    found = RawData.from_shared(sent(scan.shared(OWN)))
    assert found.units == "counts" and len(found) == 6
    for name in ("xcoords", "probeGuess", "flux", "background"):
        assert np.array_equal(getattr(found, name), getattr(scan, name)), name
    assert np.array_equal(found.amplitude(OWN), scan.amplitude(OWN))
    assert np.array_equal(found.mask[OWN], scan.mask[OWN])

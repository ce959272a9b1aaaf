"""Objects and probes from files of every kind, and what is wrong with other files."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho.core.simulation.truth_files import read_object, read_probe
from ptycho.errors import DataError, MissingFileError

OBJECT = (np.arange(12).reshape(3, 4) + 2j).astype(np.complex64)
PROBE = np.stack([np.eye(4), 2j * np.eye(4)]).astype(np.complex64)


@pytest.fixture(params=["npy", "npz", "npz of a result", "hdf5"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A file with the object and one with the probe; product files have an axis of layers."""
    if request.param == "npy":
        np.save(tmp_path / "object.npy", OBJECT)
        np.save(tmp_path / "probe.npy", PROBE)
        return tmp_path / "object.npy", tmp_path / "probe.npy"
    both = tmp_path / ("both.h5" if request.param == "hdf5" else "both.npz")
    if request.param == "npz":
        np.savez(both, objectGuess=OBJECT, probeGuess=PROBE)
    elif request.param == "hdf5":
        with h5py.File(both, "w") as file:
            file["object"], file["probe"] = OBJECT[None], PROBE[None]
    else:
        np.savez(both, object=OBJECT, probe=PROBE)
    return both, both


def test_both_come_from_every_kind_of_file(files: tuple[Path, Path]) -> None:
    np.testing.assert_array_equal(read_object(files[0]), OBJECT)
    np.testing.assert_array_equal(read_probe(files[1], 4), PROBE)


def test_a_single_mode_has_no_axis_of_its_own(tmp_path: Path) -> None:
    np.save(tmp_path / "probe.npy", PROBE[:1].astype(np.complex128))
    found = read_probe(tmp_path / "probe.npy")
    assert (found.shape, found.dtype) == ((4, 4), np.complex64)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((4, 5)), r"expected a probe \(N, N\) or \(modes, N, N\), found shape \(4, 5\)"),
        (np.ones((8, 8)), "expected a probe of 4 x 4 pixels, found 8"),
        (np.zeros((4, 4)), "only zeros"),
        (np.full((4, 4), np.nan), "expected finite numbers for the probe"),
        (np.array(["a"]), "expected finite numbers for the probe"),
    ],
)
def test_a_probe_that_is_none_is_refused(array: np.ndarray, words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "probe.npy", array)
    with pytest.raises(DataError, match=words):
        read_probe(tmp_path / "probe.npy", 4)


def test_a_file_that_does_not_help_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nothing\.npy: expected a file with the object"):
        read_object(tmp_path / "nothing.npy")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(DataError, match=r"text\.npy: expected NPY, NPZ or HDF5 with the object"):
        read_object(tmp_path / "text.npy")
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"pickled\.npy: expected NPY, NPZ or HDF5"):
        read_object(tmp_path / "pickled.npy")
    np.savez(tmp_path / "other.npz", something=OBJECT)
    with pytest.raises(DataError, match="expected an array objectGuess or object, found none"):
        read_object(tmp_path / "other.npz")
    np.save(tmp_path / "layers.npy", np.stack([OBJECT, OBJECT]))
    with pytest.raises(DataError, match=r"expected an object \(H, W\), found shape \(2, 3, 4\)"):
        read_object(tmp_path / "layers.npy")

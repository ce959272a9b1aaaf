"""The names and values of an NPZ are those that were given, whatever the release of NumPy."""

import io
import json

import numpy as np
import pytest

from ptycho.core.npz import write_arrays


def test_what_is_written_is_read_and_nothing_else(tmp_path) -> None:
    arrays = {
        "big endian": np.arange(3, dtype=">u2"),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "text": json.dumps({"µ": 1}),
        "number": 2.5,
        "empty": np.zeros((0, 4), np.complex64),
    }
    write_arrays(tmp_path / "some.npz", arrays)
    with np.load(tmp_path / "some.npz", allow_pickle=False) as file:
        assert file.files == list(arrays)
        for name, values in arrays.items():
            np.testing.assert_array_equal(file[name], values)
            assert file[name].dtype == np.asarray(values).dtype


def test_objects_are_not_pickled() -> None:
    with pytest.raises(ValueError, match=r"[Oo]bject array"):
        write_arrays(io.BytesIO(), {"listed": np.array([{}], dtype=object)})

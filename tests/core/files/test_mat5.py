"""MATLAB files of version 5: what scipy writes passes, and nothing passes that it would not survive."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy import io, sparse

from ptycho.core.files.damage import readable
from ptycho.core.files.mat5 import check_mat5
from ptycho.errors import DataError

CONTENT = {
    "numbers": np.arange(12.0).reshape(3, 4),
    "waves": np.ones((2, 3), complex),
    "text": "abc",
    "cells": np.array([1, "a", np.ones(3)], object),
    "structure": {"x": 1, "inner": {"y": [1, 2], "z": np.empty((0, 3))}},
    "sparse": sparse.csc_matrix(np.eye(3)),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
def test_whole_files_pass(options: dict[str, object], tmp_path: Path) -> None:
    kept = ("numbers", "waves", "text") if options.get("format") == "4" else CONTENT
    io.savemat(tmp_path / "a.mat", {name: CONTENT[name] for name in kept}, **options)
    check_mat5(tmp_path / "a.mat")


def test_what_would_end_the_process_is_refused(tmp_path: Path) -> None:
    """A type that there is not, in each tag of 8 bytes in turn; a byte less than there is; matrices for numbers."""
    io.savemat(tmp_path / "a.mat", {name: CONTENT[name] for name in ("waves", "structure")})
    whole, path = (tmp_path / "a.mat").read_bytes(), tmp_path / "b.mat"
    tags = [
        place
        for place in range(128, len(whole), 8)
        if struct.unpack_from("<I", whole, place)[0] in (5, 6, 9, 14) and struct.unpack_from("<I", whole, place + 4)[0]
    ]
    assert len(tags) > 12
    for place in tags:
        path.write_bytes(whole[:place] + struct.pack("<I", 77) + whole[place + 4 :])
        with pytest.raises(DataError), readable(path, "a whole MATLAB file"):
            check_mat5(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="an element of type 14"):
        check_mat5(path)
    real = whole.rfind(struct.pack("<II", 9, 48), 0, whole.find(b"structure"))
    path.write_bytes(whole[:real] + struct.pack("<I", 14) + whole[real + 4 :])
    with pytest.raises(ValueError, match="a matrix with parts missing or of another type"):
        check_mat5(path)


def test_a_small_variable_that_becomes_a_large_one(tmp_path: Path) -> None:
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM"
    packed = zlib.compress(struct.pack("<II", 14, 200 << 20) + bytes(200 << 20), 9)
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(DataError, match=r"a variable: expected what .* can hold"):
        check_mat5(tmp_path / "a.mat")

"""Checkpoints of the TensorFlow backend as files, and the table of its metrics."""

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.training.checkpoint_npz import MetricsFile, nothing_left, read_checkpoint, write_checkpoint
from ptycho.errors import ArchiveError, MissingFileError

ARRAYS = [np.arange(6.0).reshape(2, 3), np.array(7)]
SHAPES = [(2, 3), ()]


def test_arrays_and_values_come_back(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, ARRAYS, {"epoch": 3})
    arrays, about = read_checkpoint(path, SHAPES)
    for found, given in zip(arrays, ARRAYS, strict=True):
        np.testing.assert_array_equal(found, given)
    assert about["epoch"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("shapes", [[(2, 3)], [(3, 2), ()], [(2, 3), (), ()]])
def test_another_network(shapes: list[tuple[int, ...]], tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, ARRAYS, {})
    with pytest.raises(ArchiveError, match=f"expected {len(shapes)} arrays of this network and optimiser, found 2"):
        read_checkpoint(path, shapes)


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with pytest.raises(MissingFileError, match="leave --resume out"):
        read_checkpoint(path, SHAPES)
    write_checkpoint(path, ARRAYS, {})
    cut = "the beginning of one, which was cut off"
    for content, found in ((b"", cut), (path.read_bytes()[:-30], cut), (b"a text\n", ": File is not a zip file")):
        path.write_bytes(content)
        with pytest.raises(ArchiveError, match=f"expected a checkpoint of the tensorflow backend, found:? ?{found}"):
            read_checkpoint(path, SHAPES)
    with path.open("wb") as file:
        np.savez(file, *ARRAYS)
    with pytest.raises(ArchiveError, match="expected a checkpoint of the tensorflow backend, version 1 or older"):
        read_checkpoint(path, SHAPES)
    write_checkpoint(path, ARRAYS, {"version": 2})
    with pytest.raises(ArchiveError, match=r"version 1 or older, found .* 2:"):
        read_checkpoint(path, SHAPES)


def test_metrics_go_to_the_first_folder_that_is_free(tmp_path: Path) -> None:
    (tmp_path / "logs" / "version_1").mkdir(parents=True)
    (tmp_path / "logs" / "version_old").mkdir()
    metrics = MetricsFile(tmp_path)
    metrics.add(0, 4, {"train_loss": 0.5})
    metrics.add(1, 9, {"train_loss": 0.25})
    written = (tmp_path / "logs" / "version_2" / "metrics.csv").read_text().splitlines()
    assert written == ["epoch,step,train_loss", "0,4,0.5", "1,9,0.25"]


def test_the_line_of_a_training_that_is_over() -> None:
    assert nothing_left(Path("last.ckpt"), 3, 2).startswith("last.ckpt: has 3 of 2 epochs, nothing is left to train")

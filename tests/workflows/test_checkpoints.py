"""Checkpoints of both backends: whole files or none, and a training goes on from its own alone."""

import functools
import io
import logging
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.training import checkpoint_npz
from ptycho.core.training.checkpoint_npz import read_checkpoint as read_tensorflow
from ptycho.errors import ArchiveError, OutputError
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import refine_probe_with_backend, train_cdi_model_with_backend
from ptycho_torch.lightning.checkpoint import read_checkpoint as read_torch

pytestmark = pytest.mark.usefixtures("without_graphs")

ROOT = Path(__file__).parents[2]
EXECUTION = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)


@pytest.fixture(autouse=True)
def _own_params(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))


SETTINGS = TrainingConfig(model=ModelConfig(N=64, n_filters_scale=1), nepochs=1, n_groups=8, batch_size=4)


@pytest.fixture(params=["pytorch", pytest.param("tensorflow", marks=pytest.mark.slow)])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> TrainingConfig:
    return replace(SETTINGS, backend=request.param, output_dir=tmp_path / "run")


def train(scan: Any, config: TrainingConfig, resume: Path | None = None, **options: Any) -> dict[str, Any]:
    execution = EXECUTION if config.backend == "pytorch" else None
    return train_cdi_model_with_backend(scan, None, config, execution_config=execution, resume=resume, **options)


@pytest.fixture(scope="module")
def first_epoch(fixture_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[TrainingConfig], None]:
    """`first_epoch(config)`: what a training of the fixture scan leaves in the folder of these settings.

    TensorFlow makes its graph once for all tests; a checkpoint of Lightning knows the folder that it was written to.
    """

    @functools.cache
    def trained() -> Path:
        folder = tmp_path_factory.mktemp("tensorflow")
        train(RawData.from_file(fixture_file), replace(SETTINGS, backend="tensorflow", output_dir=folder))
        return folder

    def leave(config: TrainingConfig) -> None:
        if config.backend == "tensorflow":
            shutil.copytree(trained(), config.output_dir)
        else:
            train(RawData.from_file(fixture_file), config)

    return leave


def last(config: TrainingConfig) -> Path:
    return config.output_dir / "checkpoints" / "last.ckpt"


def epochs(path: Path) -> int:
    """How many epochs a checkpoint of either backend has seen; reads all of it."""
    try:
        return int(read_torch(path)["epoch"]) + 1
    except ArchiveError:
        with np.load(path, allow_pickle=False) as content:
            shapes = [content[str(index)].shape for index in range(len(content.files) - 1)]
        return int(read_tensorflow(path, shapes)[1]["epoch"])


# Whole files


def _half_and_full(writer: Callable[..., None]) -> Callable[..., None]:
    """A writer of files that comes half way."""

    def write(*arguments: Any, **content: Any) -> None:
        (place,) = [each for each in arguments if hasattr(each, "write")]
        whole = io.BytesIO()
        writer(*(whole if each is place else each for each in arguments), **content)
        place.write(whole.getvalue()[: whole.tell() // 2])
        raise OSError(28, "No space left on device")

    return write


def test_a_writer_that_fails_half_way_leaves_the_former_checkpoints(scan, config, first_epoch, monkeypatch) -> None:
    first_epoch(config)
    folder = last(config).parent
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert {path.name for path in before} == {"last.ckpt", "best-checkpoint.ckpt"}
    # the PyTorch backend writes by way of the memory
    monkeypatch.setattr(checkpoint_npz, "write_arrays", _half_and_full(checkpoint_npz.write_arrays))
    monkeypatch.setattr(Path, "write_bytes", _half_written)
    with pytest.raises(OutputError, match=r"cannot write .*\.ckpt: No space left on device; free some space"):
        train(scan, replace(config, nepochs=2), resume=last(config))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def _half_written(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
    raise OSError(28, "No space left on device")


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file can be longer than this: what the system says then is what it says on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_is_one_line_and_leaves_the_former_checkpoints(scan, config, first_epoch) -> None:
    """The system itself refuses to write on."""
    first_epoch(config)
    folder = last(config).parent
    before = {path: path.read_bytes() for path in folder.iterdir()}
    half = last(config).stat().st_size // 2
    with small_files(half), pytest.raises(OutputError, match=r"cannot write .*\.ckpt: File too large; free") as caught:
        train(scan, replace(config, nepochs=2), resume=last(config))
    assert len(str(caught.value).splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert epochs(last(config)) == 1


# Its own alone


def other_object(scan: RawData) -> RawData:
    """A scan with the positions, the probe and the shapes of this one, of another sample."""
    turned = RawData.from_file(scan._path)
    turned.diff3d = np.ascontiguousarray(turned.diff3d[::-1])
    return turned


def test_a_checkpoint_of_another_scan_is_refused_by_name(scan, config, first_epoch) -> None:
    first_epoch(config)
    expected = (
        rf"last\.ckpt: expected a checkpoint of the scan {scan.identity.name} \(sha256 \w{{12}}\), found one of the "
        r"scan .* \(sha256 \w{12}\): name the checkpoint of this run, or leave --resume out"
    )
    with pytest.raises(ArchiveError, match=expected):
        train(other_object(scan), replace(config, nepochs=2), resume=last(config))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": "sgd"}, "optimizer='sgd', found optimizer='adam'"),
        ({"mae_weight": 0.5}, r"mae_weight=0\.5, found mae_weight=0\.0"),
        ({"subsample_seed": 3, "n_groups": 9}, "n_groups=9, subsample_seed=3, found n_groups=8, subsample_seed=0"),
    ],
)
def test_other_settings_are_refused_by_name(change, said, scan, config, first_epoch) -> None:
    first_epoch(config)
    with pytest.raises(ArchiveError, match=f"expected a checkpoint of a training with {said}: resume with"):
        train(scan, replace(config, nepochs=2, **change), resume=last(config))


def test_what_a_training_that_diverged_is_told_to_change_may_differ(scan, config, first_epoch) -> None:
    first_epoch(config)
    clipped = replace(config, nepochs=2, gradient_clip_val=1.0)
    assert len(train(scan, clipped, resume=last(config), learning_rate=0.0005)["history"]["train_loss"]) == 1


def test_a_training_goes_on_for_longer_in_another_folder(scan, config, first_epoch, caplog) -> None:
    first_epoch(config)
    longer = replace(config, nepochs=2, output_dir=config.output_dir / "more", test_data_file=Path("elsewhere.npz"))
    with caplog.at_level(logging.WARNING):
        assert len(train(scan, longer, resume=last(config))["history"]["train_loss"]) == 1
    assert not caplog.messages
    assert epochs(last(longer)) == 2


def test_experiments_are_known_in_their_order(scan, config) -> None:
    both = [scan, other_object(scan)]
    train(both, config)
    train(both, replace(config, nepochs=2), resume=last(config))
    for others in (both[::-1], both[:1]):
        with pytest.raises(ArchiveError, match="expected a checkpoint of the scan"):
            train(others, replace(config, nepochs=3), resume=last(config))


def test_a_probe_that_was_refined_first_may_come_out_otherwise(scan, config) -> None:
    """On another machine, or another device: it is the scan of the file, refined likewise, that has to be the same."""
    first, again = (refine_probe_with_backend(scan, config, 2) for _ in range(2))
    again.probeGuess = again.probeGuess * np.complex64(1 + 1e-5j)
    train(first, config)
    train(again, replace(config, nepochs=2), resume=last(config))
    with pytest.raises(ArchiveError, match="its probe refined by 3 iterations"):
        train(refine_probe_with_backend(scan, config, 3), replace(config, nepochs=3), resume=last(config))


def test_a_checkpoint_of_an_older_version_is_taken_with_a_warning(scan, config, first_epoch, caplog) -> None:
    first_epoch(config)
    without_identity(last(config))
    with caplog.at_level(logging.WARNING):
        found = train(scan, replace(config, nepochs=2), resume=last(config))
    assert len(found["history"]["train_loss"]) == 1
    assert [message for message in caplog.messages if "could not be checked" in message] == caplog.messages
    assert len(caplog.messages) == 1


def without_identity(path: Path) -> None:
    """Make a checkpoint as it was before there were identities."""
    try:
        content = read_torch(path)
        del content["identity"]
        torch.save(content, path)
    except ArchiveError:
        with np.load(path, allow_pickle=False) as file:
            arrays = {**file}
        arrays["about"] = np.array(str(arrays["about"]).replace('"identity":', '"something_else":'))
        with path.open("wb") as file:
            np.savez(file, **arrays)


def test_a_training_that_is_over_says_that_nothing_is_left(scan, config, caplog) -> None:
    """Its model is that of the checkpoint, and no file is written over."""
    whole = train(scan, replace(config, nepochs=2))
    before = last(config).read_bytes()
    for nepochs in (1, 2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = train(scan, replace(config, nepochs=nepochs), resume=last(config))
        said = "nothing is left to train; the model is taken as it is: raise nepochs to go on"
        assert caplog.messages == [f"{last(config)}: has 2 of {nepochs} epochs, {said}"]
        assert found["history"] == {}
        assert last(config).read_bytes() == before
        for name, value in parameters(whole).items():
            np.testing.assert_array_equal(parameters(found)[name], value)


def test_a_training_whose_time_is_over_says_so(scan, config, caplog) -> None:
    """PyTorch counts the seconds from the start of the training, TensorFlow those of each part."""
    config = replace(config, nepochs=500)
    train(scan, config, max_seconds=0.5)
    done = epochs(last(config))
    with caplog.at_level(logging.WARNING):
        found = train(scan, config, resume=last(config), max_seconds=0.5)
    if config.backend == "tensorflow":
        assert found["history"]["train_loss"]
        assert not caplog.messages
        return
    spent = f"{last(config)}: no epoch was trained, max_seconds=0.5 was used up before it: raise it to go on"
    assert (found["history"], caplog.messages) == ({}, [spent])
    assert epochs(last(config)) == done


def parameters(results: dict[str, Any]) -> dict[str, np.ndarray]:
    named = results["model"].network.named_parameters()
    if isinstance(named, dict):
        return {name: np.asarray(value.numpy()) for name, value in named.items()}
    return {name: value.detach().numpy() for name, value in named}

"""A scan and a training are known again, however they are held, and another one is told by what differs."""

import logging
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.core.scan.identity import SAMPLE, ScanIdentity
from ptycho.core.scan_edit.map_write import make_map
from ptycho.core.training.identity import MAY_DIFFER, TrainingIdentity
from ptycho.errors import ArchiveError
from ptycho.networks.options import NetworkOptions
from ptycho.raw_data import RawData
from ptycho.workflows.networks.simulated_training import simulated_scan_like
from ptycho_torch.config.options import TorchOptions

FIRST, SECOND = ScanIdentity("a.npz", "1" * 64), ScanIdentity("b.npz", "2" * 64)


def test_a_scan_is_the_same_however_it_is_held(fixture_file: Path, tmp_path: Path) -> None:
    scan = RawData.from_file(fixture_file)
    scan.to_file(tmp_path / "copy.npz")
    held = [
        RawData.from_file(tmp_path / "copy.npz", memory_map="always"),
        RawData.from_file(make_map(tmp_path / "copy.npz")),
        RawData.from_file(tmp_path / "copy.npz"),
    ]
    held[-1].diff3d = held[-1].diff3d.astype(held[-1].diff3d.dtype.newbyteorder(">"))
    assert {one.identity.sha256 for one in held} == {scan.identity.sha256}
    assert str(held[-1].identity) == f"copy.npz (sha256 {scan.identity.sha256[:12]})"


def _altered(name: str, index: tuple[int, ...], value: complex) -> Callable[[RawData], None]:
    def change(scan: RawData) -> None:
        array = np.array(getattr(scan, name))
        array[index] += value
        setattr(scan, name, array)

    return change


CHANGES = {
    "pattern": _altered("diff3d", (0, 3, 3), 1),
    "last pattern": _altered("diff3d", (-1, 3, 3), 1),
    "position": _altered("xcoords", (5,), 1e-9),
    "probe": _altered("probeGuess", (0, 0), 1e-3j),
    "object": _altered("objectGuess", (0, 0), 1),
    "order": lambda scan: setattr(scan, "diff3d", scan.diff3d[::-1]),
    "fewer": lambda scan: setattr(scan, "diff3d", scan.diff3d[:-1]),
    "mask": lambda scan: setattr(scan, "mask", np.ones((64, 64), bool)),
    "dose": lambda scan: setattr(scan, "metadata", {"nphotons": 7.0}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_scan_of_the_same_shape_is_another_one(change: str, scan: RawData, fixture_file: Path) -> None:
    CHANGES[change](scan)
    assert scan.identity.sha256 != RawData.from_file(fixture_file).identity.sha256


def test_few_patterns_are_read(scan: RawData) -> None:
    """However long the scan is."""
    read = []

    class Watched(np.ndarray):
        def __getitem__(self, index):
            read.append(np.size(index))
            return np.asarray(super().__getitem__(index))

    assert len(scan) > SAMPLE
    expected = scan.identity
    scan.diff3d = scan.diff3d.view(Watched)
    assert scan.identity == expected
    assert read == [SAMPLE]


def test_a_scan_made_by_the_library_is_known_by_what_it_was_made_of(scan: RawData) -> None:
    """Its numbers may be others in the last digit when it is made again."""
    first, again = (simulated_scan_like(scan, 2, 1e6, seed=3) for _ in range(2))
    again.diff3d = again.diff3d * np.float32(1 + 1e-6)
    assert first.identity == again.identity != scan.identity
    assert first.identity != simulated_scan_like(scan, 2, 1e6, seed=4).identity
    assert first.identity != first.with_probe(scan.probeGuess).identity


def checked(mine: TrainingIdentity, other: TrainingIdentity) -> None:
    mine.check(other.content(), Path("run/last.ckpt"))


def test_a_training_may_go_on_for_longer_and_elsewhere() -> None:
    config = TrainingConfig()
    longer = replace(config, nepochs=99, output_dir=Path("b"), train_data_file=Path("c"), use_xla=True)
    checked(TrainingIdentity.of([FIRST], longer), TrainingIdentity.of([FIRST], config))
    renamed = replace(FIRST, name="moved.npz")
    checked(TrainingIdentity.of([renamed], config), TrainingIdentity.of([FIRST], config))
    checked(
        TrainingIdentity.of([FIRST], replace(config, subsample_seed=0)), TrainingIdentity.of([FIRST], config)
    )  # None is 0


def test_another_scan_is_refused_by_name() -> None:
    mine, other = (TrainingIdentity.of([one], TrainingConfig()) for one in (FIRST, SECOND))
    with pytest.raises(ArchiveError) as caught:
        checked(mine, other)
    assert str(caught.value) == (
        "run/last.ckpt: expected a checkpoint of the scan a.npz (sha256 111111111111), found one of the scan b.npz "
        "(sha256 222222222222): name the checkpoint of this run, or leave --resume out"
    )
    both, turned = (TrainingIdentity.of(pair, TrainingConfig()) for pair in ([FIRST, SECOND], [SECOND, FIRST]))
    with pytest.raises(ArchiveError, match=r"of the scans a\.npz .*, b\.npz .*, found one of the scans b\.npz"):
        checked(both, turned)
    with pytest.raises(ArchiveError, match=r"of the scan a\.npz .*, found one of the scans a\.npz .*, b\.npz"):
        checked(mine, both)


def test_other_settings_are_refused_by_name() -> None:
    config = TrainingConfig()
    mine = TrainingIdentity.of([FIRST], config, accum_steps=1)
    changed = replace(config, model=replace(config.model, gridsize=2), mae_weight=0.5)
    with pytest.raises(ArchiveError) as caught:
        checked(mine, TrainingIdentity.of([FIRST], changed, accum_steps=2))
    assert str(caught.value) == (
        "run/last.ckpt: expected a checkpoint of a training with gridsize=1, mae_weight=0.0, accum_steps=1, "
        "found gridsize=2, mae_weight=0.5, accum_steps=2: resume with the settings of the training that wrote it, "
        "or leave --resume out"
    )


def test_an_array_in_the_settings_counts() -> None:
    one, other = (TrainingIdentity.of([], NetworkOptions(mask_array=np.eye(4) * value)) for value in (1, 0.5))
    with pytest.raises(ArchiveError, match="mask_array='sha256 "):
        checked(one, other)


def test_settings_of_another_version_are_not_compared() -> None:
    checked(TrainingIdentity.of([], a=1, b=2), TrainingIdentity.of([], b=2, c=3))


def test_a_checkpoint_that_does_not_say_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        TrainingIdentity.of([FIRST], TrainingConfig()).check(None, Path("run/last.ckpt"))
    (said,) = caplog.messages
    assert said.startswith("run/last.ckpt: does not say which scan and settings it was trained on")


def test_what_may_differ_are_settings() -> None:
    """No name that nobody has."""
    options = TorchOptions()
    known = {field.name for each in (TrainingConfig, ModelConfig) for field in fields(each)}
    known |= {name for each in vars(options).values() for name in asdict(each)}
    assert known >= MAY_DIFFER

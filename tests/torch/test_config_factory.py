"""The factories: what states a setting first counts, paths and headers are checked, `params.cfg` is written once."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from ptycho import params
from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.config.options import PatchStatsOptions
from ptycho.core.formats import registry
from ptycho.core.scan_edit.map_write import make_map
from ptycho.errors import ConfigError, DataError, MissingFileError, OutputError
from ptycho.raw_data import RawData
from ptycho_torch import config_params
from ptycho_torch.config.options import NEUTRAL_OPTIONS, options_of
from ptycho_torch.config_factory import (
    create_inference_payload,
    create_training_payload,
    infer_probe_size,
    populate_legacy_params,
)
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig

STATED = {"n_groups": 8, "nphotons": 1e9}

pytestmark = pytest.mark.filterwarnings("ignore:test_data_file is missing:UserWarning")


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    """A scan with a probe of 128 pixels in two modes, of which no array can be read: its checksum is wrong."""
    path = tmp_path / "scan.npz"
    marks = {"probeGuess": 3, "diff3d": 5}
    np.savez(path, **{name: np.full((2, 128, 128), value, np.complex64) for name, value in marks.items()})
    content = bytearray(path.read_bytes())
    for value in marks.values():
        content[content.index(np.full(9, value, np.complex64).tobytes())] ^= 1
    path.write_bytes(content)
    with np.load(path) as archive, pytest.raises(zipfile.BadZipFile):
        archive["probeGuess"]
    return path


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    path = tmp_path / "wts.h5.zip"
    path.write_bytes(b"")
    return path


def train(scan_file: Path, overrides: dict[str, Any] | None = None, **options: Any) -> Any:
    return create_training_payload(scan_file, scan_file.parent / "out", {**STATED, **(overrides or {})}, **options)


class TestProbeSize:
    def test_headers_are_enough(self, scan_file: Path, fixture_file: Path) -> None:
        assert (infer_probe_size(scan_file), infer_probe_size(str(fixture_file))) == (128, 64)

    def test_scans_of_other_formats(self, fixture_file: Path, tmp_path: Path) -> None:
        assert infer_probe_size(make_map(fixture_file, tmp_path / "scan.map")) == 64
        record = replace(registry.read(fixture_file), energy_eV=8e3, distance_m=1.5, detector_pixel_m=75e-6)
        registry.write(tmp_path / "scan.cxi", record)
        assert infer_probe_size(tmp_path / "scan.cxi") == 64

    def test_a_scan_without_a_probe_has_its_patterns(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "scan.npz", diff3d=np.ones((3, 64, 64)), xcoords=np.arange(3), ycoords=np.arange(3))
        assert infer_probe_size(tmp_path / "scan.npz") == 64

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"diff3d": np.ones(3)}, r"scan\.npz: expected an array xcoords, found only diff3d; add it"),
            ({"probeGuess": np.ones((64, 60))}, r"scan\.npz: probeGuess: expected \(N, N\) .* found \(64, 60\)"),
            ({"probeGuess": np.ones(64)}, r"found \(64,\)"),
        ],
    )
    def test_a_probe_that_is_none(self, arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
        np.savez(tmp_path / "scan.npz", **arrays)
        with pytest.raises(DataError, match=message):
            infer_probe_size(tmp_path / "scan.npz")

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"no\.npz"):
            infer_probe_size(tmp_path / "no.npz")
        damaged = tmp_path / "damaged.npz"
        with zipfile.ZipFile(damaged, "w") as archive:
            archive.writestr("probeGuess.npy", b"no header at all")
        with pytest.raises(DataError, match=r"damaged\.npz: probeGuess: expected an array, found other content"):
            infer_probe_size(damaged)


class TestPrecedence:
    """overrides > execution config > scan file > command line > PyTorch dataclass > shared dataclass."""

    def test_dataclasses_alone(self, scan_file: Path) -> None:
        found = train(scan_file)
        assert found.tf_training_config.neighbor_count == DataConfig.K == 6 != TrainingConfig.neighbor_count
        assert found.tf_training_config.mae_weight == TrainingConfig.mae_weight
        assert (found.execution_config.num_workers, PyTorchExecutionConfig.num_workers) == (4, 0)
        assert found.tf_training_config.model.N == found.pt_data_config.N == 128
        names = {"train_data_file", "output_dir", "n_groups", "nphotons"}
        assert found.sources == {**dict.fromkeys(names, "overrides"), "N": "scan file"}
        assert found.overrides_applied["N"] == 128

    def test_command_line_wins_over_the_dataclasses(self, scan_file: Path) -> None:
        defaults = {"neighbor_count": 5, "N": 64, "learning_rate": 0.1, "n_groups": 99}
        found = train(scan_file, command_line=defaults)
        assert (found.tf_training_config.neighbor_count, found.pt_data_config.K) == (5, 5)
        assert (found.tf_training_config.n_groups, found.tf_training_config.model.N) == (8, 128)
        assert found.execution_config.learning_rate == found.pt_training_config.learning_rate == 0.1
        assert found.sources["neighbor_count"] == "command line"
        assert found.sources["N"] == "scan file"

    def test_execution_config_wins_over_the_command_line(self, scan_file: Path) -> None:
        execution = PyTorchExecutionConfig(accelerator="cpu", learning_rate=2e-3, gradient_clip_val=0.5)
        defaults = {"learning_rate": 0.1, "gradient_clip_val": 3.0, "scheduler": "Exponential"}
        found = train(scan_file, execution_config=execution, command_line=defaults)
        assert (found.execution_config.learning_rate, found.execution_config.num_workers) == (2e-3, 0)
        assert found.tf_training_config.gradient_clip_val == found.execution_config.gradient_clip_val == 0.5
        # None says nothing: as the training configuration says
        assert (found.tf_training_config.scheduler, found.execution_config.scheduler) == ("Exponential", None)
        assert (found.sources["learning_rate"], found.sources["scheduler"]) == ("execution config", "command line")
        assert found.pt_training_config.device == "cpu"

    @pytest.mark.parametrize(
        ("overrides", "execution"),
        [
            ({"learning_rate": 0.2, "gradient_clip_val": 0.1, "num_workers": 0}, True),
            ({"learning_rate": 0.2, "gradient_clip_val": 0.1, "num_workers": 0}, False),
        ],
    )
    def test_overrides_win_over_everything(self, overrides: dict[str, Any], execution: bool, scan_file: Path) -> None:
        given = PyTorchExecutionConfig(learning_rate=0.5, gradient_clip_val=0.7, num_workers=3) if execution else None
        found = train(scan_file, overrides, execution_config=given, command_line={"learning_rate": 0.4})
        assert (found.execution_config.learning_rate, found.execution_config.num_workers) == (0.2, 0)
        assert found.execution_config.gradient_clip_val == found.tf_training_config.gradient_clip_val == 0.1
        assert {found.sources[name] for name in overrides} == {"overrides"}
        if given is not None:
            assert given.learning_rate == 0.5  # the caller's own object stays

    def test_both_spellings_say_the_same(self, scan_file: Path) -> None:
        overrides = {"gridsize": 3, "neighbor_count": 9, "model_type": "supervised", "amp_activation": "silu"}
        found = train(scan_file, {**overrides, "epochs": 3, "loss_function": "MAE", "mae_weight": 2, "notes": "first"})
        data, model, training = found.pt_data_config, found.pt_model_config, found.pt_training_config
        assert (data.grid_size, data.C, model.C_model, model.C_forward, data.K) == ((3, 3), 9, 9, 9, 9)
        assert (model.mode, model.amp_activation, model.loss_function) == ("Supervised", "swish", "MAE")
        assert (training.epochs, training.torch_loss_mode, training.n_groups) == (3, "mae", 8)
        assert training.train_data_file == found.tf_training_config.train_data_file
        config = found.tf_training_config
        assert (config.nepochs, config.mae_weight, config.torch_loss_mode) == (3, 2.0, "mae")
        assert (training.notes, found.overrides_applied["notes"], found.sources["notes"]) == (
            "first",
            "first",
            "overrides",
        )

    def test_options_are_those_of_the_pytorch_dataclasses_or_none(self, scan_file: Path) -> None:
        rest = {"n_groups": 8, "nphotons": 1e9, "test_data_file": scan_file}
        plain = create_training_payload(scan_file, scan_file.parent, rest)
        assert plain.options == options_of(
            DataConfig(N=128), ModelConfig(), config_params.TrainingConfig(), InferenceConfig()
        )
        line = create_training_payload(scan_file, scan_file.parent, {**rest, "eca_encoder": True}, neutral=True)
        assert line.options.network.changed == ("eca_encoder",)
        assert replace(line.options, network=NEUTRAL_OPTIONS.network) == NEUTRAL_OPTIONS
        assert line.pt_data_config.n_subsample == 1

    def test_other_names_and_words_of_overrides(self, scan_file: Path) -> None:
        found = train(scan_file, {"max_epochs": 3, "log_patch_stats": True, "model_type": "Supervised"})
        config = found.tf_training_config
        assert (config.nepochs, config.model.model_type) == (3, "supervised")
        assert config.patch_stats == PatchStatsOptions(log_patch_stats=True)
        assert (found.pt_inference_config.log_patch_stats, found.pt_model_config.mode) == (True, "Supervised")
        with pytest.raises(ConfigError, match="max_epochs=3 and nepochs=4 are the same setting"):
            train(scan_file, {"nepochs": 4, "max_epochs": 3})
        with pytest.raises(ConfigError, match="patch_stats_limit=2 limits statistics that are not written"):
            train(scan_file, {"patch_stats_limit": 2})

    def test_the_dose_that_a_scan_records_is_stated(self, scan_file: Path, tmp_path: Path) -> None:
        rest = {"n_groups": 8, "test_data_file": scan_file}
        recorded = Path(shutil.copy(scan_file, tmp_path / "recorded.npz"))
        with zipfile.ZipFile(recorded, "a") as archive, archive.open("_metadata.npy", "w") as member:
            npy.write_array(member, np.array('{"nphotons": 321.0}'))
        found = create_training_payload(recorded, tmp_path, rest)
        assert (found.tf_training_config.nphotons, found.sources["nphotons"]) == (321.0, "scan file")
        assert found.pt_data_config.nphotons == 321.0
        said = create_training_payload(recorded, tmp_path, {**rest, "nphotons": 7.0})
        assert (said.tf_training_config.nphotons, said.sources["nphotons"]) == (7.0, "overrides")

    def test_a_mask_is_used_without_its_switch(self, scan_file: Path) -> None:
        mask = np.zeros((128, 128), np.float32)
        mask[40:80, 30:90] = 1
        found = train(scan_file, {"probe_mask_tensor": mask}).tf_training_config
        assert found.model.probe_mask
        np.testing.assert_array_equal(found.network.mask_array, mask)
        assert not train(
            scan_file, {"probe_mask_tensor": mask, "probe_mask": False}
        ).tf_training_config.model.probe_mask

    def test_refusals_reach_the_caller(self, scan_file: Path) -> None:
        for overrides, message in (
            ({"probe_normalize": False}, r"^probe_normalize=False is not supported: leave it at True"),
            ({"nepoch": 3}, r"unknown key 'nepoch'; did you mean .*nepochs"),
            ({"N": 64}, r"^N=64 in overrides, but .*scan\.npz has a probe of 128 pixels"),
            ({"C": 2}, r"^C=2 does not fit grid_size \(2, 2\)"),
            ({"neighbor_count": 3}, r"neighbor_count=3 is too few for gridsize=2"),
            ({"persistent_workers": True, "num_workers": 0}, r"persistent_workers=True needs num_workers above 0"),
        ):
            with pytest.raises(ConfigError, match=message):
                train(scan_file, overrides)
        with pytest.raises(ConfigError, match="nphotons default divergence"):
            create_training_payload(scan_file, scan_file.parent, {"n_groups": 8})

    def test_inference(self, scan_file: Path, model_path: Path) -> None:
        overrides = {"n_groups": None, "batch_size": 7, "gridsize": 1}
        execution = PyTorchExecutionConfig(inference_batch_size=3, accelerator="cpu")
        found = create_inference_payload(model_path, scan_file, scan_file.parent / "out", overrides, execution)
        assert found.execution_config == PyTorchExecutionConfig(inference_batch_size=7, accelerator="cpu")
        assert found.pt_inference_config == InferenceConfig(batch_size=7)
        config = found.tf_inference_config
        assert (config.model_path, config.test_data_file) == (model_path, scan_file)
        assert (config.n_groups, config.backend, config.model.N, config.model.gridsize) == (None, "pytorch", 128, 1)
        assert (found.pt_data_config.C, found.pt_model_config) == (1, ModelConfig(C_model=1, C_forward=1))
        with pytest.raises(ConfigError, match="n_groups is missing"):
            create_inference_payload(model_path, scan_file, scan_file.parent)


class TestPaths:
    def test_training(self, scan_file: Path, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"no\.npz: expected the scan to train on"):
            create_training_payload(tmp_path / "no.npz", tmp_path, STATED)
        with pytest.raises(MissingFileError, match=r"no\.npz: expected the test scan"):
            train(scan_file, {"test_data_file": tmp_path / "no.npz"})
        with pytest.raises(OutputError, match=r"scan\.npz/out: expected a folder to write to"):
            create_training_payload(scan_file, scan_file / "out", STATED)

    def test_inference(self, scan_file: Path, model_path: Path, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"nowhere: expected a model archive \(wts\.h5\.zip\)"):
            create_inference_payload(tmp_path / "nowhere", scan_file, tmp_path)
        (tmp_path / "no_model").mkdir()
        with pytest.raises(MissingFileError, match=r"no_model: expected wts\.h5\.zip or .*, found an empty folder"):
            create_inference_payload(tmp_path / "no_model", scan_file, tmp_path)
        with pytest.raises(MissingFileError, match=r"no\.npz: expected the test scan"):
            create_inference_payload(model_path, tmp_path / "no.npz", tmp_path)

    def test_nothing_is_made(self, scan_file: Path, tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        train(scan_file)
        assert sorted(tmp_path.rglob("*")) == before


class TestLegacyParameters:
    def test_written_once_and_before_any_data(self, scan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_data(*_: Any, **__: Any) -> None:
            raise AssertionError("data were read")

        written: list[dict[str, Any]] = []
        update = params.update_legacy_dict
        monkeypatch.setattr(RawData, "from_file", no_data)
        monkeypatch.setattr(
            params, "update_legacy_dict", lambda cfg, config: (update(cfg, config), written.append(cfg))
        )
        train(scan_file, {"experiment_name": "e", "gridsize": 1})
        assert [cfg is params.cfg for cfg in written] == [True]
        assert (params.get("N"), params.get("gridsize"), params.get("n_groups")) == (128, 1, 8)
        assert (params.get("experiment_name"), params.get("notes", None)) == ("e", None)
        assert "learning_rate" not in params.cfg

    def test_nothing_is_written_when_something_is_wrong(self, scan_file: Path) -> None:
        before = dict(params.cfg)
        with pytest.raises(ConfigError):
            train(scan_file, {"num_workers": -1})
        assert params.cfg == before

    def test_populate(self) -> None:
        params.cfg["n_groups"] = 5
        populate_legacy_params(TrainingConfig(nepochs=3), {"notes": "a"})
        assert (params.get("nepochs"), params.get("n_groups"), params.get("notes")) == (3, 5, "a")

"""The shared configuration: its table of defaults, what it accepts, what it refuses and how it says so."""

import dataclasses
import pickle
from pathlib import Path

import pytest

from ptycho.config.config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
    validate_execution_config,
    validate_inference_config,
    validate_model_config,
    validate_training_config,
)
from ptycho.config.options import (
    GroupOptions,
    NetworkOptions,
    ObjectiveOptions,
    PatchStatsOptions,
    ScaleOptions,
    StageOptions,
    StitchOptions,
)
from ptycho.config.schema import settings_of
from ptycho.errors import ConfigError

MODEL = {
    "N": 64,
    "gridsize": 1,
    "n_filters_scale": 2,
    "model_type": "pinn",
    "architecture": "cnn",
    "amp_activation": "sigmoid",
    "object_big": True,
    "probe_big": True,
    "probe_mask": False,
    "pad_object": True,
    "probe_scale": 4.0,
    "gaussian_smoothing_sigma": 0.0,
}
TRAINING = {
    "model": ModelConfig(),
    "train_data_file": None,
    "test_data_file": None,
    "training_directories": (),
    "batch_size": 16,
    "nepochs": 50,
    "mae_weight": 0.0,
    "nll_weight": 1.0,
    "realspace_mae_weight": 0.0,
    "realspace_weight": 0.0,
    "nphotons": 1e9,
    "n_groups": None,
    "n_images": None,
    "n_subsample": None,
    "subsample_seed": None,
    "neighbor_count": 4,
    "enable_oversampling": False,
    "neighbor_pool_size": None,
    "held_out_neighbors": None,
    "positions_provided": True,
    "probe_trainable": False,
    "intensity_scale_trainable": True,
    "output_dir": Path("training_outputs"),
    "sequential_sampling": False,
    "backend": "tensorflow",
    "torch_loss_mode": "poisson",
    "gradient_clip_val": None,
    "gradient_clip_algorithm": "norm",
    "optimizer": "adam",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "scheduler": "Default",
    "lr_warmup_epochs": 0,
    "lr_min_ratio": 0.1,
    "use_xla": False,
    "groups": GroupOptions(),
    "scales": ScaleOptions(),
    "network": NetworkOptions(),
    "objective": ObjectiveOptions(),
    "stages": StageOptions(),
    "stitching": StitchOptions(),
    "patch_stats": PatchStatsOptions(),
}
INFERENCE = {
    "model": ModelConfig(),
    "model_path": None,
    "test_data_file": None,
    "n_groups": None,
    "n_images": None,
    "n_subsample": None,
    "subsample_seed": None,
    "neighbor_count": 4,
    "enable_oversampling": False,
    "neighbor_pool_size": None,
    "experiment_number": None,
    "fit_scale": False,
    "debug": False,
    "output_dir": Path("inference_outputs"),
    "backend": "tensorflow",
    "use_xla": False,
    "stitching": StitchOptions(),
    "patch_stats": PatchStatsOptions(),
}
EXECUTION = {
    "accelerator": "auto",
    "device_memory": None,
    "devices": 1,
    "nodes": 1,
    "process_timeout": 1800.0,
    "strategy": "auto",
    "deterministic": True,
    "precision": "32-true",
    "gradient_clip_val": None,
    "gradient_clip_algorithm": None,
    "accum_steps": 1,
    "num_workers": 0,
    "pin_memory": False,
    "persistent_workers": False,
    "prefetch_factor": None,
    "learning_rate": None,
    "scheduler": None,
    "enable_progress_bar": True,
    "enable_checkpointing": True,
    "checkpoint_save_top_k": 1,
    "checkpoint_monitor_metric": "val_loss",
    "checkpoint_mode": "min",
    "early_stop_patience": 100,
    "logger_backend": "csv",
    "recon_log_every_n_epochs": None,
    "recon_log_num_patches": 4,
    "recon_log_fixed_indices": None,
    "recon_log_stitch": False,
    "recon_log_max_stitch_samples": None,
    "inference_batch_size": None,
}
TABLES = [
    (ModelConfig, MODEL),
    (TrainingConfig, TRAINING),
    (InferenceConfig, INFERENCE),
    (PyTorchExecutionConfig, EXECUTION),
]
CHOICES = {
    (ModelConfig, "N"): (64, 128, 256),
    (ModelConfig, "model_type"): ("pinn", "supervised"),
    (ModelConfig, "amp_activation"): ("sigmoid", "swish", "softplus", "relu"),
    (TrainingConfig, "backend"): ("tensorflow", "pytorch"),
    (TrainingConfig, "torch_loss_mode"): ("poisson", "mae"),
    (TrainingConfig, "gradient_clip_algorithm"): ("norm", "value", "agc"),
    (TrainingConfig, "optimizer"): ("adam", "adamw", "sgd"),
    (TrainingConfig, "scheduler"): ("Default", "Exponential", "WarmupCosine", "ReduceLROnPlateau"),
    (InferenceConfig, "backend"): ("tensorflow", "pytorch"),
    (PyTorchExecutionConfig, "accelerator"): ("auto", "cpu", "gpu", "cuda", "tpu", "mps"),
    (PyTorchExecutionConfig, "precision"): ("32-true", "16-mixed", "bf16-mixed"),
    (PyTorchExecutionConfig, "checkpoint_mode"): ("min", "max"),
    (PyTorchExecutionConfig, "logger_backend"): ("csv", "tensorboard", "mlflow"),
}


@pytest.mark.parametrize(("cls", "table"), TABLES)
def test_fields_and_defaults(cls, table):
    made = cls()
    found = {field.name: getattr(made, field.name) for field in dataclasses.fields(cls)}
    assert found == table
    assert list(found) == list(table)
    assert [type(value) for value in found.values()] == [type(value) for value in table.values()]


@pytest.mark.parametrize(("cls", "table"), TABLES)
def test_every_field_is_documented(cls, table):
    undocumented = [name for name, declared in settings_of(cls).items() if not declared.doc.text]
    assert undocumented == [name for name, declared in settings_of(cls).items() if declared.nested]


@pytest.mark.parametrize(("cls", "name"), CHOICES)
def test_choices(cls, name):
    assert settings_of(cls)[name].choices == CHOICES[cls, name]


@pytest.mark.parametrize("cls", [cls for cls, _ in TABLES])
def test_pickles(cls):
    config = cls()
    copy = pickle.loads(pickle.dumps(config))  # noqa: S301 - bytes made on this line
    assert copy == config


def test_construction_judges_nothing_across_fields():
    config = TrainingConfig(model=ModelConfig(N=0, gridsize=5), n_groups=10**9, train_data_file=Path())
    config.model.N = 128
    assert config.model.N == 128
    assert TrainingConfig().model is not TrainingConfig().model


def test_text_becomes_a_path():
    assert TrainingConfig(train_data_file="a/b.npz").train_data_file == Path("a/b.npz")
    assert InferenceConfig(model_path="m", output_dir="o").model_path == Path("m")


@pytest.mark.parametrize("cls", [TrainingConfig, InferenceConfig])
def test_n_images_becomes_n_groups(cls):
    with pytest.warns(DeprecationWarning, match="n_images is deprecated: use n_groups=7") as caught:
        config = cls(n_images=7)
    assert (config.n_groups, config.n_images) == (7, None)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("cls", [TrainingConfig, InferenceConfig])
def test_n_groups_wins_over_n_images(cls):
    with pytest.warns(DeprecationWarning, match="n_images=7 gives way to n_groups=5"):
        config = cls(n_images=7, n_groups=5)
    assert config.n_groups == 5


def test_n_images_set_later_is_refused():
    config = TrainingConfig()
    config.n_images = 7
    with pytest.raises(ConfigError, match="n_images=7 was set after construction: set n_groups"):
        validate_training_config(config)


def test_defaults_are_valid():
    validate_model_config(ModelConfig())
    validate_training_config(TrainingConfig())
    validate_training_config(TrainingConfig(backend="pytorch"))
    validate_inference_config(InferenceConfig())
    validate_execution_config(PyTorchExecutionConfig())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"N": 0}, "N=0: expected one of 64, 128, 256"),
        ({"N": 64.0}, "N=64.0: expected one of 64, 128, 256"),
        ({"gridsize": 0}, "gridsize=0: expected a whole number at least 1"),
        ({"gridsize": True}, "gridsize=True: expected a whole number at least 1"),
        ({"model_type": "PINN"}, "model_type='PINN': expected one of pinn, supervised"),
        ({"architecture": "unet"}, "architecture='unet': expected one of cnn, unrolled"),
        ({"amp_activation": "silu"}, "amp_activation='silu': expected one of sigmoid, swish, softplus, relu"),
        ({"object_big": 1}, "object_big=1: expected true or false"),
        ({"probe_scale": 0.0}, "probe_scale=0.0: expected a finite number above 0"),
        (
            {"gaussian_smoothing_sigma": -1},
            "gaussian_smoothing_sigma=-1: expected a finite number at least 0",
        ),
    ],
)
def test_model_errors(values, message):
    for check, config in [
        (validate_model_config, ModelConfig(**values)),
        (validate_training_config, TrainingConfig(model=ModelConfig(**values))),
        (validate_inference_config, InferenceConfig(model=ModelConfig(**values))),
    ]:
        with pytest.raises(ConfigError) as caught:
            check(config)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: expected a whole number at least 1"),
        ({"nphotons": float("nan")}, "nphotons=nan: expected a finite number above 0"),
        ({"n_groups": -3}, "n_groups=-3: expected a whole number at least 1 or none"),
        ({"backend": "jax"}, "backend='jax': expected one of tensorflow, pytorch"),
        ({"momentum": 1}, "momentum=1: expected a finite number at least 0 and below 1"),
        ({"output_dir": None}, "output_dir=None: expected a path"),
        (
            {"nll_weight": 0.0},
            "mae_weight, nll_weight, realspace_mae_weight, realspace_weight are all 0: "
            "nothing to train on, raise at least one",
        ),
        (
            {"scheduler": "WarmupCosine", "nepochs": 5, "lr_warmup_epochs": 5},
            "lr_warmup_epochs=5 leaves no epoch of nepochs=5: lower lr_warmup_epochs or raise nepochs",
        ),
        (
            {"use_xla": True, "backend": "pytorch"},
            "use_xla=True works with backend=tensorflow only, found backend=pytorch",
        ),
    ],
)
def test_training_errors(values, message):
    with pytest.raises(ConfigError) as caught:
        validate_training_config(TrainingConfig(**values))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("check", "cls"),
    [(validate_training_config, TrainingConfig), (validate_inference_config, InferenceConfig)],
)
def test_groups_need_enough_neighbours(check, cls):
    model = ModelConfig(gridsize=3)
    check(cls(model=model, neighbor_count=9))
    with pytest.raises(ConfigError, match=r"neighbor_count=8 .* gridsize=3 .* raise neighbor_count to 9"):
        check(cls(model=model, neighbor_count=8))
    with pytest.raises(ConfigError, match=r"neighbor_pool_size=8 .* raise neighbor_pool_size to 9"):
        check(cls(model=model, neighbor_count=9, neighbor_pool_size=8))
    check(cls(model=model, neighbor_count=4, neighbor_pool_size=9))
    check(cls(model=ModelConfig(gridsize=1), neighbor_count=1))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("accelerator", "gpux", "one of auto, cpu, gpu, cuda, tpu, mps"),
        ("devices", 0, "a whole number at least 1"),
        ("strategy", "fsdp", "one of auto, ddp, ddp_spawn"),
        ("deterministic", "no", "true or false or one of warn"),
        ("precision", "64", "one of 32-true, 16-mixed, bf16-mixed"),
        ("accum_steps", 0, "a whole number at least 1"),
        ("num_workers", -1, "a whole number at least 0"),
        ("learning_rate", 0.0, "a finite number above 0"),
        ("scheduler", "Step", "one of Default, Exponential, MultiStage"),
        ("checkpoint_save_top_k", -2, "a whole number at least -1"),
        ("checkpoint_mode", "best", "one of min, max"),
        ("early_stop_patience", 0, "a whole number at least 1"),
        ("logger_backend", "wandb", "one of csv, tensorboard, mlflow or none"),
        ("recon_log_fixed_indices", (0, -1), "a list of whole numbers at least 0 or none"),
        ("inference_batch_size", 0, "a whole number at least 1 or none"),
    ],
)
def test_execution_config_refuses_on_construction(name, value, allowed):
    with pytest.raises(ValueError) as caught:
        PyTorchExecutionConfig(**{name: value})
    assert str(caught.value).startswith(f"{name}={value!r}: expected {allowed}")


def test_execution_config_takes_every_kind():
    config = PyTorchExecutionConfig(
        deterministic="warn", logger_backend=None, recon_log_fixed_indices=[0, 3], checkpoint_save_top_k=-1
    )
    assert config.deterministic == "warn"


@pytest.mark.parametrize("values", [{"persistent_workers": True}, {"prefetch_factor": 2}])
def test_worker_settings_need_workers(values):
    validate_execution_config(PyTorchExecutionConfig(num_workers=1, **values))
    with pytest.raises(ConfigError, match=r"needs num_workers above 0, found num_workers=0"):
        validate_execution_config(PyTorchExecutionConfig(**values))

"""The PyTorch + Lightning backend: network, physics, training, stitching and refinement; never loads TensorFlow.

Names that programs import from here, each loaded when it is first used:

    run_cdi_example_torch, train_cdi_model_torch, reconstruct_torch     train, reconstruct
    load_inference_bundle_torch, load_torch_bundle, save_torch_bundle   models from and to wts.h5.zip
    PtychoPINN, PtychoPINN_Lightning                                    the model, and as Lightning trains it
    RawDataTorch, PtychoDataContainerTorch, PtychoDataModule            a scan, its groups, their batches
    ConfigManager, PtychoDataLoader, PtychoModel, Trainer, InferenceEngine, DataloaderFormats, Datagen
                                                                        the interface for programs
    DataConfig, ModelConfig, TrainingConfig, InferenceConfig, DatagenConfig
                                                                        its settings
    create_training_payload, create_inference_payload                   all settings of a run in one step
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptycho_torch.api.base_api import ConfigManager as ConfigManager
    from ptycho_torch.api.base_api import Datagen as Datagen
    from ptycho_torch.api.base_api import DataloaderFormats as DataloaderFormats
    from ptycho_torch.api.base_api import InferenceEngine as InferenceEngine
    from ptycho_torch.api.base_api import PtychoDataLoader as PtychoDataLoader
    from ptycho_torch.api.base_api import PtychoModel as PtychoModel
    from ptycho_torch.api.base_api import Trainer as Trainer
    from ptycho_torch.config_factory import create_inference_payload as create_inference_payload
    from ptycho_torch.config_factory import create_training_payload as create_training_payload
    from ptycho_torch.config_params import DataConfig as DataConfig
    from ptycho_torch.config_params import DatagenConfig as DatagenConfig
    from ptycho_torch.config_params import InferenceConfig as InferenceConfig
    from ptycho_torch.config_params import ModelConfig as ModelConfig
    from ptycho_torch.config_params import TrainingConfig as TrainingConfig
    from ptycho_torch.data_container_bridge import PtychoDataContainerTorch as PtychoDataContainerTorch
    from ptycho_torch.data_container_bridge import RawDataTorch as RawDataTorch
    from ptycho_torch.lightning.dataset import PtychoDataModule as PtychoDataModule
    from ptycho_torch.model import PtychoPINN as PtychoPINN
    from ptycho_torch.model import PtychoPINN_Lightning as PtychoPINN_Lightning
    from ptycho_torch.model_manager import load_torch_bundle as load_torch_bundle
    from ptycho_torch.model_manager import save_torch_bundle as save_torch_bundle
    from ptycho_torch.workflows.components import load_inference_bundle_torch as load_inference_bundle_torch
    from ptycho_torch.workflows.components import reconstruct_torch as reconstruct_torch
    from ptycho_torch.workflows.components import run_cdi_example_torch as run_cdi_example_torch
    from ptycho_torch.workflows.components import train_cdi_model_torch as train_cdi_model_torch

_HOMES = {
    "ptycho_torch.workflows.components": (
        *("run_cdi_example_torch", "train_cdi_model_torch", "reconstruct_torch", "load_inference_bundle_torch"),
    ),
    "ptycho_torch.model_manager": ("load_torch_bundle", "save_torch_bundle"),
    "ptycho_torch.model": ("PtychoPINN", "PtychoPINN_Lightning"),
    "ptycho_torch.data_container_bridge": ("RawDataTorch", "PtychoDataContainerTorch"),
    "ptycho_torch.lightning.dataset": ("PtychoDataModule",),
    "ptycho_torch.api.base_api": (
        *("ConfigManager", "PtychoDataLoader", "PtychoModel", "Trainer", "InferenceEngine", "DataloaderFormats"),
        "Datagen",
    ),
    "ptycho_torch.config_params": ("DataConfig", "ModelConfig", "TrainingConfig", "InferenceConfig", "DatagenConfig"),
    "ptycho_torch.config_factory": ("create_training_payload", "create_inference_payload"),
}
"""Where the names live; the block above says the same to type checkers, and a test compares the two."""

_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    """Load a name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'ptycho_torch' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})

"""The names of the interface; each of them adds nothing to what `ptycho_torch.workflows` does.

    manager = ConfigManager(data_config=DataConfig(N=64), training_config=TrainingConfig(epochs=20))
    loader = PtychoDataLoader("scans", manager, output_dir="runs")
    model = PtychoModel._new_model(PtychoPINN_Lightning, manager)
    Trainer._from_lightning(model, loader, config_manager=manager).train()
    image = InferenceEngine(manager, model).predict_and_stitch(loader)

Calls whose names begin with an underscore are public here: programs use them.
"""

from ptycho_torch.api.config_manager import ConfigManager
from ptycho_torch.api.inference import Datagen, InferenceEngine
from ptycho_torch.api.models import PtychoModel
from ptycho_torch.api.scans import DataloaderFormats, PtychoDataLoader
from ptycho_torch.api.training import Trainer

__all__ = [
    "ConfigManager",
    "Datagen",
    "DataloaderFormats",
    "InferenceEngine",
    "PtychoDataLoader",
    "PtychoModel",
    "Trainer",
]

"""MLflow: parameters, metrics and model are one run, which a new process finds by the address that was returned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ptycho_torch.api.base_api import ConfigManager, PtychoDataLoader, PtychoModel, Trainer
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptycho_torch.fit import PtychoPINN_Lightning
from ptycho_torch.lightning.tracking import _absolute, _address, _parts

READ = """
import json, sys
import mlflow
from ptycho_torch.api.base_api import PtychoModel

address = sys.argv[1]
model = PtychoModel.load_from_mlflow(address)
store, _, uri = address.rpartition("#")
client = mlflow.tracking.MlflowClient(store)
runs = [run for one in client.search_experiments() for run in client.search_runs([one.experiment_id])]
run = client.get_run(uri.split("/")[1])
print(json.dumps({
    "runs": len(runs),
    "experiment": client.get_experiment(run.info.experiment_id).name,
    "epochs": run.data.params["config/nepochs"],
    "losses": [metric.value for metric in client.get_metric_history(run.info.run_id, "train_loss")],
    "status": run.info.status,
    "sum": float(sum(abs(p.detach()).sum() for p in model.module.model.network.parameters())),
}))
"""


@pytest.mark.parametrize(
    "store", ["sqlite:////somewhere/mlflow.db", "file:///somewhere/runs", "http://host:5000", "databricks"]
)
def test_an_address_is_taken_apart_again(store: str) -> None:
    address = _address(store, "0a1b")
    assert address == f"{store}#runs:/0a1b/ptychopinn"
    assert _parts(address) == (store, "runs:/0a1b/ptychopinn")
    assert _parts("runs:/0a1b/ptychopinn") == ("", "runs:/0a1b/ptychopinn")


def test_a_place_on_this_machine_does_not_depend_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = tmp_path.resolve()
    assert _absolute("sqlite:///mlflow.db") == f"sqlite:///{here}/mlflow.db"
    assert _absolute("file:runs") == f"file:{here}/runs"
    assert _absolute("mlruns") == f"file://{here}/mlruns"
    for store in ("http://host:5000", f"sqlite:///{here}/a.db", f"file://{here}/runs"):
        assert _absolute(store) == store


@pytest.mark.slow
def test_a_new_process_finds_the_run_of_a_training(
    fixture_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install 'ptychopinn[tracking]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert not mlflow.is_tracking_uri_set()
    manager = ConfigManager(
        data_config=DataConfig(grid_size=(1, 1)),
        model_config=ModelConfig(n_filters_scale=1),
        training_config=TrainingConfig(
            epochs=2, n_groups=8, batch_size=4, num_workers=0, device="cpu", orchestrator="Mlflow"
        ),
        inference_config=InferenceConfig(),
    )
    loader = PtychoDataLoader(fixture_file, manager, output_dir=tmp_path)
    model = PtychoModel._new_model(PtychoPINN_Lightning, manager)
    with pytest.warns(UserWarning, match="without evaluation"):
        results = Trainer._from_lightning(model, loader, config_manager=manager).train(experiment_name="gold")
    assert not mlflow.is_tracking_uri_set()  # as before, for the next training and for others
    address = results["mlflow_uri"]
    assert model.save_mlflow() == address  # again: into the run of the training
    found = subprocess.run([sys.executable, "-c", READ, address], cwd="/", capture_output=True, text=True, check=True)
    told = json.loads(found.stdout.splitlines()[-1])
    weight = float(sum(abs(each.detach()).sum() for each in model.module.model.network.parameters()))
    assert (told["runs"], told["experiment"], told["epochs"], told["status"]) == (1, "gold", "2", "FINISHED")
    assert told["losses"] == pytest.approx(results["history"]["train_loss"], rel=1e-6)
    assert told["sum"] == pytest.approx(weight, rel=1e-6)

"""Whether the patterns are in memory or on disk makes no difference to what is learned or reconstructed."""

from pathlib import Path

import numpy as np
import pytest

from ptycho import params
from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.scan_edit.map_write import make_map
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import run_cdi_example_with_backend


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize("backend", ["pytorch", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_training_and_reconstruction_are_the_same(
    backend: str, fixture_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))
    settings = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)
    found = []
    for number, path in enumerate((fixture_file, make_map(fixture_file, tmp_path / "scan.map"))):
        scan = RawData.from_file(path, memory_map="always" if number else "never")
        assert isinstance(scan.diff3d, np.memmap) == bool(number)
        config = TrainingConfig(
            model=ModelConfig(gridsize=2, n_filters_scale=1),
            n_groups=12,
            batch_size=6,
            nepochs=2,
            backend=backend,
            output_dir=tmp_path / str(number),
        )
        execution = settings if backend == "pytorch" else None
        found.append(run_cdi_example_with_backend(scan, None, config, do_stitching=True, execution_config=execution))
    (_, _, memory), (_, _, mapped) = found
    assert mapped["history"]["train_loss"] == memory["history"]["train_loss"]
    np.testing.assert_array_equal(mapped["obj_tensor_full"], memory["obj_tensor_full"])
    assert mapped["reconstruction"].trust.verdict == memory["reconstruction"].trust.verdict

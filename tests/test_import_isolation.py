"""In a fresh interpreter: a framework comes in only with the files that use it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FRAMEWORKS = {"torch", "lightning", "tensorflow", "keras"}
SCAN = str(Path(__file__).parent / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz")
OBJECT = [128, 128]

IMPORT_ALL = """
import importlib, json, pkgutil, sys
walked = []
for name in {packages!r}:
    package = importlib.import_module(name)
    walked.append(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            walked.append(found.name)
print(json.dumps([walked, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


RUN = """
import json, sys
from pathlib import Path
{before}
from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import (
    reconstruct_with_backend, require_backend, run_cdi_example_with_backend, save_bundle_with_backend
)

scan, folder = RawData.from_file({scan!r}), Path({folder!r})
found = []
for backend in {backends!r}:
    quiet = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)
    options = dict(execution_config=quiet) if backend == "pytorch" else dict()
    model = ModelConfig(n_filters_scale=1, gridsize=2)
    config = TrainingConfig(model=model, nepochs=1, n_groups=8, backend=backend, output_dir=folder / backend)
    _, _, results = run_cdi_example_with_backend(scan, None, config, **options)
    path = save_bundle_with_backend(results, config, folder / backend)
    inference = InferenceConfig(model_path=path, backend=backend)
    found.append(list(reconstruct_with_backend(scan, inference, **options).object.shape))
print(json.dumps([found, sorted({{name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}})]))
"""

BLOCK = """
class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {names!r}:
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def loaded_by(code: str) -> list:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "modules",
    [
        "ptycho",
        "ptycho, ptycho.raw_data, ptycho.config.config",
        "ptycho.params",
        "ptycho.cli.train",
        "ptycho.cli.infer",
        "ptycho.workflows.backend_selector",
        "ptycho.workflows.outputs",
    ],
)
def test_shared_modules_load_no_framework(modules):
    code = f"import json, sys, {modules}; print(json.dumps(sorted(sys.modules)))"
    assert FRAMEWORKS & set(loaded_by(code)) == set()


def test_configuration_and_command_line_load_no_array_library():
    modules = "ptycho.config.config, ptycho.params, ptycho.cli.train, ptycho.cli.infer"
    code = f"import json, sys, {modules}; print(json.dumps(sorted(sys.modules)))"
    assert {"numpy", "scipy", "h5py", "matplotlib", "rich"} & set(loaded_by(code)) == set()


def test_core_loads_no_framework():
    walked, loaded = loaded_by(IMPORT_ALL.format(packages=["ptycho.core", "ptycho.config"]))
    assert {"ptycho.core.physics.diffraction", "ptycho.core.geometry", "ptycho.config.files"} <= set(walked)
    assert FRAMEWORKS & set(loaded) == set()


@pytest.mark.parametrize("module", ["ptycho.workflows.reconstruct", "ptycho.core.groups.container", "ptycho.tf_helper"])
def test_what_the_backends_share_loads_no_framework(module):
    assert FRAMEWORKS & set(loaded_by(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))")) == set()


def test_tensorflow_backend_never_loads_torch():
    walked, loaded = loaded_by(IMPORT_ALL.format(packages=["ptycho"]))
    assert {"ptycho.tf.fit", "ptycho.tf.pinn", "ptycho.workflows.components"} <= set(walked)
    assert "tensorflow" in loaded
    assert {"torch", "lightning", "ptycho_torch"} & set(loaded) == set()


def test_the_loader_brings_its_neighbours():
    code = "import json, ptycho.loader; print(json.dumps([hasattr(ptycho, n) for n in ('probe', 'tf_helper')]))"
    assert loaded_by(code) == [True, True]


def test_pytorch_backend_never_loads_tensorflow():
    assert importlib.util.find_spec("ptycho_torch") is not None
    walked, loaded = loaded_by(IMPORT_ALL.format(packages=["ptycho_torch"]))
    assert "ptycho_torch.pinn" in walked
    assert {"tensorflow", "keras"} & set(loaded) == set()


@pytest.mark.parametrize(
    ("backend", "names"), [("tensorflow", ("torch", "lightning", "ptycho_torch")), ("pytorch", ("tensorflow", "keras"))]
)
def test_each_backend_works_where_the_other_is_not_installed(backend, names, tmp_path):
    before = BLOCK.format(names=names)
    shapes, loaded = loaded_by(RUN.format(before=before, scan=SCAN, folder=str(tmp_path), backends=[backend]))
    assert shapes == [OBJECT]
    assert set(names) & set(loaded) == set()


@pytest.mark.parametrize(
    ("first", "second"), [("torch", "tensorflow"), ("tensorflow", "torch")], ids=["torch first", "tensorflow first"]
)
def test_both_backends_work_in_one_process(first, second, tmp_path):
    backends = ["pytorch", "tensorflow"] if first == "torch" else ["tensorflow", "pytorch"]
    before = f"import {first}, {second}"
    shapes, loaded = loaded_by(RUN.format(before=before, scan=SCAN, folder=str(tmp_path), backends=backends))
    assert shapes == [OBJECT, OBJECT]
    assert {"torch", "tensorflow"} <= set(loaded)

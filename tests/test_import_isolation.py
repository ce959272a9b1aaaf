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

IN_TURN = """
import importlib, json, sys
loaded = {{}}
for name in {names!r}:
    importlib.import_module(name)
    loaded[name] = sorted({{name.partition(".")[0] for name in sys.modules}})
"""

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
walked = [walked, sorted({{name.partition(".")[0] for name in sys.modules}})]
"""

WITHOUT_ARRAYS = ("ptycho", "ptycho.params", "ptycho.config.config", "ptycho.cli.train", "ptycho.cli.infer")
WITHOUT_FRAMEWORK = (
    *WITHOUT_ARRAYS,
    "ptycho.raw_data",
    "ptycho.core.groups.container",
    "ptycho.tf_helper",
    "ptycho.workflows.backend_selector",
    "ptycho.workflows.outputs",
    "ptycho.workflows.reconstruct",
)
"""Imported one after the other: what one of them loads stays, and is found with the next, too."""


RUN = """
import json, sys
from pathlib import Path
{before}
from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import (
    reconstruct_with_backend, require_backend, run_cdi_example_with_backend, save_bundle_with_backend
)

scan, folder = RawData.from_file({scan!r}).subsample(9, 1), Path({folder!r})
found = []
for backend in {backends!r}:
    quiet = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)
    options = dict(execution_config=quiet) if backend == "pytorch" else dict()
    model = ModelConfig(n_filters_scale=1, gridsize=2)
    config = TrainingConfig(model=model, nepochs=1, n_groups=4, backend=backend, output_dir=folder / backend)
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


@pytest.fixture(scope="module")
def light() -> list:
    """What is loaded after each of `WITHOUT_FRAMEWORK`; then all of the core, and what is loaded after it."""
    walk = IMPORT_ALL.format(packages=["ptycho.core", "ptycho.config"])
    return loaded_by(IN_TURN.format(names=WITHOUT_FRAMEWORK) + walk + "print(json.dumps([loaded, *walked]))")


@pytest.mark.parametrize("module", WITHOUT_FRAMEWORK)
def test_what_the_backends_share_loads_no_framework(light, module):
    assert FRAMEWORKS & set(light[0][module]) == set()


def test_configuration_and_command_line_load_no_array_library(light):
    assert {"numpy", "scipy", "h5py", "matplotlib", "rich"} & set(light[0][WITHOUT_ARRAYS[-1]]) == set()


def test_core_loads_no_framework(light):
    _, walked, loaded = light
    assert {"ptycho.core.physics.diffraction", "ptycho.core.geometry", "ptycho.config.files"} <= set(walked)
    assert FRAMEWORKS & set(loaded) == set()


@pytest.mark.slow
def test_tensorflow_backend_never_loads_torch():
    """Not with all modules; the loader, the first of them here, brings its neighbours."""
    loader = "import ptycho.loader; brought = [hasattr(ptycho, name) for name in ('probe', 'tf_helper')]"
    walk = IMPORT_ALL.format(packages=["ptycho"])
    brought, walked, loaded = loaded_by(f"{loader}{walk}print(json.dumps([brought, *walked]))")
    assert brought == [True, True]
    assert {"ptycho.tf.fit", "ptycho.tf.pinn", "ptycho.workflows.components"} <= set(walked)
    assert "tensorflow" in loaded
    assert {"torch", "lightning", "ptycho_torch"} & set(loaded) == set()


@pytest.mark.slow
def test_pytorch_backend_never_loads_tensorflow():
    assert importlib.util.find_spec("ptycho_torch") is not None
    walked, loaded = loaded_by(IMPORT_ALL.format(packages=["ptycho_torch"]) + "print(json.dumps(walked))")
    assert "ptycho_torch.pinn" in walked
    assert {"tensorflow", "keras"} & set(loaded) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "names"),
    [
        ("tensorflow", ("torch", "lightning", "ptycho_torch")),
        ("pytorch", ("tensorflow", "keras")),
    ],
)
def test_each_backend_works_where_the_other_is_not_installed(backend, names, tmp_path):
    before = BLOCK.format(names=names)
    shapes, loaded = loaded_by(RUN.format(before=before, scan=SCAN, folder=str(tmp_path), backends=[backend]))
    assert shapes == [OBJECT]
    assert set(names) & set(loaded) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"), [("torch", "tensorflow"), ("tensorflow", "torch")], ids=["torch first", "tensorflow first"]
)
def test_both_backends_work_in_one_process(first, second, tmp_path):
    backends = ["pytorch", "tensorflow"] if first == "torch" else ["tensorflow", "pytorch"]
    before = f"import {first}, {second}"
    shapes, loaded = loaded_by(RUN.format(before=before, scan=SCAN, folder=str(tmp_path), backends=backends))
    assert shapes == [OBJECT, OBJECT]
    assert {"torch", "tensorflow"} <= set(loaded)

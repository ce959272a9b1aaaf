"""In a fresh interpreter: a framework comes in only with the files that use it."""

import importlib.util
import json
import subprocess
import sys

import pytest

FRAMEWORKS = {"torch", "lightning", "tensorflow", "keras"}

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
        "ptycho.cli",
        "ptycho.workflows.backend_selector",
        "ptycho.workflows.outputs",
    ],
)
def test_shared_modules_load_no_framework(modules):
    code = f"import json, sys, {modules}; print(json.dumps(sorted(sys.modules)))"
    assert FRAMEWORKS & set(loaded_by(code)) == set()


def test_configuration_and_command_line_load_no_array_library():
    modules = "ptycho.config.config, ptycho.params, ptycho.cli"
    code = f"import json, sys, {modules}; print(json.dumps(sorted(sys.modules)))"
    assert {"numpy", "scipy", "h5py", "matplotlib", "rich"} & set(loaded_by(code)) == set()


def test_core_loads_no_framework():
    walked, loaded = loaded_by(IMPORT_ALL.format(packages=["ptycho.core", "ptycho.config"]))
    assert {"ptycho.core.diffraction", "ptycho.core.geometry", "ptycho.config.files"} <= set(walked)
    assert FRAMEWORKS & set(loaded) == set()


def test_pytorch_backend_never_loads_tensorflow():
    assert importlib.util.find_spec("ptycho_torch") is not None
    walked, loaded = loaded_by(IMPORT_ALL.format(packages=["ptycho_torch"]))
    assert "ptycho_torch.model" in walked
    assert {"tensorflow", "keras"} & set(loaded) == set()

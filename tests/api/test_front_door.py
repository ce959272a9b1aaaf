"""`import ptycho`: light, complete, and the same for people, type checkers and tab completion."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import ptycho
import ptycho_torch

SOURCE = Path(ptycho.__file__)
HEAVY = {"numpy", "scipy", "h5py", "matplotlib", "yaml", "torch", "lightning", "tensorflow", "keras", "rich"}


def fresh(code: str) -> list:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_import_loads_the_package_alone() -> None:
    code = "import sys; before = set(sys.modules); import ptycho, json; print(json.dumps(sorted(set(sys.modules))))"
    loaded = fresh(code)
    assert [name for name in loaded if name.partition(".")[0] == "ptycho"] == ["ptycho"]
    assert HEAVY & set(loaded) == set()


def test_no_name_loads_a_framework() -> None:
    code = "import json, sys, ptycho; [getattr(ptycho, n) for n in ptycho.__all__]; print(json.dumps([*sys.modules]))"
    assert {"torch", "lightning", "tensorflow", "keras", "matplotlib.pyplot"} & set(fresh(code)) == set()


@pytest.mark.parametrize("name", ptycho.__all__)
def test_every_name_is_there_with_its_text(name: str) -> None:
    found = getattr(ptycho, name)
    assert name in dir(ptycho)
    assert inspect.getdoc(found)
    assert found.__module__ == ptycho._HOME[name]


def test_no_name_hides_a_module_of_the_package() -> None:
    modules = {path.stem for path in SOURCE.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert modules & set(ptycho.__all__) == set()
    assert importlib.import_module("ptycho.raw_data") is ptycho.raw_data


def test_the_docstring_lists_each_name_with_a_line() -> None:
    assert ptycho.__doc__ is not None
    listed = re.findall(r"^    (\w+) {2,}\w", ptycho.__doc__, re.MULTILINE)
    assert sorted(listed) == sorted(ptycho.__all__)


@pytest.mark.parametrize("package", [ptycho, ptycho_torch])
def test_type_checkers_see_the_same_names(package: ModuleType) -> None:
    source = Path(str(package.__file__)).read_text()
    block = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert seen == package._HOME


def test_the_names_of_ptycho_torch_are_loaded_when_they_are_used() -> None:
    code = "import json, sys, ptycho_torch; print(json.dumps([*sys.modules]))"
    assert {"torch", "lightning", "numpy"} & set(fresh(code)) == set()
    assert all(getattr(ptycho_torch, name) is not None and name in dir(ptycho_torch) for name in ptycho_torch.__all__)
    with pytest.raises(AttributeError, match="module 'ptycho_torch' has no attribute 'RawDataTroch'"):
        ptycho_torch.RawDataTroch  # noqa: B018


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'ptycho' has no attribute 'recontruct'"):
        ptycho.recontruct  # noqa: B018


@pytest.mark.parametrize("package", ["ptycho", "ptycho_torch"])
def test_both_packages_are_typed(package: str) -> None:
    assert (SOURCE.parents[1] / package / "py.typed").is_file()


def test_python_m_ptycho_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ptycho", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"ptycho {ptycho.__version__}\n"


def test_a_product_goes_out_and_comes_back(tmp_path: Path) -> None:
    """Positions are metres in it, and numbered as the patterns are."""
    scan = ptycho.simulate(shape=(100, 110), units="counts", photons=1e5)
    scan.save(tmp_path / "scan.npz")
    product = ptycho.export_product(
        tmp_path / "scan.npz", tmp_path / "product.h5", energy_eV=8000.0, distance_m=1.0, object_pixel_m=2e-8
    )
    found = ptycho.import_product(product, tmp_path / "scan.npz")
    np.testing.assert_allclose((found.xcoords, found.ycoords), (scan.xcoords, scan.ycoords), atol=1e-9)
    np.testing.assert_array_equal(found.diff3d, scan.diff3d)
    np.testing.assert_allclose(found.probeGuess, scan.probeGuess, rtol=1e-6)
    np.testing.assert_allclose(found.objectGuess, scan.objectGuess, rtol=1e-6)
    with pytest.raises(ptycho.DataError, match="needs the energy of the beam"):
        ptycho.export_product(scan, tmp_path / "other.h5")
    with pytest.raises(ptycho.ConfigError, match="unknown 'energy'"):
        ptycho.export_product(scan, tmp_path / "other.h5", energy=8000.0)
    assert not (tmp_path / "other.h5").exists()

"""Engines by name: the built-in ones, those of other packages, and what is said of one that is not there or broken."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.refinement.device.engine import BUILT_IN, Engine, engine_names, find_engine
from ptycho.core.refinement.device.kernels_numpy import ENGINE
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import BackendError, ConfigError
from ptycho.raw_data import RawData

TOY = """
from ptycho.core.refinement.device.engine import Engine
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels

made = []


def make_kernels(likelihood, floor, *, note=""):
    made.append(note)
    return NumpyKernels(likelihood, floor)


ENGINE = Engine("toy", make_kernels, ("note",))
"""


@pytest.fixture
def scan() -> RawData:
    made = make_scan("lines", 40, 16, 4.0, 0.5, 1e5, 4)
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")


def install(folder: Path, name: str, value: str, code: str | None = None, package: str = "toy-engine") -> None:
    """A package with one entry point, as pip leaves it: a module and a folder of metadata."""
    about = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[ptychopinn.engines]\n{name} = {value}\n", encoding="utf-8")
    if code is not None:
        (folder / f"{value.partition(':')[0]}.py").write_text(code, encoding="utf-8")


def test_a_package_brings_an_engine_by_an_entry_point(scan, tmp_path, monkeypatch) -> None:
    install(tmp_path, "toy", "toy_engine_a:ENGINE", TOY)
    monkeypatch.syspath_prepend(tmp_path)
    assert engine_names() == (*BUILT_IN, "toy")
    found = refine_scan(scan, None, 3, engine="toy", note="told")
    assert found.engine == "toy"
    assert __import__("toy_engine_a").made == ["told"]
    expected = refine_scan(scan, None, 3, engine="numpy")
    assert expected.engine == "numpy"
    np.testing.assert_array_equal(found.object, expected.object)


@pytest.mark.parametrize(
    ("value", "code", "reason"),
    [
        ("toy_engine_b:ENGINE", "import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
        ("toy_engine_c:ENGINE", "1 / int('none')", "ValueError"),
        ("toy_engine_d:ENGINE", "x = 1", "AttributeError"),
        ("toy_engine_e:ENGINE", "def f(:", "SyntaxError"),
        ("toy_engine_f:ENGINE", "ENGINE = 3", "to be an Engine, found int"),
    ],
)
def test_a_broken_package_is_one_line_that_names_it(value, code, reason, scan, tmp_path, monkeypatch) -> None:
    install(tmp_path, "toy", value, code, package="broken-toy")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match="broken-toy") as raised:
        refine_scan(scan, None, 1, engine="toy")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert refine_scan(scan, None, 1, engine="numpy").engine == "numpy"


def test_a_built_in_name_cannot_be_taken(tmp_path, monkeypatch, caplog) -> None:
    install(tmp_path, "numpy", "toy_engine_g:ENGINE", TOY, package="shadow")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_engine("numpy") is ENGINE
    with caplog.at_level(logging.WARNING):
        assert engine_names() == tuple(BUILT_IN)
    assert "engine numpy of the package shadow is left out" in caplog.text


def test_two_packages_cannot_bring_one_name(tmp_path, monkeypatch) -> None:
    for package in ("first", "second"):
        install(tmp_path, "toy", "toy_engine_h:ENGINE", package=package)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"one package to bring it, found (first and second|second and first)"):
        find_engine("toy")


def test_an_unknown_engine_is_told_with_those_there_are(scan) -> None:
    with pytest.raises(ConfigError, match="expected one of numpy, tensorflow, pytorch, found 'nunpy'"):
        refine_scan(scan, None, 1, engine="nunpy")


def test_an_option_that_an_engine_does_not_have_is_refused(scan) -> None:
    with pytest.raises(ConfigError, match=r"engine numpy: expected options among \(dtype\), found device"):
        refine_scan(scan, None, 1, device="cpu")


def test_an_engine_that_cannot_be_imported(monkeypatch) -> None:
    monkeypatch.setitem(BUILT_IN, "pytorch", "ptycho.no_such_module:ENGINE")
    with pytest.raises(BackendError, match="engine pytorch: expected its framework, found No module named"):
        find_engine("pytorch")


def test_an_engine_itself_needs_no_name(scan) -> None:
    mine = Engine("mine", ENGINE.make_kernels, ENGINE.options)
    assert refine_scan(scan, None, 1, engine=mine, dtype=np.float32).engine == "mine"

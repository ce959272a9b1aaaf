"""The recipes of CONTRIBUTING.md, followed to the letter: what they say is enough, and touches nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import ptycho

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(title: str) -> list[tuple[str, str]]:
    """The files of a recipe and what it puts into them."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split(f"### {title}\n")[1].split("\n### ")[0]
    return BLOCK.findall(section)


def install(title: str, folder: Path) -> None:
    """Lay the package of a recipe into a folder, as an installer would."""
    for name, text in blocks(title):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))


def run(arguments: list[str], *paths: Path) -> str:
    """What a fresh interpreter prints that runs in the first of some folders, which are in front of its path."""
    environment = {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    found = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=paths[0],
        env=os.environ | environment,
        timeout=900,
    )
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    return found.stdout


def lines_changed(before: Path, after: Path) -> dict[str, tuple[int, int]]:
    """Files that differ: lines that are gone and lines that are new."""
    found = {}
    for path in sorted(after.rglob("*.py")):
        old = (before / path.relative_to(after)).read_text(encoding="utf-8").splitlines()
        new = path.read_text(encoding="utf-8").splitlines()
        if old != new:
            found[str(path.relative_to(after))] = (len(set(old) - set(new)), len(new) - len(old))
    return found


TRAIN = """
import sys
from pathlib import Path
import numpy as np
from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import (
    reconstruct_with_backend, save_bundle_with_backend, train_cdi_model_with_backend)

scan = RawData.from_file({scan!r})
"""

NETWORK = (
    TRAIN
    + """
objects = {{}}
for backend, other in (("pytorch", "tensorflow"), ("tensorflow", "pytorch")):
    folder = Path(backend)
    config = TrainingConfig(model=ModelConfig(N=64, gridsize=2, architecture="toy"), n_groups=32, batch_size=8,
                            nepochs=1, backend=backend, output_dir=folder)
    results = train_cdi_model_with_backend(scan, None, config)
    losses = results["history"]["train_loss"]
    assert len(losses) == 1 and np.isfinite(losses).all(), losses
    save_bundle_with_backend(results, config, folder)
    for reader in (backend, other):
        asked = InferenceConfig(model=config.model, model_path=folder, n_groups=16, backend=reader)
        objects[backend, reader] = reconstruct_with_backend(scan, asked).object
    one, two = objects[backend, backend], objects[backend, other]
    assert np.linalg.norm(two - one) < 1e-4 * np.linalg.norm(one), backend
    assert np.var(np.abs(one)) > 1e-8, "it has learned something"
print("trained, saved, loaded")
"""
)


@pytest.mark.slow
def test_a_network_from_outside(tmp_path: Path, fixture_file: Path) -> None:
    """It trains for an epoch in both backends, and the other one reads its archive and finds the same object."""
    install("A network", tmp_path)
    found = run(["-c", NETWORK.format(scan=str(fixture_file))], tmp_path, ROOT)
    assert found.splitlines()[-1] == "trained, saved, loaded"


def test_a_network_from_outside_can_be_chosen(tmp_path: Path) -> None:
    install("A network", tmp_path)
    code = """
from ptycho.config.config import ModelConfig, validate_model_config
from ptycho.config.schema import settings_of
from ptycho.errors import ConfigError
from ptycho.networks.spec import network_spec
validate_model_config(ModelConfig(architecture="toy"))
spec = network_spec(ModelConfig(architecture="toy", gridsize=2))
assert settings_of(ModelConfig)["architecture"].from_text("toy") == "toy"
print(spec.members, spec.recipe.learning_rate, sorted(spec.parameters())[0])
try:
    validate_model_config(ModelConfig(architecture="toyy"))
except ConfigError as error:
    print(error)
"""
    assert run(["-c", code], tmp_path, ROOT).splitlines() == [
        "4 0.002 block/conv1/bias",
        "architecture='toyy': expected one of cnn, unrolled, toy; did you mean toy?",
    ]


def test_a_file_format_from_outside(tmp_path: Path, fixture_file: Path) -> None:
    """`ptycho convert` writes it, a scan is read from it and converted back."""
    install("A file format", tmp_path)
    code = """
import numpy as np
from ptycho.cli.command import main
from ptycho.raw_data import RawData
assert main(["convert", {scan!r}, "scan.toy"]) == 0
first, found = RawData.from_file({scan!r}), RawData.from_file("scan.toy")
np.testing.assert_allclose(found.diff3d, first.diff3d)
np.testing.assert_allclose(found.xcoords, first.xcoords)
np.testing.assert_allclose(found.probeGuess, first.probeGuess)
assert main(["convert", "scan.toy", "back.npz"]) == 0
np.testing.assert_allclose(RawData.from_file("back.npz").ycoords, first.ycoords)
print("read")
""".format(scan=str(fixture_file))
    assert run(["-c", code], tmp_path, ROOT).splitlines()[-1] == "read"


@pytest.fixture
def with_a_loss(tmp_path: Path) -> Path:
    """A copy of this project to which the recipe of a loss was applied."""
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("ptycho", "ptycho_torch"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in blocks("A loss"):
        path = tmp_path / name
        before = path.read_text(encoding="utf-8")
        if name == "ptycho/config/losses.py":
            head, tail = before.split("DETECTOR_LOSSES = (\n")
            inside, tail = tail.split("\n)\n", 1)
            after = f"{head}DETECTOR_LOSSES = (\n{inside}\n{text.rstrip()}\n)\n{tail}"
        else:
            function = re.findall(r"^def (\w+)", text, flags=re.MULTILINE)[0]
            after = before.replace("__all__ = [\n", f'__all__ = [\n    "{function}",\n', 1) + f"\n\n{text}"
        path.write_text(after, encoding="utf-8")
    return tmp_path


LOSS = (
    TRAIN
    + """
from dataclasses import replace
import pytest
if pytest.main(["-q", "-p", "no:cacheprovider", "tests/parity/test_losses.py", "-k", "mse_loss"]):
    sys.exit("the parity tests of the copy")
config = TrainingConfig(model=ModelConfig(N=64, n_filters_scale=1), n_groups=16, batch_size=8, nepochs=1,
                        torch_loss_mode="mse", output_dir=Path("out"))
for backend in ("pytorch", "tensorflow"):
    losses = train_cdi_model_with_backend(scan, None, replace(config, backend=backend))["history"]["train_loss"]
    assert len(losses) == 1 and 0 < losses[0] < 1, losses
print("trained")
"""
)


@pytest.mark.slow
def test_a_loss_is_four_files(with_a_loss: Path, fixture_file: Path) -> None:
    """The parity tests of the copy know it, against the oracle and between the backends; and it trains."""
    changed = {}
    for package in ("ptycho", "ptycho_torch"):
        found = lines_changed(ROOT / package, with_a_loss / package)
        changed |= {f"{package}/{name}": counts for name, counts in found.items()}
    assert set(changed) == {name for name, _ in blocks("A loss")}
    assert len(changed) == 4
    assert all(gone == 0 for gone, _ in changed.values())
    found = run(["-c", LOSS.format(scan=str(fixture_file))], with_a_loss)
    assert re.search(r"^\d\d passed", found, flags=re.MULTILINE), found
    assert found.splitlines()[-1] == "trained"


def test_the_citation_is_of_this_version() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert found["version"] == ptycho.__version__
    assert found["authors"] == [{"name": "The ptychopinn developers"}]


def test_templates_and_hooks_can_be_read() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert [path.stem for path in forms] == ["bug", "config", "idea"]
    for path in (forms[0], forms[2]):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= content.keys()
        names = [part["id"] for part in content["body"]]
        assert len(set(names)) == len(names)
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


REFINE = """
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData

made = make_scan("lines", 64, 32, 4.0, 0.5, 1e6, 4)
scan = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
found = refine_scan(scan, iterations=2, engine="toy")
from toy_engine import ToyKernels

known = refine_scan(scan, iterations=2, engine="numpy")
print(found.engine, (found.object == known.object).all(), ToyKernels.batches > 0)
"""


def test_a_refinement_engine_from_outside(tmp_path: Path) -> None:
    install("A refinement engine", tmp_path)
    assert run(["-c", REFINE], tmp_path, ROOT).split() == ["toy", "True", "True"]

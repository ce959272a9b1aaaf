"""The tests mirror the tree.

`ptycho/a/b.py` is tested by `tests/a/test_b.py`, `ptycho_torch/a/b.py` by `tests/torch/a/test_b.py`. Twins of the
backends may be tested side by side, in `tests/parity/test_b.py`. Everything else is in `ELSEWHERE`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TWINS = ("ptycho.tf", "ptycho_torch")

ELSEWHERE = {
    "ptycho.api.backends": "api/test_front_door.py",
    "ptycho.api.iteration": "api/test_front_door.py",
    "ptycho.api.networks": "api/test_front_door.py",
    "ptycho.api.results": "api/test_front_door.py",
    "ptycho.api.scans": "api/test_front_door.py",
    "ptycho.cli.commands._scan_maps": "cli/commands/test_dataset.py",
    "ptycho.cli.commands.convert": "core/formats/test_convert.py",
    "ptycho.cli.commands.init": "cli/test_command.py",
    "ptycho.cli.commands.show": "cli/test_command.py",
    "ptycho.cli.commands.simulate": "cli/test_command.py",
    "ptycho.cli.console": "cli/test_command.py",
    "ptycho.cli.pictures": "cli/test_command.py",
    "ptycho.cli.settings": "config/test_options.py",
    "ptycho.config.losses": "parity/test_losses.py",
    "ptycho.config.run": "config/test_options.py",
    "ptycho.config.schema": "config/test_options.py",
    "ptycho.core.doctor.findings": "core/doctor/test_doctor.py",
    "ptycho.core.doctor.frame_shift": "core/doctor/test_doctor.py",
    "ptycho.core.doctor.held_out": "core/doctor/test_doctor.py",
    "ptycho.core.doctor.orientation": "core/doctor/test_doctor.py",
    "ptycho.core.doctor.position_scale": "core/doctor/test_doctor.py",
    "ptycho.core.doctor.positions": "core/doctor/test_doctor.py",
    "ptycho.core.doctor.reconstructions": "core/doctor/test_doctor.py",
    "ptycho.core.doctor.sampling": "core/doctor/test_doctor.py",
    "ptycho.core.doctor.short_reconstruction": "core/doctor/test_doctor.py",
    "ptycho.core.doctor.statistics": "core/doctor/test_doctor.py",
    "ptycho.core.formats.catalogue": "core/test_plugins.py",
    "ptycho.core.formats.cxi": "core/formats/test_round_trips.py",
    "ptycho.core.formats.map_folder": "core/formats/test_round_trips.py",
    "ptycho.core.formats.nexus": "core/formats/test_round_trips.py",
    "ptycho.core.formats.nxdata": "core/formats/test_golden_files.py",
    "ptycho.core.formats.placing": "core/formats/test_golden_files.py",
    "ptycho.core.formats.ptychodus_diffraction": "core/formats/test_round_trips.py",
    "ptycho.core.formats.ptychodus_product": "core/formats/test_round_trips.py",
    "ptycho.core.formats.ptychodus_product_npz": "core/formats/test_round_trips.py",
    "ptycho.core.formats.ptychodus_training": "core/formats/test_round_trips.py",
    "ptycho.core.formats.ptyd": "core/formats/test_round_trips.py",
    "ptycho.core.formats.reconstruction_npz": "core/test_reconstruction.py",
    "ptycho.core.formats.reconstruction_product": "core/test_reconstruction.py",
    "ptycho.core.formats.record": "core/formats/test_golden_files.py",
    "ptycho.core.formats.registry": "core/test_plugins.py",
    "ptycho.core.formats.scan_npz": "core/formats/test_round_trips.py",
    "ptycho.core.physics.losses": "parity/test_losses.py",
    "ptycho.core.physics.probes": "core/simulation/test_objects.py",
    "ptycho.core.refinement.descent": "core/refinement/test_run.py",
    "ptycho.core.refinement.device.kernels": "parity/test_refinement_kernels.py",
    "ptycho.core.refinement.device.kernels_numpy": "parity/test_refinement_kernels.py",
    "ptycho.core.refinement.problem": "core/refinement/test_run.py",
    "ptycho.core.refinement.result": "core/refinement/test_run.py",
    "ptycho.core.scan.identity": "core/training/test_identity.py",
    "ptycho.core.scan.map_manifest": "core/scan/test_map_read.py",
    "ptycho.core.scan.npz_mapped": "core/scan/test_stream.py",
    "ptycho.core.scan.scan": "core/scan_edit/test_points.py",
    "ptycho.core.scan_edit.detector": "core/scan_edit/test_points.py",
    "ptycho.core.scan_edit.map_write": "core/scan/test_map_read.py",
    "ptycho.core.stitching.overlaps": "core/stitching/test_synchronise.py",
    "ptycho.figures.comparison": "figures/test_figures.py",
    "ptycho.figures.drawing": "figures/test_figures.py",
    "ptycho.figures.patches": "workflows/test_diagnostics.py",
    "ptycho.figures.reconstruction": "figures/test_figures.py",
    "ptycho.figures.results": "core/test_result.py",
    "ptycho.figures.scan": "figures/test_figures.py",
    "ptycho.figures.simulation": "cli/test_command.py",
    "ptycho.figures.trust": "figures/test_figures.py",
    "ptycho.legacy.loader": "contracts/test_ptychodus_calls.py",
    "ptycho.legacy.nongrid_simulation": "legacy/test_diffsim.py",
    "ptycho.networks.archiving": "parity/test_archive.py",
    "ptycho.networks.cnn": "networks/test_spec.py",
    "ptycho.networks.options": "networks/test_spec.py",
    "ptycho.networks.parts": "networks/test_spec.py",
    "ptycho.networks.unrolled": "networks/test_spec.py",
    "ptycho.params": "config/test_legacy.py",
    "ptycho.tf.attention": "parity/test_network_options.py",
    "ptycho.tf.direct_layer": "parity/test_model.py",
    "ptycho.tf.layers": "parity/test_network_options.py",
    "ptycho.tf.model_manager": "parity/test_model.py",
    "ptycho.tf.network": "parity/test_model.py",
    "ptycho.tf.optimizers": "tf/test_fit.py",
    "ptycho.tf.pinn": "parity/test_model.py",
    "ptycho.tf.precision": "parity/test_model.py",
    "ptycho.tf.predictor": "parity/test_model.py",
    "ptycho.tf.probe": "parity/test_model.py",
    "ptycho.workflows.backend": "tf/test_backend.py",
    "ptycho.workflows.components": "tf/test_backend.py",
    "ptycho.workflows.outputs": "workflows/iteration/test_refined_result.py",
    "ptycho.workflows.reconstruct": "tf/test_backend.py",
    "ptycho.workflows.results": "tf/test_backend.py",
    "ptycho.workflows.run_options": "tf/test_backend.py",
    "ptycho.workflows.train": "tf/test_backend.py",
    "ptycho.workflows.networks.training_data": "tf/test_backend.py",
    "ptycho_torch.api.config_manager": "torch/test_api.py",
    "ptycho_torch.api.inference": "torch/test_api.py",
    "ptycho_torch.api.models": "torch/test_api.py",
    "ptycho_torch.api.scans": "torch/test_api.py",
    "ptycho_torch.api.training": "torch/test_api.py",
    "ptycho_torch.attention": "torch/test_layers.py",
    "ptycho_torch.backend": "torch/workflows/test_components.py",
    "ptycho_torch.config.options": "torch/test_config_bridge.py",
    "ptycho_torch.config.routes": "torch/test_config_bridge.py",
    "ptycho_torch.config_params": "torch/test_config_bridge.py",
    "ptycho_torch.datagen.experiments": "torch/test_datagen.py",
    "ptycho_torch.datagen.objects": "torch/test_datagen.py",
    "ptycho_torch.datagen.probes": "torch/test_datagen.py",
    "ptycho_torch.inference": "torch/test_native_cli.py",
    "ptycho_torch.lightning.divergence": "workflows/test_divergence.py",
    "ptycho_torch.lightning.epoch_report": "torch/test_fit.py",
    "ptycho_torch.lightning.run_files": "torch/test_fit.py",
    "ptycho_torch.lightning_utils": "torch/test_api.py",
    "ptycho_torch.loader": "parity/test_model.py",
    "ptycho_torch.model_manager": "parity/test_model.py",
    "ptycho_torch.network": "parity/test_model.py",
    "ptycho_torch.optimizers": "torch/test_fit.py",
    "ptycho_torch.precision": "parity/test_model.py",
    "ptycho_torch.predictor": "parity/test_model.py",
    "ptycho_torch.probe": "parity/test_model.py",
    "ptycho_torch.train": "torch/test_native_cli.py",
}
"""Modules without a test file of their name, and the file that tests them.

Parts of one whole (findings of the doctor, formats behind the registry, pictures, the interface for programs) are
tested where the whole is; steps of a workflow by what the workflow makes.
"""
MOST = 116
"""Entries of the list above. It only gets smaller."""


def is_face(path: Path) -> bool:
    """Whether a module holds a docstring, imports and names, and nothing that could be tested."""
    return all(
        isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


@cache
def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name, packages themselves aside."""
    found = {}
    for package in ("ptycho", "ptycho_torch"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.name.startswith("__"):
                found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = path
    return found


def own_tests(name: str) -> Iterator[Path]:
    """Where the tests of a module are to be looked for."""
    package, _, last = name.rpartition(".")
    folders = ["torch" if package.startswith("ptycho_torch") else "", *package.split(".")[1:]]
    yield ROOT.joinpath("tests", *folders, f"test_{last}.py")
    if package in TWINS:
        yield ROOT / "tests" / "parity" / f"test_{last}.py"


def is_mirrored(name: str) -> bool:
    return any(path.is_file() for path in own_tests(name))


@cache
def named_in(path: Path) -> frozenset[str]:
    """Modules of this project that a file imports or names in a text, as `"package.module:name"`.

    A file that finds modules at run time may load all that are in a package that it names.
    """
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"ptycho(?:_torch)?(?:\.\w+)+", node.value))
    if re.search(r"import_module|iter_modules", path.read_text(encoding="utf-8")) or path.name == "catalogue.py":
        found |= {name for name in modules() if name.rpartition(".")[0] in found}
    return frozenset(found)


def reached_from(path: Path) -> set[str]:
    """Modules that a test may load: those that it names, and all that these name in turn."""
    packages = {".".join(init.parent.relative_to(ROOT).parts): init for init in ROOT.glob("ptycho*/**/__init__.py")}
    known = {**modules(), **packages}
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        for name in named_in(waiting.pop()) & known.keys() - seen:
            seen.add(name)
            waiting.append(known[name])
    return seen


def test_every_module_is_tested_by_a_file_of_its_name_or_is_in_the_list() -> None:
    expected = {name for name, path in modules().items() if not is_face(path) and not is_mirrored(name)}
    assert expected - ELSEWHERE.keys() == set(), "write a test file of the module's name"
    assert ELSEWHERE.keys() - expected == set(), "take it out of the list and lower MOST"


def test_the_list_only_gets_smaller() -> None:
    assert len(ELSEWHERE) == MOST


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_a_file_reaches_what_the_list_says_that_it_tests(test: str) -> None:
    tested = {name for name, file in ELSEWHERE.items() if file == test}
    assert tested - reached_from(ROOT / "tests" / test) == set()

"""The API reference: which modules are public, and one page for each group of them, every public name with an entry.

What is public in a module says its `__all__`. The build fails where a name has no docstring to show, and where an entry
does not reach the site (`missing_entries`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import griffe
from reference import CONFIGURATIONS, settings_anchor

__all__ = ["API", "api_index", "api_page", "missing_entries", "page_name", "public_names"]

ROOT = Path(__file__).parents[2]

API: Mapping[str, tuple[str, ...]] = {
    "The library": ("ptycho",),
    "Scans": ("ptycho.raw_data", "ptycho.loader", "ptycho_torch.data_container_bridge"),
    "Workflows": (
        "ptycho.workflows.backend_selector",
        "ptycho.workflows.components",
        "ptycho_torch.workflows.components",
    ),
    "Refinement": ("ptycho.core.refinement.refinement", "ptycho.tf.refine", "ptycho_torch.refine"),
    "Configuration": ("ptycho.config.config", "ptycho.config.options", "ptycho.params"),
    "Configuration of PyTorch": (
        "ptycho_torch.config_params",
        "ptycho_torch.config_bridge",
        "ptycho_torch.config_factory",
    ),
    "Models": (
        "ptycho.model",
        "ptycho.model_manager",
        "ptycho_torch.model",
        "ptycho_torch.model_manager",
        "ptycho_torch.lightning_utils",
    ),
    "Simulation": ("ptycho.diffsim", "ptycho.nongrid_simulation", "ptycho_torch.datagen"),
    "Images and measures": (
        "ptycho.evaluation",
        "ptycho.image.registration",
        "ptycho.image.cropping",
        "ptycho.image.stitching",
        "ptycho.nbutils",
        "ptycho.probe",
        "ptycho.tf_helper",
    ),
    "Programs around PyTorch": (
        "ptycho_torch.api.base_api",
        "ptycho_torch.dset_loader_pt_mmap",
        "ptycho_torch.reassembly_alpha",
        "ptycho_torch.reassembly_beta",
    ),
    "Errors": ("ptycho.errors",),
}
"""Title of a page -> the public modules on it: the one list of them."""


def page_name(title: str) -> str:
    """The file of a page."""
    return f"{title.lower().replace(' ', '_')}.md"


@cache
def _package(name: str) -> griffe.Module:
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    for package in ("ptycho", "ptycho_torch"):
        loader.load(package)
    loader.resolve_aliases(implicit=True)
    module = loader.modules_collection[name]
    assert isinstance(module, griffe.Module)
    return module


def _object(path: str) -> griffe.Object | griffe.Alias:
    package, _, rest = path.partition(".")
    return _package(package)[rest] if rest else _package(package)


def public_names(module: str) -> list[str]:
    """The names in a module's `__all__`, dunders left out, in its order; none where it has no `__all__`."""
    if module == "ptycho":  # its list is made from its table of lazy names; importing it loads nothing
        return [name for name in importlib.import_module(module).__all__ if not name.startswith("__")]
    exports = _object(module).exports
    if exports is None:
        raise LookupError(f"{module}: expected an __all__ that says what is public, found none")
    names = [str(getattr(export, "name", export)) for export in exports or ()]
    return [name for name in names if not name.startswith("__")]


def _described(module: str, name: str) -> str:
    """The path under which a name's documentation is found: its own, or where a lazy name comes from."""
    path = f"{module}.{name}"
    found: griffe.Object | griffe.Alias | None = _found(path)
    if found is None or found.is_module:
        thing = getattr(importlib.import_module(module), name)
        path = f"{thing.__module__}.{thing.__qualname__}"
        found = _object(path)
    if not found.has_docstring:
        raise LookupError(f"{path}: expected a docstring, found none; a public name is described where it is defined")
    return path


def _found(path: str) -> griffe.Object | None:
    """What the source has under this path; None for a name that is only made when it is asked for."""
    try:
        found = _object(path)
        return found.final_target if isinstance(found, griffe.Alias) else found
    except (KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
        return None


def api_page(title: str) -> str:
    """The Markdown of a page: each module, and below it an entry for each of its public names."""
    parts = [f"# {title}"]
    for module in API[title]:
        parts += [f"## `{module}` {{: #{module} }}", _summary(module)]
        parts += [entry for name in public_names(module) for entry in _entry(module, name)]
    return "\n\n".join(parts) + "\n"


def _summary(module: str) -> str:
    docstring = _object(module).docstring
    return docstring.value if docstring else ""


def _entry(module: str, name: str) -> Iterator[str]:
    path = _described(module, name)
    if path != f"{module}.{name}":
        yield f'<span id="{module}.{name}"></span>'
    target = _found(path)
    homes = [module, target.module.path] if target is not None and target.is_class else []
    settings = next((home for home in homes if home in CONFIGURATIONS), None)
    if settings is None:
        yield f"::: {path}"
    else:
        yield f"::: {path}\n    options:\n      members: false\n      show_signature: false"
        yield f"Its settings: [configuration reference](../configuration.md#{settings_anchor(settings, name)})."


def api_index() -> str:
    """A list of the pages, with the modules and names on each."""
    lines = []
    for title, modules in API.items():
        lines.append(f"**[{title}](api/{page_name(title)})**\n")
        for module in modules:
            links = [f"[`{name}`](api/{page_name(title)}#{module}.{name})" for name in public_names(module)]
            lines.append(f"* `{module}`: {', '.join(links) or _summary(module)}")
        lines.append("")
    return "\n".join(lines)


def missing_entries(site: Path) -> list[str]:
    """Public names that have no entry in the built reference."""
    missing = []
    for title, modules in API.items():
        page = (site / "reference" / "api" / page_name(title)).with_suffix(".html").read_text(encoding="utf-8")
        names = [f"{module}.{name}" for module in modules for name in public_names(module)]
        missing += [name for name in names if f'id="{name}"' not in page]
    return missing

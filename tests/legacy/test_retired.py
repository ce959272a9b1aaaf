"""Names that are gone: one line that names the way that took their place."""

from __future__ import annotations

import importlib

import pytest

from ptycho.legacy.retired import RETIRED, retired

MODULES = [name for name in RETIRED if name.startswith("ptycho_torch.")]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_of_which_little_is_left_says_what_to_use(module: str) -> None:
    found = importlib.import_module(module)
    with pytest.raises(ImportError, match=f"^{module}.old_function is gone: .*{RETIRED[module][:20]}"):
        found.old_function  # noqa: B018
    with pytest.raises(ImportError, match="old_function is gone"):
        exec(f"from {module} import old_function", {})
    assert not hasattr(found, "__wrapped__")


def test_a_line_has_one_sentence_of_its_own() -> None:
    for name in RETIRED:
        assert retired(name).startswith(f"{name} is gone: ")
        assert "\n" not in retired(name)

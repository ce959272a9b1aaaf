"""The table of old and new names: both columns name what is there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
]
DOTTED = re.compile(r"`(ptycho(?:_torch)?(?:\.\w+)+)`")
NAMES = sorted({name for row in ROWS for cell in row[:2] for name in DOTTED.findall(cell)})


def found(name: str) -> Any:
    """A module, or what is inside one, by its dotted name."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            thing: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            thing = getattr(thing, part)
        return thing
    raise LookupError(name)


def test_the_table_has_rows_of_three() -> None:
    assert len(ROWS) > 30
    assert {len(row) for row in ROWS} == {3}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_table_is_there(name: str) -> None:
    assert found(name) is not None


def test_a_name_that_is_not_there_is_found_out() -> None:
    with pytest.raises(AttributeError):
        found("ptycho.evaluation.nothing")


def test_flags_of_the_table_are_taken() -> None:
    from ptycho.cli.programs import PYTORCH_TRAINING, TRAINING

    taken = {flag for command in (TRAINING, PYTORCH_TRAINING) for flag in command.parser()._option_string_actions}
    rows = [row for row in ROWS if row[0].startswith("`--") and "stats.py" not in row[1]]
    flags = {flag.replace("_", "-") for row in rows for cell in row[:2] for flag in re.findall(r"`(--[\w-]+)`", cell)}
    assert len(flags) > 8
    assert {flag.replace("_", "-") for flag in taken} >= flags

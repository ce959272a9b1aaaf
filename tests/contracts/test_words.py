"""One word, one thing: words that the project does without, and what stands for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTEAD = {
    r"\bnames? of old\b": "under the names that callers import",
    r"\bof long standing\b": "kept for compatibility with ...",
    r"\bverdicts\b": "validation, or the trust in a result",
    r"\bJUDGES?\b|\bclass _?Judges?\b|\bdef judged?\b": "sample, loss, validation or trust",
    r"\b(?:class|import) Phase\b": "phase is the optical phase alone: a period of a training, a purpose of statistics",
}
HERE = Path(__file__).name


@pytest.mark.parametrize("folder", ["ptycho", "ptycho_torch", "scripts", "tests", "docs", "specs", "notebooks"])
def test_words_that_say_something_else_here_are_not_used(folder: str) -> None:
    found = []
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix not in (".py", ".md") or path.name == HERE:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found += [f"{path}:{number}: {instead}" for word, instead in INSTEAD.items() if re.search(word, line)]
    assert not found

"""A deprecated name says what takes its place and when it goes, in the line of whoever used it."""

from pathlib import Path

import pytest

from ptycho.config.config import TrainingConfig
from ptycho.config.deprecation import REMOVAL, warn_deprecated

ROOT = Path(__file__).parents[2]


def old_name() -> None:
    warn_deprecated("old_name", "use new_name")


def test_warning_names_successor_and_removal_and_the_caller() -> None:
    with pytest.warns(DeprecationWarning) as caught:
        old_name()
    assert [str(entry.message) for entry in caught] == [f"old_name is deprecated: use new_name; removed in {REMOVAL}"]
    assert caught[0].filename == __file__


def test_the_caller_of_a_dataclass_is_named() -> None:
    with pytest.warns(DeprecationWarning, match="; removed in 1.0") as caught:
        TrainingConfig(n_images=7)
    assert caught[0].filename == __file__


def test_nobody_warns_of_a_deprecated_name_in_words_of_their_own() -> None:
    sources = [path for name in ("ptycho", "ptycho_torch") for path in (ROOT / name).rglob("*.py")]
    found = [path.name for path in sources if "DeprecationWarning, stacklevel" in path.read_text(encoding="utf-8")]
    assert found == ["deprecation.py"]

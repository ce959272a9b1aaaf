"""The errors are of one family, and of the built-in kinds that callers catch."""

import pytest

from ptycho import errors

BUILT_IN = {
    "ConfigError": ValueError,
    "DataError": ValueError,
    "ArchiveError": ValueError,
    "MissingFileError": FileNotFoundError,
    "OutputError": OSError,
    "BackendError": RuntimeError,
    "DivergedError": ArithmeticError,
}


def test_every_error_is_in_the_table() -> None:
    assert set(errors.__all__) == {"PtychoError", *BUILT_IN}


@pytest.mark.parametrize("name", BUILT_IN)
def test_caught_by_the_family_and_by_the_built_in_kind(name: str) -> None:
    for kind in (errors.PtychoError, BUILT_IN[name]):
        with pytest.raises(kind, match=r"^what, found, do$"):
            raise getattr(errors, name)("what, found, do")

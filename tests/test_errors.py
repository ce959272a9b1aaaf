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
    "LostProcessError": RuntimeError,
    "DivergedError": ArithmeticError,
}


def test_every_error_is_in_the_table() -> None:
    assert set(errors.__all__) == {"PtychoError", *BUILT_IN}


@pytest.mark.parametrize("name", BUILT_IN)
def test_caught_by_the_family_and_by_the_built_in_kind(name: str) -> None:
    for kind in (errors.PtychoError, BUILT_IN[name]):
        with pytest.raises(kind, match=r"^what, found, do$"):
            raise getattr(errors, name)("what, found, do")


def test_of_a_very_long_text_the_middle_is_left_out() -> None:
    for name in BUILT_IN:
        text = str(getattr(errors, name)("scan.npz: expected a number, found " + "[" * 5000 + "; give one"))
        assert text.startswith("scan.npz: expected a number, found [[") and text.endswith("[[; give one")
        assert "(3245 characters)" in text and len(text) < 1900
    assert str(errors.DataError("x" * 1800)) == "x" * 1800

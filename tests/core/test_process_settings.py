"""Settings of the process that several threads change at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ptycho.core.process_settings import Agreement, changed_once
from ptycho.errors import ConfigError


@pytest.fixture
def setting() -> list[str]:
    return ["as it was"]


def test_the_first_changes_it_and_the_last_puts_it_back(setting: list[str]) -> None:
    """In the order of two threads: the first one is through while the second one still computes."""
    changes = []

    @changed_once
    def changed() -> Iterator[None]:
        before = setting[0]
        setting[0] = "changed"
        changes.append(before)
        try:
            yield
        finally:
            setting[0] = before

    first, second = ExitStack(), ExitStack()
    for _ in range(2):
        first.enter_context(changed())
        second.enter_context(changed())
        first.close()
        assert setting == ["changed"]
        second.close()
        assert setting == ["as it was"]
    assert changes == ["as it was"] * 2


def test_it_is_put_back_after_an_error_and_decorates(setting: list[str]) -> None:
    @changed_once
    def changed() -> Iterator[None]:
        setting[0] = "changed"
        try:
            yield
        finally:
            setting[0] = "as it was"

    @changed()
    def fails() -> None:
        raise ValueError(setting[0])

    for _ in range(2):
        with pytest.raises(ValueError, match="changed"):
            fails()
        assert setting == ["as it was"]


def test_those_inside_together_agree() -> None:
    agreement = Agreement("deterministic")
    with agreement.on(True), agreement.on(True):
        with pytest.raises(ConfigError) as caught, agreement.on(False):
            pass
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("deterministic=False: expected True as in the training of another thread")
    with agreement.on(False):
        pass

"""Pictures are drawn here."""

import pytest


@pytest.fixture
def pictures() -> None:
    """They are looked at."""

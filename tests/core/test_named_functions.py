"""A function by its name: what is taken, and the line where it is not."""

import pytest

from ptycho.core.named_functions import chosen
from ptycho.errors import ConfigError


def disk(size: int, radius: float = 2.0, centre: tuple[int, int] = (0, 0), order: int = 1) -> float:
    return size * radius * order + sum(centre)


KINDS = {"disk": disk}


def test_the_function_and_settings_of_its_kinds() -> None:
    settings = {"radius": 3, "centre": [1, 2], "order": 2}
    assert chosen(KINDS, "shape", "disk", settings, leading=1) is disk


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("square", {}, "shape: expected one of disk, found 'square'; choose one"),
        ("disk", {"size": 3}, "disk: expected settings among radius, centre, order, found size; correct it"),
        ("disk", {"radius": "3"}, "disk: expected radius as in radius=2.0, found '3'; correct it"),
        ("disk", {"order": 1.5}, "disk: expected order as in order=1, found 1.5; correct it"),
        ("disk", {"centre": (1, 2, 3)}, r"disk: expected centre as in centre=\(0, 0\), found \(1, 2, 3\); correct it"),
    ],
)
def test_what_is_refused(name: str, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        chosen(KINDS, "shape", name, settings, leading=1)

"""The order of the tests: files with slow tests first, whatever shuffles them."""

from pathlib import Path
from types import SimpleNamespace

import pytest


def item(file: str, name: str, slow: bool = False) -> SimpleNamespace:
    return SimpleNamespace(path=Path(file), name=name, get_closest_marker=lambda marker: slow and marker == "slow")


def test_long_files_come_first_in_the_order_that_others_have_made(request: pytest.FixtureRequest) -> None:
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    items = [item("a.py", "1"), item("b.py", "2", slow=True), item("c.py", "3"), item("b.py", "4"), item("d.py", "5")]
    sorting = conftest.pytest_collection_modifyitems(items)
    next(sorting)
    del items[1]
    items.reverse()
    with pytest.raises(StopIteration):
        sorting.send(None)
    assert [one.name for one in items] == ["4", "5", "3", "1"]

"""The documentation site: what its build refuses. The build as a whole is `make docs`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "docs"


@pytest.fixture(scope="module")
def docs() -> Iterator[Any]:
    """The modules that build the site, found as a script finds those beside it."""
    pytest.importorskip("griffe", reason='what builds the site is not installed: pip install ".[docs]"')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        names = ("api_pages", "build", "commands", "reference", "site_pages")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def test_every_public_name_stands_on_a_page(docs: Any) -> None:
    for title, modules in docs.api_pages.API.items():
        page = docs.api_pages.api_page(title)
        for module in modules:
            assert f"## `{module}`" in page
            for name in docs.api_pages.public_names(module):
                assert f"::: {module}.{name}\n" in page or f'id="{module}.{name}"' in page


def test_a_public_name_without_an_entry_is_found(docs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs.api_pages, "API", {"Errors": ("ptycho.errors",)})
    names = [f"ptycho.errors.{name}" for name in docs.api_pages.public_names("ptycho.errors")]
    page = tmp_path / "reference" / "api" / "errors.html"
    page.parent.mkdir(parents=True)
    page.write_text("".join(f'<h3 id="{name}"></h3>' for name in names[1:]), encoding="utf-8")
    assert docs.api_pages.missing_entries(tmp_path) == names[:1]


def test_a_public_name_without_a_docstring_is_refused(docs: Any, tmp_path: Path) -> None:
    import griffe

    (tmp_path / "bare.py").write_text('"""A module."""\n\n__all__ = ["thing"]\n\nthing = 1\n', encoding="utf-8")
    module = griffe.load("bare", search_paths=[tmp_path])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docs.api_pages, "_package", lambda name: module)
        with pytest.raises(LookupError, match=r"bare\.thing: expected a docstring"):
            docs.api_pages._described("bare", "thing")


@pytest.mark.parametrize("link", ["nowhere.md", "../scripts/demo.py", "../../elsewhere.md"])
def test_a_link_that_leads_to_no_page_is_refused(docs: Any, link: str) -> None:
    with pytest.raises(LookupError, match="expected a link to a page of the site"):
        docs.site_pages.linked(f"see [there]({link})", ROOT / "docs" / "quickstart.md")


def test_links_lead_to_where_the_pages_lie_on_the_site(docs: Any) -> None:
    text = "[a](../specs/formats.md#x) [b](conventions.md) `[c](d.md)` [e](https://a.org) [f](../notebooks/README.md)"
    linked = docs.site_pages.linked(text, ROOT / "docs" / "quickstart.md")
    assert linked.split() == [
        "[a](specs/formats.md#x)",
        "[b](conventions.md)",
        "`[c](d.md)`",
        "[e](https://a.org)",
        "[f](notebooks/index.md)",
    ]


def test_what_other_servers_would_be_asked_for_is_found(docs: Any, tmp_path: Path) -> None:
    text = '<a href="https://example.org">said, not fetched</a><script src="https://cdn.example.org/x.js"></script>'
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    faults = list(docs.build.fetched(tmp_path))
    assert faults == ["page.html: expected nothing from other servers, found https://cdn.example.org/x.js"]


def test_pages_and_navigation_are_compared(docs: Any) -> None:
    nav = [{"Home": "index.md"}, {"More": [{"Gone": "gone.md"}]}]
    lost, gone = docs.build.outside(nav, [Path("index.md"), Path("lost.md")])
    assert lost.startswith("lost.md: expected in the navigation")
    assert gone.endswith("expected the page gone.md, found none")


def test_every_setting_and_every_flag_is_told(docs: Any) -> None:
    from ptycho.config.config import TrainingConfig
    from ptycho.config.schema import settings_of

    settings = docs.reference.config_reference()
    assert not [name for name in settings_of(TrainingConfig) if f"`{name}`" not in settings]
    flags = docs.reference.command_reference()
    for command in docs.commands.COMMANDS:
        if command != "ptycho":
            told = [action.option_strings for action in docs.commands.parser_of(command)._actions]
            assert not [names for names in told if names and names[0] not in ("-h",) and names[0] not in flags]


def test_flags_with_markup_in_their_help_are_shown_as_they_are(docs: Any) -> None:
    parser = argparse.ArgumentParser(prog="tool")
    parser.add_argument("--rate", default=2, help="100%% of *this* <and> _that_ (default: %(default)s)")
    (entry,) = (docs.reference._flag(parser, action) for action in parser._actions if action.dest == "rate")
    assert entry == "`--rate RATE`\n:   100% of \\*this\\* &lt;and&gt; \\_that\\_ (default: 2)."


def test_a_flag_is_not_divided_between_lines(docs: Any) -> None:
    block = "<pre><code><span>ptycho show --quiet</span></code></pre>"
    page = f"say <code>--flux</code> or <code>ptycho frc -o A --modes 2</code> {block}"
    whole = docs.build.whole_flags(page)
    assert '<code><span class="flag">--flux</span></code>' in whole
    assert '<code>ptycho frc -o A <span class="flag">--modes</span> 2</code>' in whole
    assert whole.endswith(block)

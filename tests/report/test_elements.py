"""HTML from Python: text is escaped wherever it stands."""

import pytest

from ptycho.report.elements import Markup, breakable, data_uri, joined, table, tag, text


@pytest.mark.parametrize(
    ("given", "made"),
    [("<b> & \"'", "&lt;b&gt; &amp; &quot;&#x27;"), (3, "3"), (None, "None"), (Markup("<b>"), "<b>")],
)
def test_what_is_no_markup_is_text(given: object, made: str) -> None:
    assert text(given) == made


def test_attributes_cannot_end_early() -> None:
    assert tag("img", alt='"><script>') == '<img alt="&quot;&gt;&lt;script&gt;">'
    assert tag("p", "a<b", class_="x", data_a_b=1, hidden=True, title=None, lang=False) == (
        '<p class="x" data-a-b="1" hidden>a&lt;b</p>'
    )


def test_children_come_in_order_and_none_is_nothing() -> None:
    assert tag("p", "1 <", tag("i", "2"), None) == "<p>1 &lt;<i>2</i></p>"
    assert joined([None, "a", Markup("<br>")]) == "a<br>"


def test_a_name_breaks_after_its_dots() -> None:
    assert breakable("a.b_<c.") == "a.<wbr>b_<wbr>&lt;c."


def test_a_table_names_its_rows() -> None:
    made = table([("a", "<", 2)], ("x", "y", "z"), "which")
    assert "<caption>which</caption>" in made and '<th scope="col">z</th>' in made
    assert '<tr><th scope="row">a</th><td>&lt;</td><td>2</td></tr>' in made


def test_a_picture_is_in_the_page() -> None:
    assert data_uri(b"\x89PNG") == "data:image/png;base64,iVBORw=="

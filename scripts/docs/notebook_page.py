"""A notebook as a page: its text, its code, and the outputs that it is stored with."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["notebook_page"]


def notebook_page(path: Path, folder: Path, linked: Callable[[str], str]) -> str:
    """The Markdown of a notebook; its pictures are written beside the page, into `folder`.

    Args:
        path: the notebook.
        folder: where the page will lie.
        linked: gives a text with the links of the site.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [part for cell in cells for part in _cell(cell, path.stem, folder, linked)]
    return "\n\n".join(parts) + "\n"


def _cell(cell: dict[str, Any], stem: str, folder: Path, linked: Callable[[str], str]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield linked(source)
        return
    yield f"```python\n{source}\n```"
    for number, output in enumerate(cell["outputs"]):
        if output["output_type"] == "stream":
            yield f"```text\n{''.join(output['text']).rstrip()}\n```"
        elif "image/png" in output["data"]:
            folder.mkdir(parents=True, exist_ok=True)
            picture = folder / f"{stem}_{cell['id']}_{number}.png"
            picture.write_bytes(base64.b64decode("".join(output["data"]["image/png"])))
            yield f"![What the cell above draws]({picture.name})"

"""Run a notebook from top to bottom in this interpreter, without Jupyter, and store what its cells print and draw.

`python scripts/docs/run_notebook.py notebooks/NAME.ipynb` renews the outputs in the notebook itself; `--output FILE`
writes the notebook with its outputs elsewhere and leaves the original alone.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["run_cells"]

DPI = 60


def main() -> None:
    """Run and store."""
    parser = argparse.ArgumentParser(description="Run a notebook and store its outputs.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--output", type=Path, help="where to write it with its outputs (default: over itself)")
    options = parser.parse_args()
    notebook = json.loads(options.notebook.read_text(encoding="utf-8"))
    run_cells(notebook["cells"], options.notebook.name)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    (options.output or options.notebook).write_text(text, encoding="utf-8")


def run_cells(cells: list[dict[str, Any]], name: str) -> None:
    """Run the code cells in order in one namespace; each gets its outputs and its number."""
    import matplotlib

    matplotlib.use("Agg")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"{name}#{cell['id']}", "exec"), namespace)
        text = printed.getvalue()
        streams = [{"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}] if text else []
        cell["outputs"] = [*streams, *_drawn()]
        cell["execution_count"] = number


def _drawn() -> Iterator[dict[str, Any]]:
    """The open figures as outputs; they are closed, as Jupyter closes them after a cell."""
    import matplotlib.pyplot as plt

    for number in plt.get_fignums():
        picture = io.BytesIO()
        plt.figure(number).savefig(picture, format="png", dpi=DPI)
        encoded = base64.b64encode(_few_colours(picture)).decode("ascii")
        yield {
            "output_type": "display_data",
            "data": {"image/png": encoded, "text/plain": ["<Figure>"]},
            "metadata": {},
        }
    plt.close("all")


def _few_colours(picture: io.BytesIO) -> bytes:
    """The same picture with 64 colours: a third of the bytes, for a file that is kept in the repository."""
    from PIL import Image

    with Image.open(picture) as image:
        small = io.BytesIO()
        image.convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    main()

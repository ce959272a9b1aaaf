"""`ptycho init`: write a settings file that explains itself."""

from __future__ import annotations

import argparse
import json
import logging
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ptycho.cli.programs import INFERENCE, RECONSTRUCTION, TRAINING
from ptycho.cli.settings import Command
from ptycho.config.schema import Setting
from ptycho.core.files.atomic import atomic_path
from ptycho.errors import OutputError

__all__ = ["SUMMARY", "add_arguments", "run", "settings_file"]

SUMMARY = "write a settings file in which every setting stands with its meaning and its default"

_log = logging.getLogger(__name__)
_WIDTH = 110  # of a comment in the file
_COMMANDS = {"train": TRAINING, "inference": INFERENCE, "reconstruct": RECONSTRUCTION}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; --quiet and --debug are there already."""
    parser.add_argument("file", nargs="?", type=Path, default=Path("settings.yaml"), help="the YAML file to write")
    parser.add_argument("--command", choices=tuple(_COMMANDS), default="train", help="the command that it is for")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def run(options: argparse.Namespace) -> int:
    """Write the file.

    Raises:
        OutputError: the file is there already, or its folder is not.
    """
    path: Path = options.file
    if path.exists() and not options.force:
        raise OutputError(f"{path}: there already; name another file, or give --force to replace it")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: expected a file in a folder that exists; make the folder first")
    text = settings_file(_COMMANDS[options.command], f"Settings of ptycho {options.command} --config {path.name}")
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    _log.info("Wrote %s", path)
    return 0


def settings_file(command: Command, title: str) -> str:
    """A settings file in which every key stands with its meaning, what it may hold and its default, commented out."""
    lines = [f"## {title}", "## Remove the '# ' in front of a key to change it; flags on the command line win.", ""]
    for cls in (command.run, command.config):
        lines += _keys({name: one for name, one in command.top_level(cls).items() if not one.nested}, "")
    for section, cls in command.sections.items():
        lines += ["", f"## {(cls.__doc__ or '').splitlines()[0].rstrip('.')}", f"{section}:"]
        lines += _keys(command.members(section), "  ")
    return "\n".join(lines) + "\n"


def _keys(settings: Mapping[str, Setting], indent: str) -> Iterator[str]:
    for name, one in settings.items():
        if name == "n_images":
            continue
        yield from textwrap.wrap(
            f"{one.doc.text}: {one.expected}",
            _WIDTH,
            initial_indent=f"{indent}## ",
            subsequent_indent=f"{indent}##   ",
            break_on_hyphens=False,
        )
        yield f"{indent}# {name}: {_plain(one.default)}"


def _plain(value: Any) -> str:
    """A default as YAML, which JSON is."""
    if isinstance(value, Path):
        value = value.as_posix()
    return json.dumps(list(value) if isinstance(value, tuple) else value)

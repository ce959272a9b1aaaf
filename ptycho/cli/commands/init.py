"""`ptycho init`: write a settings file that explains itself."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ptycho.cli.settings import INFERENCE, TRAINING, settings_file
from ptycho.core.atomic import atomic_path
from ptycho.errors import OutputError

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "write a settings file in which every setting stands with its meaning and its default"

_log = logging.getLogger(__name__)
_COMMANDS = {"train": TRAINING, "inference": INFERENCE}


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

"""`ptycho completion bash` in a real bash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ptycho.cli.command import main

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')" "$1" "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ptycho", "tr"), ["train"]),
        (("ptycho", "train", "--max-s"), ["--max-seconds"]),
        (("ptycho", "train", "--torch-acce"), ["--torch-accelerator"]),
        (("ptycho", "train", "--optimizer", "a"), ["adam", "adamw"]),
        (("ptycho", "inference", "--units", ""), ["amplitude", "counts", "none"]),
        (("ptycho_train", "--backend", ""), ["tensorflow", "pytorch"]),
        (("ptycho_inference", "--refine-l"), ["--refine-likelihood"]),
    ],
)
def test_what_bash_offers(
    words: tuple[str, ...], offered: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash", "--program", words[0]]) == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    command = ["bash", "--norc", "-c", ASK, "bash", str(script), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered

"""Reconstruct with PyTorch: `python -m ptycho_torch.inference --model-path MODEL --test-data SCAN.npz`.

The command line of `ptycho_inference`, with PyTorch as its backend and the flags of PyTorch without their prefix.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ptycho.cli.infer import inference_main
from ptycho.cli.programs import PYTORCH_INFERENCE

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """As `ptycho.cli.infer.inference_main`."""
    return inference_main(argv, PYTORCH_INFERENCE)


if __name__ == "__main__":
    from ptycho.cli.entry import begin

    sys.exit(begin("python -m ptycho_torch.inference", "ptycho_torch.inference", "main"))

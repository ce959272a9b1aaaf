"""Train a network with PyTorch: `python -m ptycho_torch.train --train-data-file SCAN.npz --output-dir FOLDER`.

The command line of `ptycho_train`, with PyTorch as its backend and the flags of PyTorch without their prefix.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ptycho.cli.programs import PYTORCH_TRAINING
from ptycho.cli.train import train_main

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """As `ptycho.cli.train.train_main`."""
    return train_main(argv, PYTORCH_TRAINING)


if __name__ == "__main__":
    from ptycho.cli.entry import begin

    sys.exit(begin("python -m ptycho_torch.train", "ptycho_torch.train", "main"))

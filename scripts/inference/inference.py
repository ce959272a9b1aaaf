"""Reconstruct a scan with a trained model; the same command line as `ptycho_inference`.

    python scripts/inference/inference.py --backend pytorch --model_path run --test_data scan.npz

`--help` lists every setting.
"""

import sys

from ptycho.cli.entry import ptycho_inference

if __name__ == "__main__":
    sys.exit(ptycho_inference())

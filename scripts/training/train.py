"""Train a network on a scan; the same command line as `ptycho_train`.

    python scripts/training/train.py --backend pytorch --train_data_file scan.npz --output_dir run

`--help` lists every setting.
"""

import sys

from ptycho.cli.entry import ptycho_train

if __name__ == "__main__":
    sys.exit(ptycho_train())

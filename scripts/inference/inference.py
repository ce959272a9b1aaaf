"""Reconstruct a scan with a trained model; the same command line as `ptycho_inference`.

    python scripts/inference/inference.py --backend pytorch --model_path run --test_data scan.npz

`--help` lists every setting.
"""

import sys

from ptycho.cli.infer import inference_main

if __name__ == "__main__":
    sys.exit(inference_main())

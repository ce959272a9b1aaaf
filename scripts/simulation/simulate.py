"""Simulate a scan with a known object and write it as a scan file; the same command line as `ptycho simulate`.

    python scripts/simulation/simulate.py --kind lines --size 256 --photons 1e9 --seed 0 --output scan.npz

The truth is stored as `objectGuess`, unless --no-truth is given. `--help` lists every setting.
"""

import sys

from ptycho.cli.command import main

if __name__ == "__main__":
    sys.exit(main(["simulate", *sys.argv[1:]]))

"""`python -m ptycho` is the command `ptycho`."""

import sys

from ptycho.cli.entry import ptycho

if __name__ == "__main__":
    sys.exit(ptycho())

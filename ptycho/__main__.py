"""`python -m ptycho` is the command `ptycho`."""

import sys

from ptycho.cli.command import main

if __name__ == "__main__":
    sys.exit(main())

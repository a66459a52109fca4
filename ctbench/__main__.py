"""`python -m ctbench` is the command line."""

import sys

from ctbench.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m ctbench` is the command line."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current directory: a json.py that lies there is not Python's
    from ctbench.cli import main

    sys.exit(main())

"""`python -m tabb` is the command `tabb`."""

import sys

from tabb.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m tabb` is the command `tabb`."""

from tabb.cli import console

if __name__ == "__main__":
    console()

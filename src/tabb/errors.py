"""Errors that tabb raises on purpose.

Each message is one line that says what is wrong, where, and how to mend it. The command line prints
that line alone and ends with `exit_code`; anything else that escapes is a defect of tabb.
"""

import sys
import warnings
from collections.abc import Iterable


def meant(name: str, known: Iterable[str]) -> str:
    """What to say of an unknown name: which of many names are close to it, or else all names."""
    import difflib

    names = list(known)
    close = difflib.get_close_matches(name, names, n=3) if len(names) > 5 else []
    return f"did you mean {' or '.join(close)}?" if close else f"use one of {', '.join(names)}"


class TabbError(Exception):
    """Base of all errors that tabb raises on purpose."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        # One line, whatever file names or library messages went into it.
        super().__init__(" ".join(message.split()))


class DataWarning(UserWarning):
    """Data that can be used but look wrong: one line that names what and the likely remedy."""


class HeldOutWarning(DataWarning):
    """Nothing is held out of the target data, so nothing but the training loss says how good a policy is."""


class MachineWarning(UserWarning):
    """The machine (a disk, an environment of the user's) does less than usual; the work goes on without it."""


class RunWarning(UserWarning):
    """A run that is left out of results, because it cannot be read: one line."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line outside tabb that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "tabb":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


class UsageError(TabbError):
    """A name, an option or a combination of options that cannot work."""

    exit_code = 2


class DataError(TabbError):
    """Data that cannot be used: the message names file, key and row."""

    exit_code = 3


class RunError(TabbError):
    """A run folder, checkpoint or policy file that cannot be read, written or continued."""

    exit_code = 4


class Stopped(RunError):
    """The user stopped a run (Ctrl-C, SIGTERM or SIGHUP); what was done is saved and the message says how to go on."""

    exit_code = 130

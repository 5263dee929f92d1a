"""The command `tabb`: dispatch, one-line errors, exit codes. Each command is a module of `tabb.commands`.

Exit codes: 0 well; 1 other errors; 2 usage; 3 data; 4 run folders, checkpoints, disk; 130 stopped by the user.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from tabb._version import __version__
from tabb.commands import COMMANDS
from tabb.errors import MachineWarning, TabbError, UsageError, meant
from tabb.jax_switches import fault_of


def usage() -> str:
    """The text of `tabb --help`."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return (
        "tabb: cross-domain offline reinforcement learning\n\n"
        "usage: tabb COMMAND [options]      tabb COMMAND --help lists a command's options\n\n"
        f"commands:\n{commands}\n\n"
        "examples:\n"
        "  tabb train                                        the demo: TABB beside its controls, in minutes\n"
        "  tabb audit --source sim.hdf5 --target robot.hdf5  your own data: what is wrong in them\n"
        "  tabb train --source sim.hdf5 --target robot.hdf5 --out runs/mine\n"
        "  tabb report runs/mine                             the runs on one page\n"
        "  tabb train tabb pooled target-only --task walker2d-kinematic --source medium --target medium --seeds 0 1 2\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    show_all_text()
    try:
        with warnings.catch_warnings():
            _one_line_warnings()
            return _dispatch(arguments)
    except TabbError as error:
        _complain(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _complain("stopped")
        return 130
    except (AssertionError, RuntimeError, ValueError) as error:
        if _was_stopped(error):
            _complain("stopped")
            return 130
        if (fault := fault_of(error)) is None:
            raise
        _complain(f"error: {fault}")
        return fault.exit_code
    except BrokenPipeError:  # `tabb tasks | head`
        sys.stdout = None  # nothing more can be written: also not at exit
        return 0


def _complain(text: str) -> None:
    """The last line on standard error, whose terminal may be gone."""
    with contextlib.suppress(OSError):
        print(f"tabb: {text}", file=sys.stderr, flush=True)


def console() -> NoReturn:
    """The command `tabb` of a shell: `main`, and the end of the process."""
    heed_lost_interrupts()
    code = main()
    if code == 130:  # one Ctrl-C more must not interrupt how Python and JAX end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def heed_lost_interrupts() -> None:
    """Deliver a Ctrl-C again that Python would only print and ignore.

    That happens inside a callback of the garbage collector, such as JAX's: nothing there can raise to the program.
    """
    otherwise = sys.unraisablehook

    def hook(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            otherwise(lost)
            return
        again = threading.Timer(0.05, _thread.interrupt_main)  # once the callback is over
        again.daemon = True
        with contextlib.suppress(RuntimeError):  # Python ends already
            again.start()

    sys.unraisablehook = hook


def _was_stopped(error: BaseException | None) -> bool:
    """Whether an error comes from a Ctrl-C inside a library's callback or its clean-up."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def show_all_text() -> None:
    """Let output that is not UTF-8 show what it cannot as `\\xb1`, rather than end in a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _one_line_warnings() -> None:
    """Show a warning of the machine as one line, without the place in tabb's code."""
    otherwise = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, MachineWarning):
            print(f"tabb: warning: {message}", file=sys.stderr)
        else:
            otherwise(message, category, *place, **more)

    warnings.simplefilter("always", MachineWarning)
    warnings.showwarning = show


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version", "version"):
        print(f"tabb {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}: {meant(name, COMMANDS)}")
    # Imported here: `tabb tasks` must not wait for JAX.
    command = importlib.import_module(f"tabb.commands.{name}")
    return command.run(arguments[1:])

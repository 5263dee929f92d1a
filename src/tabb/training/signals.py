"""Stopping on request: Ctrl-C, SIGTERM and SIGHUP are heard between two stretches of a run, where all can be saved.

The user is told at once that a signal was heard, even while the main thread is inside a compiled call. SIGHUP comes
when the terminal is closed (an ssh session that ends), several times perhaps; under `nohup` it is ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SAVING = "stopping as soon as all is saved; Ctrl-C once more stops at once"
HANG_UP = getattr(signal, "SIGHUP", None)  # not on Windows
STOPS = (signal.SIGINT, signal.SIGTERM, *([] if HANG_UP is None else [HANG_UP]))
"""signals that ask to stop"""


def answer(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Have `handler` hear the signals that ask to stop, but no SIGHUP that is ignored; returns the earlier handlers."""
    numbers = [number for number in STOPS if number != HANG_UP or signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


def give_back(handlers: Mapping[int, Any]) -> None:
    """Set handlers of signals as they were."""
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not Python's


@contextmanager
def answered_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """`handler` hears the signals that ask to stop while the block runs, as `answer` says."""
    before = answer(handler)
    try:
        yield
    finally:
        give_back(before)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Ctrl-C, SIGTERM and SIGHUP ask the run to stop after the present stretch; a second Ctrl-C stops it at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def ask(number: int, frame: Any) -> None:
        if stopped.is_set() and number != HANG_UP:
            raise KeyboardInterrupt
        stopped.set()

    with answered_by(ask), told_at_once(SAVING):
        yield stopped


@contextmanager
def told_at_once(text: str) -> Iterator[None]:
    """Say `text` on standard error at the first signal that asks to stop, whatever the main thread does.

    Python's handlers wait until the main thread is back from a compiled call; the byte that the system's handler writes
    into a pipe does not. Silent where another library (asyncio, a notebook) has that pipe already.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
        os.close(writing)
        os.close(reading)
        yield
        return

    def listen() -> None:
        told = False
        while number := os.read(reading, 1):
            if not told and number[0] in STOPS:
                told = True
                tell(text)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        listener.join()
        os.close(reading)


def tell(text: str) -> None:
    """A line on standard error, written past its buffer: the main thread may be in the middle of another line."""
    with contextlib.suppress(OSError):  # nobody reads it any more
        os.write(2, f"\ntabb: {text}\n".encode())

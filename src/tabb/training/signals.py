"""Stopping on request: Ctrl-C and SIGTERM are heard between two stretches of a run, where all can be saved.

The user is told at once that a signal was heard, even while the main thread is inside a compiled call.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SAVING = "stopping as soon as all is saved; Ctrl-C once more stops at once"


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM ask the run to stop after the present stretch; a second Ctrl-C stops it at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def ask(number: int, frame: Any) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with told_at_once(SAVING):
            yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def told_at_once(text: str) -> Iterator[None]:
    """Say `text` on standard error at the first SIGINT or SIGTERM, whatever the main thread does.

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
            if not told and number[0] in (signal.SIGINT, signal.SIGTERM):
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

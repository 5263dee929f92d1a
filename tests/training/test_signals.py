"""Stopping by Ctrl-C: a word at once, a second one ends, a third is no traceback. A closed terminal stops, once."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time

import pytest

from tabb import cli
from tabb.errors import RunError
from tabb.running.processes import Call, _end, run_calls
from tabb.training.signals import SAVING, STOPS, stop_on_signal


def press(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(5)


@pytest.mark.usefixtures("hang_up_is_heard")
@pytest.mark.parametrize("number", STOPS)
def test_the_first_is_answered_at_once_and_once(number: int, capfd) -> None:
    before = signal.getsignal(number)
    with stop_on_signal() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        os.kill(os.getpid(), signal.SIGHUP)  # a shell that ends tells of it twice: that is one wish
        for _ in ("the second", "a third"):
            with pytest.raises(KeyboardInterrupt):
                press(signal.SIGINT if number == signal.SIGHUP else number)
    assert capfd.readouterr().err.count(f"tabb: {SAVING}") == 1
    assert signal.getsignal(number) == before


def test_a_closed_terminal_is_ignored_where_it_was() -> None:
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.wait(0.1)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_library_keeps_its_pipe(capfd) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)
    try:
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.wait(5)
        assert signal.set_wakeup_fd(writing) == writing
        assert os.read(reading, 1)[0] == signal.SIGINT
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
    assert SAVING not in capfd.readouterr().err


def test_what_becomes_of_a_third_one_is_no_traceback(monkeypatch, capsys) -> None:
    def inside_a_library(arguments: object) -> int:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("an error of cleaning up")

    def told_as_text(arguments: object) -> int:
        raise RuntimeError("INTERNAL: CpuCallback error: KeyboardInterrupt")

    for ended in (inside_a_library, told_as_text):
        monkeypatch.setattr(cli, "_dispatch", ended)
        assert cli.main(["tasks"]) == 130
        assert capsys.readouterr().err == "tabb: stopped\n"

    def another(arguments: object) -> int:
        raise RuntimeError("an error of its own")

    monkeypatch.setattr(cli, "_dispatch", another)
    with pytest.raises(RuntimeError, match="of its own"):
        cli.main(["tasks"])


def test_one_inside_a_callback_of_the_garbage_collector_is_not_lost(monkeypatch) -> None:
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    cli.heed_lost_interrupts()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def pressed(phase: str, facts: object) -> None:
        gc.callbacks.remove(pressed)
        raise KeyboardInterrupt

    def collect_and_wait() -> None:
        gc.collect()
        for _ in range(500):
            time.sleep(0.01)

    def broken(phase: str, facts: object) -> None:
        gc.callbacks.remove(broken)
        raise ValueError("of its own")

    try:
        gc.callbacks.append(broken)
        gc.collect()
        assert [str(one.exc_value) for one in told] == ["of its own"]
        gc.callbacks.append(pressed)
        with pytest.raises(KeyboardInterrupt):
            collect_and_wait()
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(told) == 1


def test_the_end_of_a_stopped_command_is_left_in_peace(monkeypatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    try:
        for code, handler in ((0, before), (130, signal.SIG_IGN)):
            monkeypatch.setattr(cli, "main", lambda code=code: code)
            with pytest.raises(SystemExit) as ended:
                cli.console()
            assert ended.value.code == code
            assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_children_that_do_not_hear_are_killed_by_the_third() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    presses = iter([1, 2])
    _end([child], lambda: next(presses, 3))
    assert child.returncode == -signal.SIGKILL
    child.stdout.close()


def test_a_killed_call_names_its_signal() -> None:
    with pytest.raises(RunError, match=r"^planning was killed by SIGABRT; the others were stopped"):
        run_calls([Call("planning", "os:abort", {})], 1)

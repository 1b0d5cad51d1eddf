"""Facts about processes, and ending them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """A process, told from a later one with the same number by its start time."""

    pid: int
    started: str
    """Start time in the system's own unit; empty if it is not known."""


def this_process() -> Process:
    """Return the calling process."""
    return find_process(os.getpid()) or Process(os.getpid(), "")


def find_process(pid: int) -> Process | None:
    """Return the process ``pid``; None if it has ended. A zombie has ended."""
    try:
        known = psutil.Process(pid)
        with known.oneshot():
            ended = known.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
            return None if ended else Process(pid, _start_time(known))
    except psutil.Error:
        return None


def is_alive(process: Process) -> bool:
    """Whether this very process still runs."""
    now = find_process(process.pid)
    return now is not None and (not process.started or now.started == process.started)


def is_stopped(process: Process) -> bool:
    """Whether a process has been stopped (SIGSTOP, SIGTSTP) and has not gone on."""
    try:
        return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent dies, so that none escapes (Linux only)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int) -> None:
    """Have this process, just forked by ``parent``, killed when ``parent`` ends, however it ends (Linux only)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended before the kernel was asked
        os._exit(1)


def children(pid: int) -> set[Process]:
    """Return the processes that ``pid`` has started and that have not ended."""
    return _children(pid, recursive=False)


def descendants(pid: int) -> set[Process]:
    """Return the children of ``pid``, their children, and so on."""
    return _children(pid, recursive=True)


def environment_variable(pid: int, name: str) -> str | None:
    """Return an environment variable that ``pid`` was started with; None if it is not set or cannot be read."""
    try:
        value: str | None = psutil.Process(pid).environ().get(name)
    except (psutil.Error, OSError):
        return None
    return value


def kill(victims: Callable[[], Iterable[Process]], patience_s: float = 3.0) -> None:
    """Kill what ``victims()`` returns, asking again until it returns nothing or ``patience_s`` is over."""
    end = time.monotonic() + patience_s
    while living := [victim for victim in victims() if is_alive(victim)]:
        for victim in living:
            send_signal(victim, signal.SIGKILL)
        if time.monotonic() > end:
            return
        time.sleep(0.02)


def send_signal(process: Process, number: int) -> None:
    """Send a signal if ``process`` still runs and is ours."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def call_when_ended(process: Process, action: Callable[[], None]) -> None:
    """Call ``action`` from a thread as soon as ``process`` has ended, even by a signal that cannot be caught."""

    def watch() -> None:
        descriptor = None
        with contextlib.suppress(OSError, AttributeError):
            descriptor = os.pidfd_open(process.pid)
        while is_alive(process):
            if descriptor is None:
                time.sleep(0.5)
            else:
                select.select([descriptor], [], [], 60.0)
        action()

    threading.Thread(target=watch, name=f"watch-{process.pid}", daemon=True).start()


def _children(pid: int, *, recursive: bool) -> set[Process]:
    try:
        found = psutil.Process(pid).children(recursive=recursive)
    except psutil.Error:
        return set()
    return {process for child in found if (process := find_process(child.pid)) is not None}


def _start_time(process: psutil.Process) -> str:
    """Return the start time in a unit that does not change when the clock is set.

    Run folders record it, and other processes compare it days later. psutil's own is in seconds of the wall clock.
    """
    if sys.platform != "linux":
        return str(process.create_time())
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
    except OSError:
        raise psutil.NoSuchProcess(process.pid) from None
    return stat[stat.rindex(")") + 2 :].split()[19]  # field 22; the name before it may hold anything

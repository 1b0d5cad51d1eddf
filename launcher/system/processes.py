"""Facts about processes, and ending them. Linux tells all; elsewhere ``ps`` is asked."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """A process that can be told from a later one with the same number."""

    pid: int
    started: str
    """Start time in the system's own unit; empty where it is not known."""


def this_process() -> Process:
    """Return the calling process."""
    return process(os.getpid()) or Process(os.getpid(), "")


def process(pid: int) -> Process | None:
    """Return the process ``pid``; None if it has ended (a zombie has)."""
    facts = _facts(pid)
    return None if facts is None else Process(pid, facts[2])


def is_alive(known: Process) -> bool:
    """Whether this very process still runs."""
    now = process(known.pid)
    return now is not None and (not known.started or now.started == known.started)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent dies, so that none escapes (Linux)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> set[Process]:
    """Return children of ``pid``, their children, and so on."""
    children: dict[int, list[Process]] = {}
    for child, parent, started in _table():
        children.setdefault(parent, []).append(Process(child, started))
    found: set[Process] = set()
    waiting = [pid]
    while waiting:
        for child_process in children.get(waiting.pop(), []):
            if child_process not in found:
                found.add(child_process)
                waiting.append(child_process.pid)
    return found


def children(pid: int) -> set[Process]:
    """Return what ``pid`` itself started."""
    return {Process(child, started) for child, parent, started in _table() if parent == pid}


def environment(pid: int, name: str) -> str | None:
    """Return an environment variable that ``pid`` was started with (Linux; else None)."""
    try:
        entries = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    prefix = name.encode() + b"="
    return next((entry[len(prefix) :].decode() for entry in entries if entry.startswith(prefix)), None)


def kill(victims: Callable[[], Iterable[Process]], patience: float = 3.0) -> None:
    """Kill what ``victims()`` names, asking again until it names nothing or ``patience`` seconds are over."""
    end = time.monotonic() + patience
    while living := [victim for victim in victims() if is_alive(victim)]:
        for victim in living:
            send(victim, signal.SIGKILL)
        if time.monotonic() > end:
            return
        time.sleep(0.02)


def send(target: Process, number: int) -> None:
    """Send a signal if ``target`` is still there."""
    if is_alive(target):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(target.pid, number)


def when_ended(watched: Process, action: Callable[[], None]) -> None:
    """Call ``action`` from a thread as soon as ``watched`` has ended, even by a signal nobody can catch."""

    def watch() -> None:
        descriptor = None
        with contextlib.suppress(OSError, AttributeError):
            descriptor = os.pidfd_open(watched.pid)
        while is_alive(watched):
            if descriptor is None:
                time.sleep(0.5)
            else:
                select.select([descriptor], [], [], 60.0)
        action()

    threading.Thread(target=watch, name=f"watch-{watched.pid}", daemon=True).start()


def _facts(pid: int) -> tuple[int, int, str] | None:
    """Return (pid, parent, start time) of a process that has not ended."""
    if not _PROC.joinpath("self/stat").exists():
        return next((entry for entry in _table() if entry[0] == pid), None)
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else (pid, int(fields[1]), fields[19])


def _table() -> list[tuple[int, int, str]]:
    if _PROC.joinpath("self/stat").exists():
        numbers = [int(entry) for entry in os.listdir(_PROC) if entry.isdigit()]
        return [facts for facts in map(_facts, numbers) if facts is not None]
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=False).stdout
    entries = [line.split() for line in lines.splitlines()]
    return [(int(entry[0]), int(entry[1]), "") for entry in entries if not entry[2].startswith("Z")]

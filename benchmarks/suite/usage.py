"""What processes hold (memory, descriptors, threads) and what folders hold. Linux only: it is read from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_RANK = "SUBMITIT_LOCAL_GLOBALID"


@dataclass(frozen=True)
class Usage:
    """What one process holds at a moment."""

    rss: int
    """Bytes of memory, those shared with others in full."""
    pss: int
    """Bytes of memory, those shared with others in part."""
    anonymous: int
    """Bytes of memory that no file stands behind: what a process has allocated."""
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Found:
    """A process that carries a mark in its environment."""

    pid: int
    role: str
    """What the mark's owner calls the command that started it."""
    part: str
    """``launcher``, ``controller`` (submitit's), ``worker 0``, ``worker 0's python``, ..., or the program's name."""


def find_marked(mark: str, names: tuple[str, str]) -> list[Found]:
    """Return the living processes whose environment has a mark.

    Args:
        mark: the value that the variable must have.
        names: the variables that hold the mark and the role.
    """
    environments: dict[int, dict[str, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            environment = _environment(int(entry.name))
            if environment.get(names[0]) == mark and _lives(int(entry.name)):
                environments[int(entry.name)] = environment
    found = []
    for pid, environment in environments.items():
        above = environments.get(_parent(pid), {})
        found.append(Found(pid, environment.get(names[1], ""), _part(pid, environment, above)))
    return found


def _part(pid: int, environment: dict[str, str], above: dict[str, str]) -> str:
    if _RANK in environment:
        worker = f"worker {environment[_RANK]}"
        return worker if _RANK not in above else f"{worker}'s {_program(pid)}"
    return "launcher" if not above else "controller" if _controls(pid) else _program(pid)


def measure(pid: int) -> Usage | None:
    """Return what a process holds; None if it has ended."""
    place = Path(f"/proc/{pid}")
    try:
        rss = int((place / "statm").read_text().split()[1]) * _PAGE
        rollup = dict(line.split(":", 1) for line in (place / "smaps_rollup").read_text().splitlines()[1:])
        return Usage(
            rss=rss,
            pss=int(rollup["Pss"].split()[0]) * 1024,
            anonymous=int(rollup["Anonymous"].split()[0]) * 1024,
            descriptors=len(os.listdir(place / "fd")),
            threads=len(os.listdir(place / "task")),
        )
    except (OSError, KeyError, ValueError, IndexError):
        return None


def count_files(folder: Path) -> tuple[int, int]:
    """Return the number of entries below a folder, and the bytes they take on disk."""
    entries = taken = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entries += 1
            try:
                taken += os.lstat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return entries, taken


def _environment(pid: int) -> dict[str, str]:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (word.decode(errors="replace").partition("=") for word in words)
    return {name: value for name, _, value in pairs}


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", "0"]


def _lives(pid: int) -> bool:
    return _stat(pid)[0] not in "ZX"


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _controls(pid: int) -> bool:
    try:
        return b"submitit.local._local" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"

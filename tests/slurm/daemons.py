"""Background programs that any Python process finds by name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from launcher.system import processes
from launcher.system.processes import Process


class Daemons:
    """Programs started by this process or an earlier one. A file in ``folder`` records the process id of each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a program unless it runs. What it says goes to ``<name>.out``."""
        if self.alive(name):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / f"{name}.out", "ab") as out:
            child = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        self._children.append(child)  # whoever starts a process has to wait for it
        started = processes.find_process(child.pid)
        self._file(name).write_text(f"{child.pid} {started.started if started else ''}")

    def alive(self, name: str) -> Process | None:
        """Return the process of a program, None if it has ended."""
        with contextlib.suppress(OSError, ValueError):
            pid, _, started = self._file(name).read_text().partition(" ")
            known = Process(int(pid), started)
            return known if started and processes.is_alive(known) else None
        return None

    def living(self) -> list[str]:
        """Return the names of programs that run."""
        return [file.stem for file in sorted(self._folder.glob("*.pid")) if self.alive(file.stem)]

    def stop(self, names: Iterable[str], number: int = signal.SIGTERM, patience_s: float = 10.0) -> None:
        """Stop programs side by side; kill those that have not ended after ``patience_s``."""
        targets = [process for process in map(self.alive, names) if process is not None]
        for process in targets:
            processes.send_signal(process, number)
        end = time.monotonic() + patience_s
        while any(map(processes.is_alive, targets)) and time.monotonic() < end:
            time.sleep(0.02)
        processes.kill(lambda: targets)
        for child in self._children:
            child.poll()

    def said(self, name: str, characters: int = 1500) -> str:
        """Return the end of a program's output."""
        with contextlib.suppress(OSError):
            return (self._folder / f"{name}.out").read_text(errors="replace")[-characters:].strip()
        return ""

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.pid"


def by_environment(**values: str) -> list[tuple[Process, dict[str, str]]]:
    """Return processes that were started with these values in their environment, each with all of it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            pairs = (item.partition("=") for item in (entry / "environ").read_text(errors="replace").split("\0"))
            environment = {name: value for name, _, value in pairs}
            process = processes.find_process(int(entry.name))
            if process is not None and values.items() <= environment.items():
                found.append((process, environment))
    return found

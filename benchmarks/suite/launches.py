"""``sgp-train`` and ``sgp`` as processes of a benchmark: marked, so that none is left, and told apart by role."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from suite import usage

MARK, ROLE = "SGP_BENCHMARK", "SGP_BENCHMARK_ROLE"
_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.05


class Unexpected(RuntimeError):
    """A command did not do what the benchmark expects of it."""


@dataclass
class Launches:
    """All commands that a benchmark starts."""

    folder: Path
    """Holds temporary files and output; it should be on a local disk, with a short path: sockets are made in it."""
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        for name in ("said", "wandb"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def temporary(self, role: str) -> Path:
        """Where the commands of a role make their temporary files."""
        return self.folder / f"tmp-{role.replace(' ', '-')}"

    def start(self, role: str, words: list[str], *, program: str = "train", nice: int = 0) -> Launch:
        """Start ``sgp-train WORDS``, or ``sgp WORDS`` with ``program="sgp"``. It ends with this process."""
        said = self.folder / "said" / f"{role.replace(' ', '-')}-{uuid.uuid4().hex[:6]}"
        command = [sys.executable, "-m", f"launcher.cli.{program}", *words]
        with open(said, "w") as file:
            return Launch(self.start_program(role, command, {}, output=file, nice=nice), words, said)

    def start_program(
        self,
        role: str,
        command: list[str],
        environment: dict[str, str],
        *,
        output: IO[str] | None = None,
        nice: int = 0,
    ) -> subprocess.Popen[bytes]:
        """Start any program, marked as ours. It ends with this process."""
        wandb = {f"WANDB_{name}_DIR": str(self.folder / "wandb") for name in ("CACHE", "CONFIG", "DATA")}
        self.temporary(role).mkdir(exist_ok=True)
        names = {MARK: self.mark, ROLE: role, "TMPDIR": str(self.temporary(role)), "WANDB_MODE": "offline", **wandb}
        return subprocess.Popen(
            command,
            env={**os.environ, **names, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _as_child(nice),
        )

    def processes(self, role: str | None = None) -> list[usage.Found]:
        """Return the living processes of all commands, or of those of a role."""
        found = usage.find_marked(self.mark, (MARK, ROLE))
        return [process for process in found if role in (None, process.role)]

    def wait_for_none(self, role: str, patience_s: float) -> list[usage.Found]:
        """Wait until no process of a role lives; return those that live all the same."""
        end = time.monotonic() + patience_s
        while (left := self.processes(role)) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        return left

    def kill(self, role: str | None = None) -> None:
        """Kill what lives, of all commands or of those of a role."""
        while left := self.processes(role):
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(_LOOK_S)


@dataclass
class Launch:
    """One started command."""

    process: subprocess.Popen[bytes]
    words: list[str]
    said: Path

    def finish(self, codes: tuple[int, ...] = (0,), patience_s: float = 600.0) -> int:
        """Wait for the end and return the exit code.

        Raises:
            Unexpected: it is none of ``codes``, or the command does not end.
        """
        try:
            code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise Unexpected(f"{self} has not ended after {patience_s:.0f} s") from None
        if code not in codes:
            raise Unexpected(f"{self} ended with {code}: {self.said.read_text(errors='replace')[-2000:]}")
        return code

    def __str__(self) -> str:
        return " ".join(self.words)


def run_folders(runs: Path) -> list[Path]:
    """Return the run folders below ``runs_dir``."""
    return sorted(spec.parent for spec in runs.glob("*/spec.json"))


def workers(folder: Path, count: int) -> dict[int, dict[str, Any]]:
    """Return the reports of the workers of a run by rank; a rank that has not reported yet is missing."""
    return {rank: report for rank in range(count) if (report := read(folder / f"rank-{rank}.json"))}


def wait_for_training(launch: Launch, runs: Path, count: int, patience_s: float = 300.0) -> Path:
    """Wait until the one run in ``runs`` has written metrics and all its workers train; return its folder.

    Raises:
        Unexpected: it does not come to that.
    """
    for _ in looks(patience_s):
        for folder in run_folders(runs):
            attempt = read(folder / "spec.json").get("attempt", {}).get("launcher", {}).get("pid")
            reports = workers(folder, count)
            training = [rank for rank, report in reports.items() if report["status"] == "training"]
            if attempt == launch.process.pid and len(training) == count and (folder / "metrics.jsonl").exists():
                return folder
        if launch.process.poll() is not None:
            break
    raise Unexpected(f"{launch} did not train: {launch.said.read_text(errors='replace')[-2000:]}")


def looks(patience_s: float, every_s: float = _LOOK_S) -> Iterator[None]:
    """Yield now and then until ``patience_s`` is over."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        yield
        time.sleep(every_s)


def read(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds; nothing if it is not there."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def _as_child(nice: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if nice:
        os.nice(nice)

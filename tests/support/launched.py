"""``sgp-train`` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import PATIENCE_S, wait_until


@dataclass
class Said:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@dataclass
class Launched:
    """``sgp-train`` in a process group of its own. A mark in the environment identifies all processes it starts."""

    directory: Path
    arguments: tuple[str, ...]
    mark: str = field(default_factory=lambda: f"mark-{uuid.uuid4().hex}")

    def start(self) -> Launched:
        """Start the process."""
        environment = {**os.environ, "SGP_TEST_MARK": self.mark, "WANDB_MODE": "offline"}
        with open(self.directory / "out", "w") as out, open(self.directory / "err", "w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "launcher.cli.train", *self.arguments],
                cwd=self.directory,
                env=environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return self

    def finish(self) -> Said:
        """Wait for the end."""
        code = self.process.wait(PATIENCE_S)
        return Said(code, (self.directory / "out").read_text(), (self.directory / "err").read_text())

    def until_training(self, workers: int) -> Path:
        """Return the run folder once every worker trains and a row of metrics is there."""

        def training() -> Path | None:
            for run in self.directory.glob("runs/*"):
                ranks = [read(run / f"rank-{rank}.json").get("status") for rank in range(workers)]
                if ranks == ["training"] * workers and (run / "metrics.jsonl").exists():
                    return run
            return None

        def what() -> str:
            return f"training (stderr: {(self.directory / 'err').read_text()})"

        run = wait_until(training, what, works=lambda: self.process.poll() is None)
        assert run is not None
        return run

    def left(self) -> list[int]:
        """Return processes that were started, directly or not, by this one and still live."""
        mark, found = self.mark.encode(), []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    found += [int(entry.name)] if state not in "ZX" else []
            except OSError:
                continue
        return found

    def end(self) -> None:
        """Kill the processes that a failed test has left."""
        for pid in self.left():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """Start ``sgp-train`` in an empty directory (the same one within a test)."""
    started: list[Launched] = []

    def start(*arguments: str) -> Launched:
        directory = tmp_path / "launched"
        directory.mkdir(exist_ok=True)
        started.append(Launched(directory, arguments).start())
        return started[-1]

    yield start
    for launched in started:
        launched.end()


def read(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds; nothing if it is not there (yet)."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content

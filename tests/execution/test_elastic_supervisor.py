"""An elastic attempt goes on without workers that died, and ends when none is left or one cannot be replaced."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.config.compose import Point
from launcher.config.make_plan import make_plan
from launcher.console.progress import LineDisplay
from launcher.execution.backends.base import Attempt, Outcome
from launcher.execution.elastic_supervisor import ElasticSupervisor
from launcher.execution.signals import StopSignals
from launcher.runs.membership import MembershipFiles
from launcher.runs.run_folder import RunFolder
from launcher.system import processes
from launcher.system.processes import Process
from sgp_core.atomic_files import write_json
from tests.support.command_line import composed

ALIVE = processes.this_process()
DEAD = Process(ALIVE.pid, "0")


@pytest.fixture(scope="module")
def point() -> Point:
    return composed("cluster.workers_per_node=3")


class Keepers:
    """Three keepers, of which some have ended."""

    def __init__(self, *keepers: Process) -> None:
        self._keepers = dict(enumerate(keepers))

    def workers(self) -> dict[int, Process]:
        return self._keepers

    def is_over(self) -> bool:
        return not any(processes.is_alive(keeper) for keeper in self._keepers.values())


class Scene:
    """The folder of an elastic run in which workers have said how they are."""

    def __init__(self, point: Point, path: Path) -> None:
        self.attempt = Attempt(make_plan(point), RunFolder(path), 1)
        folder = self.attempt.folder.attempt(1)
        folder.mkdir(parents=True)
        self.files = MembershipFiles(folder)

    def says(self, rank: int, status: str, process: Process = ALIVE) -> None:
        report = {"rank": rank, "status": status, "attempt": 1, "time": 1.0, "pid": process.pid}
        write_json(self.attempt.folder.rank(rank), {**report, "started": process.started, "member": True})

    def dies(self, rank: int, at: float, how: str = "was killed (SIGKILL)", **error: Any) -> None:
        self._append(self.files.deaths(rank), time=at, rank=rank, how=how, error=error or None)

    def event(self, event: str, rank: int, at: float, step: int = 120) -> None:
        self._append(self.files.members, time=at, step=step, event=event, rank=rank, pid=1, reason="reset")

    def watch(self, *keepers: Process) -> Iterator[None]:
        self.supervisor = ElasticSupervisor(self.attempt, LineDisplay(), StopSignals())
        return self.supervisor.watch(Keepers(*keepers))

    def outcome(self, *keepers: Process) -> Outcome:
        for _ in self.watch(*keepers):
            time.sleep(0.05)
        return self.supervisor.outcome()

    def _append(self, path: Path, **line: Any) -> None:
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture
def scene(point: Point, tmp_path: Path) -> Scene:
    return Scene(point, tmp_path)


def test_a_death_ends_nothing_and_is_told_when_it_is_mended(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in range(3):
        scene.says(rank, "training")
    look = scene.watch(ALIVE, ALIVE, ALIVE)
    next(look)
    scene.says(1, "training", DEAD)
    scene.dies(1, at=10.0)
    scene.event("left", 1, at=10.25)
    next(look)
    scene.says(1, "starting")
    next(look)
    assert not capsys.readouterr().out
    scene.event("joined", 1, at=14.1, step=170)
    next(look)
    assert capsys.readouterr().out == "rank 1 was killed (SIGKILL) at step 120; replaced in 4.1 s\n"


def test_a_rank_that_is_vacant_at_the_end_does_no_harm(scene: Scene) -> None:
    scene.says(0, "completed")
    scene.says(1, "training", DEAD)
    scene.says(2, "completed")
    assert scene.outcome(DEAD, DEAD, DEAD) == Outcome("completed")


def test_those_that_are_left_may_save(scene: Scene) -> None:
    scene.says(0, "preempted")
    scene.says(1, "training", DEAD)
    scene.says(2, "preempted")
    assert scene.outcome(DEAD, DEAD, DEAD) == Outcome("preempted")


def test_a_worker_that_cannot_be_replaced_ends_the_run_and_is_named(scene: Scene) -> None:
    scene.says(0, "training")
    scene.says(1, "training")
    scene.says(2, "failed")
    write_json(scene.files.given_up, {"rank": 2, "type": "ValueError", "message": "bad", "traceback": "..."})
    outcome = scene.outcome(ALIVE, ALIVE, DEAD)
    assert (outcome.status, (outcome.error or {})["rank"], (outcome.error or {})["message"]) == ("failed", 2, "bad")


def test_when_no_member_is_left_the_first_death_is_named(scene: Scene) -> None:
    for rank, at in enumerate((7.0, 5.0, 6.0)):
        scene.says(rank, "starting")
        scene.dies(rank, at, type="ValueError", message=f"bad {rank}", traceback="...", peer_lost=None)
    outcome = scene.outcome(ALIVE, ALIVE, ALIVE)
    assert (outcome.status, (outcome.error or {})["message"]) == ("failed", "bad 1")

"""Who is to blame: the worker that failed by itself, not those that failed because it had gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.config.compose import Point
from launcher.config.make_plan import make_plan
from launcher.console.progress import LineDisplay
from launcher.execution.backends.base import Attempt, Outcome
from launcher.execution.signals import StopSignals
from launcher.execution.supervisor import Supervisor
from launcher.runs.run_folder import RunFolder
from launcher.system import processes
from launcher.system.processes import Process
from sgp_core.atomic_files import write_json
from tests.support.command_line import composed
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def point() -> Point:
    return composed("cluster.workers_per_node=3")


@pytest.fixture(scope="module")
def dead() -> Process:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    process = Process(ended.pid, "0")
    ended.wait()
    return process


class Workers:
    """Three workers, of which some are dead."""

    def __init__(self, *workers: Process) -> None:
        self._workers = dict(enumerate(workers))

    def workers(self) -> dict[int, Process]:
        return self._workers

    def is_over(self) -> bool:
        return not any(processes.is_alive(worker) for worker in self._workers.values())


class Scene:
    """A run folder in which workers have said how they are."""

    def __init__(self, point: Point, path: Path) -> None:
        self.folder = RunFolder(path)
        self.attempt = Attempt(make_plan(point), self.folder, 1)
        self.folder.attempt(1).mkdir(parents=True)

    def says(self, rank: int, status: str, error: str | None = None, after: float = 0.0, attempt: int = 1) -> None:
        report: dict[str, Any] = {"rank": rank, "status": status, "attempt": attempt, "time": 100.0 + after}
        if error is not None:
            report["error"] = {"type": "RuntimeError", "message": error, "traceback": f"Traceback of {rank}"}
        write_json(self.folder.rank(rank), report)
        (self.folder.attempt(1) / f"7_{rank}_log.out").write_text(f"line of {rank}\n")

    def outcome(self, *workers: Process) -> Outcome:
        supervisor = Supervisor(self.attempt, LineDisplay(), StopSignals())
        for _ in supervisor.watch(Workers(*workers)):
            time.sleep(0.05)
        return supervisor.outcome()


@pytest.fixture
def scene(point: Point, tmp_path: Path) -> Scene:
    return Scene(point, tmp_path)


ALIVE = processes.this_process()
LOST = "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2342"


def test_all_well(scene: Scene, dead: Process) -> None:
    for rank in range(3):
        scene.says(rank, "completed")
    assert scene.outcome(dead, dead, dead) == Outcome("completed")


def test_the_culprit_is_named_though_victims_spoke_first(scene: Scene, dead: Process) -> None:
    scene.says(0, "failed", LOST, after=1)
    scene.says(1, "failed", "Timed out waiting 600000ms for recv", after=2)
    scene.says(2, "failed", "division by zero", after=3)
    outcome = scene.outcome(dead, dead, dead)
    assert outcome.status == "failed"
    assert outcome.error == {
        "rank": 2,
        "type": "RuntimeError",
        "message": "division by zero",
        "traceback": "Traceback of 2",
        "log": str(scene.folder.attempt(1) / "7_2_log.out"),
    }


def test_of_two_culprits_the_first_is_named(scene: Scene, dead: Process) -> None:
    scene.says(0, "failed", "late", after=2)
    scene.says(1, "failed", "early", after=1)
    scene.says(2, "failed", LOST, after=0)
    error = scene.outcome(dead, dead, dead).error
    assert error is not None
    assert (error["rank"], error["message"]) == (1, "early")


def test_a_worker_that_vanished_is_named_before_those_that_lost_it(scene: Scene, dead: Process) -> None:
    scene.says(0, "failed", LOST, after=1)
    scene.says(1, "training")
    scene.says(2, "failed", LOST, after=2)
    error = scene.outcome(dead, dead, dead).error
    assert error is not None
    assert error["rank"] == 1
    assert "killed" in error["message"]
    assert "line of 1" in error["traceback"]


def test_one_failure_is_enough(scene: Scene, dead: Process) -> None:
    scene.says(0, "training")
    scene.says(1, "training")
    scene.says(2, "failed", "division by zero")
    error = scene.outcome(ALIVE, ALIVE, dead).error
    assert error is not None
    assert error["rank"] == 2


def test_one_worker_that_did_not_complete_is_a_failure(scene: Scene, dead: Process) -> None:
    scene.says(0, "completed")
    scene.says(1, "completed")
    scene.says(2, "training")
    outcome = scene.outcome(dead, dead, dead)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error["rank"] == 2


def test_words_of_an_earlier_attempt_do_not_count(scene: Scene, dead: Process) -> None:
    scene.says(0, "completed")
    scene.says(1, "completed")
    scene.says(2, "completed", attempt=0)
    assert scene.outcome(dead, dead, dead).status == "failed"


def test_workers_that_saved_and_stopped_are_preempted(scene: Scene, dead: Process) -> None:
    for rank in range(3):
        scene.says(rank, "preempted")
    assert scene.outcome(dead, dead, dead) == Outcome("preempted")


def test_a_process_is_not_taken_for_a_later_one_with_its_number() -> None:
    assert processes.is_alive(ALIVE)
    assert not processes.is_alive(Process(os.getpid(), "0"))


def test_killing_reaches_processes_that_left_their_parent_and_group() -> None:
    processes.adopt_orphans()
    before = processes.descendants(os.getpid())
    leave = "start_new_session=True, stdout=-3, stderr=-3"
    code = f"import subprocess; print(subprocess.Popen(['sleep', '60'], {leave}).pid)"
    orphan = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    escaped = processes.find_process(int(orphan.stdout))
    assert escaped is not None
    assert escaped in processes.descendants(os.getpid())
    processes.kill(lambda: processes.descendants(os.getpid()) - before)
    assert not processes.is_alive(escaped)


def test_the_end_of_a_process_is_noticed() -> None:
    noticed: list[float] = []
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watched = processes.find_process(child.pid)
    assert watched is not None
    processes.call_when_ended(watched, lambda: noticed.append(time.monotonic()))
    assert not noticed
    child.kill()
    child.wait()
    wait_until(lambda: noticed, "the notice")
    assert len(noticed) == 1

"""A keeper puts another worker in the place of one that has died, and knows when not to."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.line_tail import LineTail
from launcher.runs.membership import MembershipFiles, find_last_culprit
from launcher.runs.run_folder import RunFolder
from launcher.worker.keeper import Keeper
from sgp_core.atomic_files import read_json, write_json

RANK, WORLD = 1, 3
ERROR = {"type": "ValueError", "message": "it does not fit\nmore", "traceback": "...", "peer_lost": None}


class Scene:
    """A run of three workers, of which one has a keeper here. What the worker does is a function of its number."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.folder.attempt(1).mkdir(parents=True)
        self.files = MembershipFiles(self.folder.attempt(1))

    def keep(self, work: Callable[[int], None]) -> dict[str, Any]:
        return Keeper(self.folder, 1, RANK, WORLD, work).run()

    def says(self, status: str, rank: int = RANK, **more: Any) -> None:
        report = {"rank": rank, "status": status, "attempt": 1, "pid": os.getpid(), "time": time.time()}
        write_json(self.folder.rank(rank), {**report, **more})

    def note(self, event: str, pid: int, **more: Any) -> None:
        with open(self.files.members, "a") as file:
            file.write(json.dumps({"event": event, "rank": RANK, "pid": pid, "time": time.time(), **more}) + "\n")

    def deaths(self) -> list[str]:
        return [death["how"] for death in LineTail(self.files.deaths(RANK)).objects()]

    def numbers(self) -> list[int]:
        return sorted(int(path.name) for path in self.folder.path.glob("[0-9]"))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_every_kind_of_death_is_followed_by_another_process(scene: Scene) -> None:
    def work(number: int) -> None:
        scene.says("training", member=True)
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 2:
            scene.says("failed", member=True, error=ERROR)
            raise ValueError
        if number == 3:
            scene.says("expelled", member=True)
            return
        if number == 4:  # the others notice that it does not answer
            scene.note("left", os.getpid(), reason="silent for 4 s")
            os.kill(os.getpid(), signal.SIGSTOP)
        scene.says("completed")

    assert scene.keep(work)["status"] == "completed"
    assert scene.deaths() == [
        "was killed (SIGKILL)",
        "failed (ValueError: it does not fit)",
        "was left out, and ended",
        "was left out (silent for 4 s), and killed",
    ]
    assert not scene.files.given_up.exists()


def test_a_replacement_that_is_stopped_before_others_know_it_is_replaced(scene: Scene) -> None:
    def work(number: int) -> None:
        scene.says("training" if number == 1 else "starting", member=number == 1)
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        scene.says("completed")

    assert scene.keep(work)["status"] == "completed"
    assert scene.deaths() == ["was killed (SIGKILL)"] * 2


def test_who_dies_twice_before_taking_part_is_given_up(scene: Scene) -> None:
    def work(number: int) -> None:
        scene.says("starting")
        (scene.folder.path / str(number)).touch()
        scene.says("failed", error=ERROR, member=False)
        raise ValueError

    scene.keep(work)
    assert scene.numbers() == [1, 2]
    assert read_json(scene.files.given_up) == {"rank": RANK, **ERROR}
    assert find_last_culprit(scene.files.attempt, {}, WORLD)["message"] == ERROR["message"]


def test_a_mistake_of_the_user_is_made_once(scene: Scene) -> None:
    def work(number: int) -> None:
        (scene.folder.path / str(number)).touch()
        scene.says("failed", error={**ERROR, "user_mistake": True}, member=True)

    scene.keep(work)
    assert scene.numbers() == [1]
    assert (read_json(scene.folder.rank(RANK)) or {})["status"] == "failed"


@pytest.mark.parametrize("status", ["completed", "preempted"])
def test_when_the_others_are_done_no_worker_is_replaced(scene: Scene, status: str) -> None:
    def work(number: int) -> None:
        (scene.folder.path / str(number)).touch()
        scene.says("training", member=True)
        scene.says(status, rank=0)
        os.kill(os.getpid(), signal.SIGKILL)

    scene.keep(work)
    assert scene.numbers() == [1]


def test_a_replacement_that_comes_too_late_is_ended(scene: Scene) -> None:
    def work(number: int) -> None:
        (scene.folder.path / str(number)).touch()
        if number == 1:
            scene.says("training", member=True)
            os.kill(os.getpid(), signal.SIGKILL)
        scene.says("starting")
        scene.says("completed", rank=2)
        time.sleep(600)  # it waits for members that have left

    scene.keep(work)
    assert scene.numbers() == [1, 2]


def test_the_culprit_is_the_first_of_the_last_deaths(scene: Scene) -> None:
    for rank, deaths in {0: [(9.0, "late")], 1: [(1.0, "healed"), (5.0, "first")], 2: [(7.0, "second")]}.items():
        with open(scene.files.deaths(rank), "w") as file:
            for at, message in deaths:
                error = {**ERROR, "message": message}
                file.write(json.dumps({"time": at, "rank": rank, "how": "failed", "error": error}) + "\n")
    reports = {rank: {"rank": rank, "status": "starting", "time": 10.0} for rank in range(WORLD)}
    assert find_last_culprit(scene.files.attempt, reports, WORLD)["message"] == "first"

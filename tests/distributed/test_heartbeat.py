"""Who has not answered for how long: seen by another process, through both kinds of stores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from sgp_core.distributed.heartbeat import ENDED, Heartbeat, Progress
from sgp_core.errors import ConfigurationError
from tests.support.waiting import wait_until
from tests.workers.heartbeats import connect

INTERVAL_S = 0.05
KINDS = ("file", "tcp")


class Member:
    """Member 1, in a process of its own, as member 0 sees it."""

    def __init__(self, folder: Path) -> None:
        self.server = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
        self.path = folder / "store"
        arguments = [str(self.path), str(self.server.port), str(INTERVAL_S)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.workers.heartbeats", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "beats\n"
        stores = connect(str(self.path), self.server.port)
        self.seen_by = {kind: Heartbeat(store, 0, INTERVAL_S) for kind, store in stores.items()}
        for heart in self.seen_by.values():
            heart.start()

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(command, file=self.process.stdin, flush=True)
        self.process.stdout.readline()

    def age_s(self, kind: str) -> float:
        return self.seen_by[kind].last_seen([1])[1]

    def progress(self, kind: str) -> Progress | None:
        return self.seen_by[kind].progress([1])[1]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    member = Member(tmp_path_factory.mktemp("beats"))
    yield member
    for heart in member.seen_by.values():
        heart.stop()
    member.process.kill()
    member.process.communicate()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_member_does_is_seen(member: Member, kind: str) -> None:
    member.tell("report 7 backward")
    progress = wait_until(lambda: (p := member.progress(kind)) and p.step == 7 and p, "step 7")
    assert progress.phase == "backward"
    assert member.age_s(kind) < 60


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_member_is_seen_and_so_is_its_return(member: Member, kind: str) -> None:
    os.kill(member.process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: member.age_s(kind) > 10 * INTERVAL_S, "a stale beat")
        assert member.seen_by[kind].last_seen([0, 1])[0] < member.age_s(kind)
    finally:
        os.kill(member.process.pid, signal.SIGCONT)
    wait_until(lambda: member.age_s(kind) < 10 * INTERVAL_S, "a fresh beat")


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_never_was_there_grows_old(member: Member, kind: str) -> None:
    wait_until(lambda: member.seen_by[kind].last_seen(["nowhere"])["nowhere"] > 3 * INTERVAL_S, "an age")
    assert member.seen_by[kind].progress(["nowhere"]) == {"nowhere": None}


def test_the_file_of_a_store_does_not_grow_with_the_beats(member: Member) -> None:
    size = member.path.stat().st_size
    until = time.time_ns() + int(10 * INTERVAL_S * 1e9)
    wait_until(lambda: member.age_s("file") < 10 * INTERVAL_S and time.time_ns() > until, "ten beats")
    assert member.path.stat().st_size == size


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_ends_says_so(member: Member, kind: str) -> None:
    member.tell("stop")
    wait_until(lambda: (p := member.progress(kind)) is not None and p.phase == ENDED, "the end")


def test_a_store_that_hangs_is_told_from_a_member_and_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """The process that serves the store is stopped: no member looks dead, and the process that beats can end."""
    serve = "import sys, torch.distributed as d; s = d.TCPStore('127.0.0.1', 0, None, True, wait_for_workers=False)"
    server = subprocess.Popen(
        [sys.executable, "-c", f"{serve}; print(s.port, flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        heart = Heartbeat(connect(str(tmp_path / "unused"), port)["tcp"], 0, INTERVAL_S)
        heart.start()
        wait_until(lambda: heart.progress([0])[0], "the first beat")
        os.kill(server.pid, signal.SIGSTOP)
        wait_until(lambda: heart.store_silent_s > 10 * INTERVAL_S, "silence")
        assert heart.last_seen([0])[0] < 10 * INTERVAL_S
        heart.stop()
    finally:
        server.kill()
        server.communicate()


def test_a_store_that_two_threads_cannot_use_is_refused() -> None:
    class NoClone(dist.Store):
        pass

    with pytest.raises(ConfigurationError, match="cannot be cloned for a heartbeat; use a TCPStore or a FileStore"):
        Heartbeat(NoClone(), 0)

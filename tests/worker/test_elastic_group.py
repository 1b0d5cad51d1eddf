"""What members of an elastic run record, and which of them writes what concerns all."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.runs.line_tail import LineTail
from launcher.runs.membership import MembershipFiles, count_replacements
from launcher.runs.run_folder import RunFolder
from launcher.worker.elastic_group import MembershipLog, share_secret
from launcher.worker.trackers import SpeakersRows
from sgp_core.atomic_files import write_json

WORLD = 3


class Members:
    """What three workers know of each other, in one process."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.folder.attempt(1).mkdir(parents=True)
        self.joined: list[int] = []
        self.logs = {}
        for rank in range(WORLD):
            self.starts(rank, 100 + rank)
        for rank in range(WORLD):
            self.logs[rank] = self.log(rank)
            self.logs[rank].begin()

    def starts(self, rank: int, pid: int) -> None:
        write_json(self.folder.rank(rank), {"rank": rank, "attempt": 1, "pid": pid, "status": "training"})

    def log(self, rank: int) -> MembershipLog:
        return MembershipLog(self.folder, 1, rank, WORLD, lambda: self.joined.append(rank))

    def hear(self, *ranks: int, **change: Any) -> None:
        known = {"step": 120, "first_step": 120, "epoch": 1, "left": {}, "joined": []}
        for rank in ranks:
            self.logs[rank].note(SimpleNamespace(**{**known, **change}))  # type: ignore[arg-type]

    def lines(self) -> list[dict[str, Any]]:
        keys = ("event", "rank", "pid", "members")
        found = LineTail(MembershipFiles(self.folder.attempt(1)).members).objects()
        return [{key: line[key] for key in keys if line[key] is not None} for line in found]


@pytest.fixture
def members(tmp_path: Path) -> Members:
    return Members(tmp_path)


def test_each_change_is_written_once_by_the_lowest_rank_that_lives(members: Members) -> None:
    members.starts(0, 200)  # its replacement has reported before the others noticed that it is gone
    members.hear(1, 2, members=[1, 2], left={0: "its connection broke"})
    members.hear(1, 2, members=[1, 2])
    members.logs[0] = members.log(0)
    members.hear(0, 1, 2, members=[0, 1, 2], joined=[0], first_step=130)
    assert members.lines() == [
        {"event": "left", "rank": 0, "pid": 100, "members": [1, 2]},
        {"event": "members", "members": [1, 2]},
        {"event": "joined", "rank": 0, "pid": 200, "members": [0, 1, 2]},
    ]
    assert count_replacements(members.folder) == 1
    assert members.joined == [0, 1, 2, 0]


def test_a_member_speaks_from_the_step_after_the_one_it_began_with(members: Members) -> None:
    members.hear(1, 2, members=[1, 2], left={0: "gone"})
    members.logs[0] = members.log(0)
    assert not members.logs[0].speaks(130)
    members.hear(0, 1, 2, members=[0, 1, 2], joined=[0], first_step=130)
    assert [members.logs[0].speaks(step) for step in (129, 130, 131)] == [False, False, True]
    assert [members.logs[1].speaks(step) for step in (129, 130, 131)] == [True, True, False]


def test_no_row_is_lost_with_the_worker_that_was_to_write_it(members: Members, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = {rank: SpeakersRows(path, members.logs[rank].speaks, begins=rank == 0) for rank in (0, 1)}
    for step in (10, 20):
        for rank in (0, 1):
            rows[rank].log({"step": step})
    rows[1].log({"step": 30})  # by now rank 0 is dead, but rank 1 does not know it
    members.hear(1, members=[1, 2], left={0: "gone"})
    rows[1].log({"step": 40})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 30, 40]


def test_the_secret_of_an_attempt_is_one_and_only_the_user_can_read_it(tmp_path: Path) -> None:
    secret = share_secret(tmp_path)
    assert len(secret) == 64
    assert share_secret(tmp_path) == secret
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]

"""Which worker made a run fail: not one that only lost another."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.runs.failure import find_culprit

NOT_RECORDED = object()
"""As in reports of version 0.1."""


def failed(rank: int, time: float, message: str, peer_lost: Any = NOT_RECORDED) -> dict[str, Any]:
    error = {"type": "RuntimeError", "message": message, "traceback": "..."}
    recorded = {} if peer_lost is NOT_RECORDED else {"peer_lost": peer_lost}
    return {"rank": rank, "status": "failed", "time": time, "error": error | recorded}


def test_a_worker_that_records_a_lost_peer_is_not_to_blame_whatever_its_message() -> None:
    lost = {"rank": 0, "peers": [3], "step": 7}
    reports = {0: failed(0, 1.0, "no message that is known", lost), 1: {"rank": 1, "status": "training"}}
    assert find_culprit(reports, vanished=[1], world_size=4)["rank"] == 1
    assert find_culprit(reports, vanished=[1, 3], world_size=4)["rank"] == 3, "the one that was missed"


def test_a_failure_of_its_own_is_to_blame_whatever_its_message() -> None:
    reports = {0: failed(0, 1.0, "the connection to the data server timed out", None)}
    assert find_culprit(reports, vanished=[1], world_size=4)["message"] == reports[0]["error"]["message"]


@pytest.mark.parametrize(
    "noticed",
    [
        "rank 0 lost its exchange of step 7 (receiving from [3], sending to [1]): rank 1 (process 99) has ended",
        "Read error [127.0.0.1]:14061: Connection reset by peer",
        "rank 0 lost rank 1 at its step 7: it has closed its Gossip or died; let all workers call gossip.finish()",
        "worker 0 of node 0 lost the others of its node, ranks [0, 1]: closed",
        "Timed out waiting 60000ms for recv operation to complete",
    ],
)
def test_a_worker_of_0_1_that_lost_another_is_not_to_blame(noticed: str) -> None:
    reports = {0: failed(0, 1.0, noticed), 1: {"rank": 1, "status": "training"}}
    found = find_culprit(reports, vanished=[1], world_size=4)
    assert (found["rank"], found["type"]) == (1, "WorkerDied")
    raised = {0: failed(0, 1.0, noticed), 1: failed(1, 2.0, "the loss is no number")}
    assert find_culprit(raised, vanished=[0, 1], world_size=4)["rank"] == 1


def test_the_first_to_fail_by_itself_is() -> None:
    reports = {rank: failed(rank, 5.0 - rank, "out of memory") for rank in (1, 2)}
    assert find_culprit(reports, vanished=[3], world_size=4)["rank"] == 2

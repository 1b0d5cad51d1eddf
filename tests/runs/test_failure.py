"""Whose failure it was: not that of a worker which only noticed another's."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.runs.failure import first_failure
from sgp_core.topology import build_topology
from sgp_core.transports import Exchange

EXCHANGE = Exchange.of(build_topology("ring", world_size=4), 0, 7)


def failed(rank: int, time: float, message: str) -> dict[str, Any]:
    error = {"type": "RuntimeError", "message": message, "traceback": "..."}
    return {"rank": rank, "status": "failed", "time": time, "error": error}


@pytest.mark.parametrize(
    "noticed",
    [
        str(EXCHANGE.lost("rank 1 (process 99) has ended")),
        str(EXCHANGE.lost("Read error [127.0.0.1]:14061: Connection reset by peer")),
        "rank 0 lost rank 1 at its step 7: it has closed its Gossip or died; let all workers call gossip.finish()",
        "worker 0 of node 0 lost the others of its node, ranks [0, 1]: closed",
        "Timed out waiting 60000ms for recv operation to complete",
    ],
)
def test_a_worker_that_lost_another_is_not_to_blame(noticed: str) -> None:
    reports = {0: failed(0, 1.0, noticed), 1: {"rank": 1, "status": "training"}}
    found = first_failure(reports, vanished=[1], world_size=4)
    assert (found["rank"], found["type"]) == (1, "WorkerDied")
    raised = {0: failed(0, 1.0, noticed), 1: failed(1, 2.0, "the loss is no number")}
    assert first_failure(raised, vanished=[0, 1], world_size=4)["rank"] == 1


def test_the_first_to_fail_by_itself_is() -> None:
    reports = {rank: failed(rank, 5.0 - rank, "out of memory") for rank in (1, 2)}
    assert first_failure(reports, vanished=[3], world_size=4)["rank"] == 2

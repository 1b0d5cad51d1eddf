"""A worker of ``sgp-train`` that is stopped: the run fails with its name, and with the stack traces of all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.launched import Said

RUN = ("tracker=none", "cluster.workers_per_node=2", "cluster.device=cpu", "model.hidden=[4]", "training.epochs=1000")


def test_a_stopped_worker_is_named(here: Path, sgp_train: Callable[..., Said]) -> None:
    said = sgp_train(*RUN, "cluster.watchdog_s=10", "faults=[stop rank=1 step=40]")
    assert said.code == 1
    assert "rank 1 has not answered for" in said.err
    assert "in step 40, in forward; rank 0 waits in optimizer.step()" in said.err
    [run] = here.glob("runs/*/summary.json")
    error = json.loads(run.read_text())["error"]
    assert (error["rank"], error["type"]) == (1, "WorkerHung")
    for rank in range(2):
        assert "most recent call first" in next(run.parent.glob(f"logs/*/stacks-rank-{rank}.txt")).read_text()

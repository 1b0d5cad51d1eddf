"""What real workers do in test_waits.py: each case in a process group of its own, which does not survive it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import sgp_core
from sgp_core import Gossip
from tests.support.hosts import on_hosts
from tests.support.waiting import PATIENCE_S
from tests.workers.agreement import make_algorithm

WORKERS = 4
PATIENCE = 0.8
LATE = sgp_core.build_algorithm("osgp", order="adapt_then_combine")
"""Its messages are added a step late."""
Case = Callable[["Script"], None]


class Script:
    """A user's training script."""

    def __init__(self, group: dist.ProcessGroup, algorithm: str, options: dict[str, Any], topology: str) -> None:
        self.rank = dist.get_rank()
        self.model = nn.Linear(3, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        graph = sgp_core.build_topology(topology, world_size=WORKERS // options.get("node_size", 1))
        self.gossip = Gossip(
            self.model,
            self.optimizer,
            algorithm=LATE if algorithm == "late" else make_algorithm(algorithm),
            topology=graph,
            process_group=group,
            patience_s=PATIENCE,
            **options,
        )

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.optimizer.zero_grad()
            self.model(torch.ones(1, 3)).sum().backward()
            self.optimizer.step()


def evaluates_alone(script: Script) -> None:
    """Rank 0 forgets that all workers must enter ``averaged()``."""
    script.step(2)
    if script.rank == 0:
        with script.gossip.averaged():
            pass
    script.step(2)


def measures_alone(script: Script) -> None:
    script.step(2)
    if script.rank == 0:
        script.gossip.consensus_distance()
    script.step(2)


def evaluates_where_others_average(script: Script) -> None:
    """What the others do in their step would fit what rank 0 does."""
    script.step(2)
    if script.rank == 0:
        with script.gossip.averaged():
            pass
    script.step(2)


def measures_where_others_evaluate(script: Script) -> None:
    if script.rank == 0:
        script.gossip.consensus_distance()
    with script.gossip.averaged():
        pass


def steps_once_more(script: Script) -> None:
    """Rank 1 has one batch more than the others."""
    script.step(3 + (script.rank == 1))
    script.gossip.finish()
    with script.gossip.averaged():
        pass


def closes_early(script: Script) -> None:
    """Rank 1 has had its last batch."""
    script.step(2)
    if script.rank != 1:
        script.step()
    script.gossip.close()


def scales_alone(script: Script) -> None:
    """Gradients overflow on rank 1 alone, so that a plain scaler skips its step there."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for step in range(3):
        script.optimizer.zero_grad()
        loss = script.model(torch.ones(1, 3)).sum()
        scaler.scale(loss * (float("inf") if script.rank == 1 and step == 1 else 1.0)).backward()
        scaler.step(script.optimizer)
        scaler.update()
    with script.gossip.averaged():
        pass


def finishes_in_between(script: Script) -> None:
    """Rank 0 gives up what it has sent, and would send it again."""
    script.step(2)
    if script.rank == 0:
        script.gossip.finish()
    script.step(2)


def finishes_alone(script: Script) -> None:
    """Workers that never wait for each other: rank 0 meets the others, which end."""
    try:
        script.step(2)
    finally:
        dist.barrier()
    if script.rank == 0:
        script.gossip.finish()
    script.gossip.close()


CASES: dict[str, tuple[Case, str, dict[str, Any], str]] = {
    "p2p": (evaluates_alone, "sgp", {"transport": "p2p"}, "complete"),
    "shared_memory": (evaluates_alone, "sgp", {"transport": "shared_memory"}, "complete"),
    "hierarchical": (evaluates_alone, "sgp", {"transport": "hierarchical"}, "complete"),
    "compressed": (evaluates_alone, "sgp", {"compression": sgp_core.build_compression("int8")}, "complete"),
    "ahead": (evaluates_alone, "osgp", {"transport": "p2p"}, "complete"),
    "ahead in memory": (evaluates_alone, "osgp", {"transport": "shared_memory"}, "complete"),
    "allreduce": (evaluates_alone, "allreduce", {}, "complete"),
    "local_sgd": (evaluates_where_others_average, "local_sgd", {}, "complete"),
    "two collectives": (measures_where_others_evaluate, "sgp", {"transport": "p2p"}, "complete"),
    "nodes": (evaluates_alone, "sgp", {"node_size": 2}, "complete"),
    "distance": (measures_alone, "sgp", {"transport": "p2p"}, "complete"),
    "one step more": (steps_once_more, "sgp", {"transport": "p2p"}, "complete"),
    "one step more in memory": (steps_once_more, "osgp", {"transport": "shared_memory"}, "complete"),
    "one step more, ahead": (steps_once_more, "osgp", {"transport": "p2p"}, "complete"),
    "one step more, late": (steps_once_more, "late", {"transport": "shared_memory"}, "complete"),
    "finish": (finishes_in_between, "osgp", {"transport": "p2p"}, "complete"),
    "closed, ahead": (closes_early, "osgp", {"transport": "p2p"}, "complete"),
    "scaler, ahead": (scales_alone, "osgp", {"transport": "p2p"}, "complete"),
    "closed": (closes_early, "sgp", {"transport": "p2p"}, "complete"),
    "closed in memory": (closes_early, "sgp", {"transport": "shared_memory"}, "complete"),
    "scaler": (scales_alone, "sgp", {"transport": "p2p"}, "complete"),
    "asynchronous": (finishes_alone, "asgp", {"transport": "shared_memory"}, "complete"),
    "asynchronous messages": (finishes_alone, "asgp", {"transport": "p2p"}, "complete"),
    "pairs": (finishes_alone, "adpsgd", {"transport": "shared_memory"}, "alternating_ring"),
}


def fail_everywhere() -> dict[str, tuple[str, str]]:
    """Return the error that each case ends in."""
    found = {}
    for name, (case, algorithm, options, topology) in CASES.items():
        group = dist.new_group(timeout=timedelta(seconds=PATIENCE_S))
        with on_hosts("aabb") if name == "hierarchical" else nullcontext():
            script = Script(group, algorithm, options, topology)
        dist.barrier()
        try:
            case(script)
            found[name] = ("none", "")
        except RuntimeError as error:
            found[name] = (type(error).__name__, str(error))
        dist.barrier()
    return found


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def take_time(store_key: str) -> dict[str, Any]:
    """Let rank 0 evaluate alone until rank 1 has said that it waits: it takes its time, and is right."""
    records = Records()
    logging.getLogger("sgp_core").addHandler(records)
    script = Script(dist.group.WORLD, "sgp", {"transport": "p2p"}, "complete")  # type: ignore[arg-type]
    store = dist.distributed_c10d._get_default_store()
    script.step(2)
    if script.rank == 0:
        store.wait([store_key], timedelta(seconds=PATIENCE_S))
    elif script.rank == 1:
        records.emit = lambda record: (records.lines.append(record.getMessage()), store.set(store_key, ""))  # type: ignore[method-assign,assign]
    script.step(2)
    weights = script.model.weight.detach().clone()
    script.gossip.close()
    return {"lines": records.lines, "steps": script.gossip.step, "weights": weights}

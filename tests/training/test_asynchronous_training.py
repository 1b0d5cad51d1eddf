"""Training with asynchronous algorithms: where workers meet nevertheless, and how they stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig
from sgp_core.training.loop import Preempted, train
from sgp_core.training.peers import Peers
from tests.support.workers import run_workers
from tests.training import tiny

WORLD = 3
STEPS_PER_EPOCH = 27


def asked_by(rank: int, folder: Path) -> Callable[[], bool]:
    """Return what a worker answers before each step.

    Rank 1 wishes to stop after 23 steps, once rank 0 is on its way to the evaluation at the end of the epoch; rank 2
    has taken 3 steps by then, and takes no other before.
    """
    asked = iter(range(1000))

    def wait_for(name: str) -> None:
        while not (folder / name).exists():
            time.sleep(0.01)
        time.sleep(0.3)  # the worker that wrote it has gone on

    def wishes() -> bool:
        steps = next(asked)
        if (rank, steps) == (0, STEPS_PER_EPOCH - 1):
            (folder / "far").touch()
        if (rank, steps) == (1, 23):
            wait_for("far")
            (folder / "called").touch()
            return True
        if (rank, steps) == (2, 3):
            wait_for("called")
        return False

    return wishes


def train_here(
    directory: Path,
    algorithm: dict[str, Any],
    topology: str,
    transport: str,
    faults: LinkFaults | None,
    stops: bool,
) -> Any:
    rank = Peers(tiny.CPU).rank
    choices = {
        "dataset": {"name": "blobs", "train_examples": 640},
        "algorithm": algorithm,
        "topology": {"name": topology},
    }
    trackers = [JsonlTracker(directory / "metrics.jsonl")] if rank == 0 else []
    settings = tiny.settings(checkpoint=CheckpointConfig(keep_last=9), trackers=trackers)
    should_stop = asked_by(rank, directory) if stops else lambda: False
    with tiny.known():
        try:
            experiment = tiny.experiment(WORLD, epochs=2, choices=choices)
            return train(
                experiment,
                directory=directory,
                should_stop=should_stop,
                transport=transport,
                link_faults=faults,
                **settings,
            )
        except Preempted as stopped:
            return stopped.step


@pytest.mark.parametrize(
    ("algorithm", "topology", "transport", "faults"),
    [
        ({"name": "asgp"}, "one_peer_exponential", "shared_memory", None),
        ({"name": "asgp"}, "one_peer_exponential", "p2p", None),
        ({"name": "asgp"}, "one_peer_exponential", "p2p", LinkFaults(drop=0.2, delay=0.5, delay_steps=10)),
        ({"name": "adpsgd"}, "random_matching", "shared_memory", None),
        ({"name": "adpsgd"}, "random_matching", "p2p", None),
    ],
)
def test_a_worker_that_wants_to_stop_stops_all_wherever_they_are_and_they_go_on_from_there(
    tmp_path, algorithm, topology, transport, faults
):
    case = (tmp_path, algorithm, topology, transport, faults)
    assert run_workers(WORLD, train_here, *case, True) == [STEPS_PER_EPOCH] * WORLD
    store = CheckpointStore(tmp_path, WORLD)
    [manifest] = store.manifests()
    assert manifest.step == STEPS_PER_EPOCH
    states = [store.read_shard(manifest, rank) for rank in range(WORLD)]
    steps = [state["step"] for state in states]
    assert steps[:2] == [STEPS_PER_EPOCH, 23]
    assert 3 <= steps[2] < 23
    assert [state["concluded"] for state in states] == [False, True, True]
    assert abs(sum(state["gossip"]["push_sum_weight"] for state in states) - WORLD) < 1e-12

    summaries = run_workers(WORLD, train_here, *case, False)
    assert [summary["steps"] for summary in summaries] == [2 * STEPS_PER_EPOCH] * WORLD
    assert len({summary["final"]["accuracy"] for summary in summaries}) == 1
    assert summaries[0]["final"]["accuracy"] > 0.9
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(1, 2 * STEPS_PER_EPOCH + 1))
    assert [row["step"] for row in rows if row["split"] == "val"] == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]
    ages = [(row["staleness_mean"], row["staleness_max"]) for row in rows]
    assert [mean for mean, most in ages if mean is not None and mean > most] == []
    assert any(mean is not None for mean, _ in ages), "worker 0 used a message between some two rows"
    assert [manifest.step for manifest in store.manifests()] == [2 * STEPS_PER_EPOCH, STEPS_PER_EPOCH]
    final = [store.read_shard(store.manifests()[0], rank) for rank in range(WORLD)]
    assert [state["step"] for state in final] == [2 * STEPS_PER_EPOCH] * WORLD
    assert abs(sum(state["gossip"]["push_sum_weight"] for state in final) - WORLD) < 1e-12

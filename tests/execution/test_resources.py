"""The queue of this machine: as many workers as there are slots, no more, and none left when it is interrupted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.config.clusters import Device, LocalCluster
from launcher.execution.resources import Lease, WorkerSlots, visible_gpus
from tests.support.launched import Launched, read
from tests.support.waiting import wait_until

LONG = ("tracker=none", "training.epochs=10000", "checkpoint.every_epochs=0", "evaluation.every_epochs=0")
CPU, AUTO = LocalCluster(device=Device.cpu), LocalCluster(device=Device.auto)


def workers(launched: Launched) -> int:
    """Return how many worker processes live that a command has started (not what they start themselves)."""
    parents = {}
    for pid in launched.left():
        try:
            if b"SUBMITIT_LOCAL_GLOBALID=" in Path(f"/proc/{pid}/environ").read_bytes():
                parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return sum(parent not in parents for parent in parents.values())


def test_a_sweep_never_has_more_workers_than_slots(launch: Callable[..., Launched]) -> None:
    points = ("-m", "seed=1,2,3,4", "tracker=none", "training.max_steps=5", "evaluation.every_epochs=0")
    launched = launch(*points, "cluster.workers_per_node=1", "cluster.slots=2")
    seen = []
    while launched.process.poll() is None:
        seen.append(workers(launched))
        time.sleep(0.05)
    assert launched.finish().code == 0
    assert max(seen) == 2
    runs = list(launched.directory.glob("runs/[0-9a-f]*"))
    assert [read(run / "summary.json")["status"] for run in runs] == ["completed"] * 4
    assert "4 of 4 runs ok" in launched.finish().out


def test_an_interrupted_sweep_leaves_no_worker_and_nothing_waiting(launch: Callable[..., Launched]) -> None:
    launched = launch("-m", "seed=1,2,3", *LONG, "cluster.workers_per_node=2", "cluster.slots=2")
    launched.until_training(workers=2)
    states = sorted(read(run / "summary.json")["status"] for run in launched.directory.glob("runs/[0-9a-f]*"))
    assert states == ["queued", "queued", "running"]
    os.killpg(launched.process.pid, signal.SIGINT)
    said = launched.finish()
    assert said.code == 130
    assert launched.left() == []
    states = sorted(read(run / "summary.json")["status"] for run in launched.directory.glob("runs/[0-9a-f]*"))
    assert states == ["cancelled"] * 3


def test_one_run_of_a_sweep_can_be_cancelled(launch: Callable[..., Launched]) -> None:
    launched = launch("-m", "training.max_steps=5,100000", *LONG, "cluster.workers_per_node=1", "cluster.slots=1")

    def both() -> dict[int, Path]:
        specs = [read(path) for path in launched.directory.glob("runs/[0-9a-f]*/spec.json")]
        found = {spec["experiment"]["training"]["max_steps"]: Path(spec["run_dir"]) for spec in specs if spec}
        return found if len(found) == 2 else {}

    def works() -> bool:
        return launched.process.poll() is None

    by_steps = wait_until(both, "two runs", works=works)
    endless = by_steps[100000]
    wait_until(lambda: read(endless / "rank-0.json").get("status") == "training", "training", works=works)
    (endless / "cancel").touch()
    said = launched.finish()
    assert said.code == 1
    assert "1 of 2 runs ok" in said.out
    assert read(endless / "summary.json")["status"] == "cancelled"
    assert read(by_steps[5] / "summary.json")["status"] == "completed"


def test_cores_are_slots() -> None:
    slots = WorkerSlots(cores=4, gpus=[])
    first, second = slots.lease(CPU, 3), slots.lease(CPU, 2)
    assert (first, second) == (Lease(cores=3), None)
    assert slots.lease(AUTO, 1) == Lease(cores=1)
    slots.give_back(first or Lease())
    assert slots.lease(CPU, 2) == Lease(cores=2)


def test_a_run_larger_than_the_machine_runs_alone() -> None:
    slots = WorkerSlots(cores=2, gpus=[])
    alone = slots.lease(CPU, 8)
    assert alone == Lease(cores=2)
    assert slots.lease(CPU, 1) is None


def test_gpus_are_leased_out_of_those_the_user_made_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-1234,5")
    slots = WorkerSlots(cores=2, gpus=visible_gpus())
    first, second = slots.lease(AUTO, 2), slots.lease(AUTO, 2)
    assert (first, second) == (Lease(gpus=("3", "GPU-1234")), None)
    assert slots.lease(CPU, 2) == Lease(cores=2)
    slots.give_back(first or Lease())
    assert slots.lease(AUTO, 3) == Lease(gpus=("5", "3", "GPU-1234"))
    assert slots.lease(AUTO, 4) is None  # more than there are GPUs: it will compute on cores, which are taken
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == []

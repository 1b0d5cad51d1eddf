"""A job that is interrupted, however, comes back by itself and ends with the bits of one that was not."""

from __future__ import annotations

import collections
import json
import os
import random
from pathlib import Path

import pytest

from launcher.runs.run_folder import RunFolder
from tests.slurm.lab import Lab
from tests.slurm.training import (
    job_of,
    logs,
    rows,
    run_of,
    shards,
    train,
    until_gone,
    until_status,
    until_step,
    weights,
)
from tests.support.waiting import wait_until
from tests.support.wandb_files import stored

INTERRUPTIONS = int(os.environ.get("SGP_INTERRUPTIONS", "2"))
"""More by hand: each takes about 15 s."""

PLUGIN = Path(__file__).parents[1] / "plugins" / "unhurried.py"
LONG = (
    f"plugins=[{PLUGIN}]",
    "callbacks=[unhurried]",
    "cluster.threads_per_worker=1",
    "training.max_steps=1500",
    "training.epochs=1000",
    "evaluation.every_epochs=10",
    "checkpoint.every_epochs=5",
    "log_every=20",
)
ON_TWO_NODES = ("cluster=slurm", "cluster.nodes=2", "cluster.workers_per_node=1", 'cluster.srun_args=["--wait=5"]')


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


def requeue(lab: Lab, job: str, node: str) -> None:
    lab.run("scontrol", "requeue", job)


def signal_usr2(lab: Lab, job: str, node: str) -> None:
    lab.run("scancel", "--signal=USR2", job)


def signal_usr1(lab: Lab, job: str, node: str) -> None:
    lab.run("scancel", "--signal=USR1", job)


def break_node(lab: Lab, job: str, node: str) -> None:
    lab.node_down(node)


def kill_step(lab: Lab, job: str, node: str) -> None:
    """The node's workers live on, out of SLURM's sight."""
    lab.kill_step(job, node)


KINDS = [requeue, signal_usr2, kill_step, break_node, signal_usr1]


def test_interrupted_at_random_moments_it_ends_with_the_same_bits(lab: Lab, work: Path) -> None:
    assert train("cluster=local", "cluster.workers_per_node=2", "tracker=none", "runs_dir=here", *LONG) == 0
    whole = run_of(work / "here")

    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    assert train(*ON_TWO_NODES, "tracker=wandb", *LONG) == 0
    folder = run_of(work / "runs")
    job = job_of(folder)
    done = []
    for number in range(1, INTERRUPTIONS + 1):
        attempt = folder.next_attempt() - 1 if done else 1
        reached = max((row["step"] for row in rows(folder)), default=0) if done else 0
        until_step(folder, attempt, min(1400, reached + chance.randrange(20, 1000 // INTERRUPTIONS)))
        kind = KINDS[(number - 1) % len(KINDS)]
        node = json.loads(folder.rank(chance.randrange(2)).read_text())["node"]
        kind(lab, job, node)
        done.append(kind.__name__)
        wait_until(lambda attempt=attempt: folder.next_attempt() - 1 > attempt, f"attempt after {done}: {logs(folder)}")
        lab.repair()
    until_status(folder, "completed")
    until_gone(lab, folder)

    told = f"seed {seed}: {done}"
    assert folder.next_attempt() - 1 == INTERRUPTIONS + 1, told
    assert rows(folder) == rows(whole), told
    assert weights(folder) == weights(whole), told
    assert shards(folder) == shards(whole), told
    assert set(collections.Counter((row["split"], row["step"]) for row in rows(folder)).values()) == {1}
    mirrored = stored(folder.path, folder.path.name)
    assert [line["_step"] for line in mirrored["lines"]] == sorted({row["step"] for row in rows(folder)})
    assert wandb_ids(folder) == {folder.path.name}
    assert mirrored["summary"]["status"] == "completed"


def test_a_time_limit_is_no_end(lab: Lab, work: Path) -> None:
    limited = ("cluster.timeout_min=1", "cluster.signal_delay_s=50", "tracker=none")
    assert train(*ON_TWO_NODES, *limited, *LONG, "training.max_steps=null", "training.epochs=1000000") == 0
    folder = run_of(work / "runs")
    again = lambda: folder.rank(0).exists() and json.loads(folder.rank(0).read_text())["attempt"] == 2  # noqa: E731
    wait_until(again, lambda: f"the second attempt ({logs(folder)})")
    until_step(folder, 2, 1)
    steps = [row["step"] for row in rows(folder) if row["split"] == "train"]
    assert steps == list(range(20, steps[-1] + 1, 20))
    lab.run("scancel", job_of(folder))
    until_status(folder, "cancelled")


def wandb_ids(folder: RunFolder) -> set[str]:
    """Return the ids under which Weights & Biases knows a run."""
    return {path.name.rpartition("-")[2] for path in folder.path.glob("wandb/offline-run-*")}

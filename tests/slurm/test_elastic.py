"""An elastic run on SLURM: one job, in which a worker is killed and started again while the others go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from launcher.runs.line_tail import LineTail
from launcher.runs.membership import MembershipFiles
from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import read_json
from tests.slurm.lab import Lab
from tests.slurm.training import job_of, logs, run_of, train, until_gone, until_status, until_step
from tests.support.waiting import wait_until

PLUGIN = Path(__file__).parents[1] / "plugins" / "until_told.py"
ELASTIC = (
    *("cluster=slurm", "cluster.nodes=4", "cluster.workers_per_node=1", "cluster.elastic=true", "tracker=none"),
    *("training.epochs=100000", "evaluation.every_epochs=3", "checkpoint.every_epochs=0"),
)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ranks(folder: RunFolder, event: str) -> list[int]:
    """Return the ranks to which something happened, in order."""
    lines = LineTail(MembershipFiles(folder.attempt(1)).members).objects()
    return [line["rank"] for line in lines if line["event"] == event]


def until(folder: RunFolder, event: str, *whose: int) -> None:
    """Wait until something has happened to these ranks."""
    wait_until(lambda: ranks(folder, event) == list(whose), lambda: f"{event} {whose}: {logs(folder)}")


def start(work: Path) -> RunFolder:
    """Submit a run that ends when the file ``told`` is there, and wait until it trains."""
    told = (f"plugins=[{PLUGIN}]", f"callbacks=[{{name: until_told, file: {work / 'told'}}}]")
    assert train(*ELASTIC, *told) == 0
    folder = run_of(work / "runs")
    until_step(folder, 1, 30)
    return folder


def test_one_worker_is_killed_and_started_again_while_the_others_go_on(lab: Lab, work: Path) -> None:
    folder = start(work)
    job = job_of(folder)
    before = lab.tasks(job)
    os.kill(int((read_json(folder.rank(2)) or {})["pid"]), signal.SIGKILL)
    until(folder, "joined", 2)
    (work / "told").touch()
    until_status(folder, "completed")
    until_gone(lab, folder)
    assert (read_json(folder.summary) or {})["replacements"] == 1
    assert ranks(folder, "left") == [2]
    assert len(before) == 4
    assert (lab.job(job).state, lab.job(job).restarts) == ("COMPLETED", 0)
    assert folder.next_attempt() == 2


def test_a_run_goes_on_without_a_node_that_is_lost(lab: Lab, work: Path) -> None:
    folder = start(work)
    job = job_of(folder)
    lost = 3
    node = (read_json(folder.rank(lost)) or {})["node"]
    lab.kill_node(node)
    until(folder, "left", lost)
    lab.node_down(node)  # what SLURM itself would notice after minutes
    (work / "told").touch()
    until_status(folder, "completed")
    until_gone(lab, folder)
    assert lab.job(job).restarts == 0
    assert not ranks(folder, "joined")

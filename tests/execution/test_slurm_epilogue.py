"""What becomes of a SLURM job once its workers have left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.execution.slurm_epilogue import REQUEUE, judge, main
from launcher.runs.membership import MembershipFiles
from launcher.runs.run_folder import RunFolder
from launcher.worker.worker import WorkerJob
from sgp_core.atomic_files import read_json, write_json

KILLED = 137


def said(*statuses: str, **more: Any) -> dict[int, dict[str, Any]]:
    lost = {"type": "RuntimeError", "message": "Connection closed by peer", "traceback": "..."}
    return {
        rank: {"rank": rank, "status": status, "time": rank, **({"error": lost} if status == "failed" else {}), **more}
        for rank, status in enumerate(statuses)
        if status
    }


@pytest.mark.parametrize(
    ("reports", "code", "asked_to_end", "status", "again"),
    [
        (said("completed", "completed"), 0, False, "completed", False),
        (said("completed", "completed"), 0, True, "completed", False),  # just before somebody cancelled it
        (said("preempted", "preempted", requeue=True), 0, False, "preempted", True),
        (said("preempted", "preempted", requeue=True), 0, True, "preempted", True),  # the time limit came while saving
        (said("preempted", "preempted", requeue=False), 0, True, "cancelled", False),  # scancel
        (said("preempted", "preempted", requeue=False), 0, False, "preempted", True),  # asked to make room
        (said("failed", "training"), KILLED, False, "failed", False),
        (said("failed", "training"), 1, False, "failed", True),  # the node is gone, not only the worker
        (said("failed", "training"), 1, True, "cancelled", False),
        (said("starting", "starting"), KILLED, True, "cancelled", False),  # too slow to save
        (said("failed", ""), 1, False, "failed", False),  # never started: Python itself may be missing
        ({}, 2, False, "failed", False),
    ],
)
def test_judgement(reports: dict[int, dict[str, Any]], code: int, asked_to_end: bool, status: str, again: bool) -> None:
    outcome, comes_back = judge(reports, 2, code, asked_to_end=asked_to_end)
    assert (outcome.status, comes_back) == (status, again)
    assert (outcome.error is not None) == (status == "failed")


def test_a_workers_own_mistake_is_no_reason_to_start_again() -> None:
    reports = said("failed", "failed")
    reports[1]["error"] = {"type": "ValueError", "message": "bad", "traceback": "..."}
    outcome, again = judge(reports, 2, 1, asked_to_end=False)
    assert (outcome.error or {})["rank"] == 1
    assert not again


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of two workers that job 7 is the second start of."""
    from submitit.core.utils import DelayedSubmission

    folder = RunFolder(tmp_path / "0123456789")
    folder.attempt(2).mkdir(parents=True)
    write_json(folder.spec, {"experiment": {"world_size": 2}})
    write_json(folder.summary, {"run_id": "0123456789", "name": "n", "status": "running", "steps": 0})
    DelayedSubmission(WorkerJob(str(folder.spec), 1)).dump(tmp_path / "7_submitted.pkl")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    return folder


def speak(folder: RunFolder, reports: dict[int, dict[str, Any]]) -> None:
    for rank, report in reports.items():
        write_json(folder.rank(rank), {**report, "attempt": 2})


def end(folder: RunFolder, *more: str) -> int:
    return main([str(folder.path.parent), "7", *more])


def test_the_verdict_is_written_down(job: RunFolder) -> None:
    speak(job, said("failed", "training"))
    assert end(job, str(KILLED)) == 1
    summary = read_json(job.summary) or {}
    assert (summary["status"], summary["error"]["rank"], summary["error"]["type"]) == ("failed", 1, "WorkerDied")


def test_a_saved_job_is_queued_again(job: RunFolder) -> None:
    speak(job, said("preempted", "preempted", requeue=True))
    assert end(job, "0") == REQUEUE
    assert job.status() == "preempted"


def test_a_cancelled_job_is_not_queued_again(job: RunFolder) -> None:
    speak(job, said("preempted", "preempted", requeue=True))
    job.cancel.touch()
    assert end(job, "0") == 0
    assert job.status() == "cancelled"
    assert not job.cancel.exists()


@pytest.mark.parametrize(("restarts", "status"), [("1", "cancelled"), ("2", "preempted"), ("", "cancelled")])
def test_a_job_that_slurm_requeues_is_not_cancelled(
    job: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: str, status: str
) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(
        f'#!/bin/sh\n[ "$*" = "show job -o 7" ] && echo "JobId=7 Restarts={restarts} EndTime=Unknown"\n'
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:/usr/bin:/bin")
    speak(job, said("preempted", "preempted", requeue=False))
    assert end(job, "0", "--asked-to-end") == 0
    assert job.status() == status


@pytest.mark.parametrize("most", [None, 1, 5])
def test_a_job_that_gets_nowhere_is_not_started_for_ever(job: RunFolder, most: int | None) -> None:
    if most is not None:
        write_json(job.spec, {"experiment": {"world_size": 2}, "cluster": {"starts_without_checkpoint": most}})
    speak(job, said("failed", "training"))
    for attempt in range(1, most or 3):
        job.attempt(attempt).mkdir(exist_ok=True)
        write_json(job.attempt(attempt) / "rendezvous.json", {})
    assert end(job, "1") == REQUEUE
    assert job.status() == "preempted"
    job.attempt(most or 3).mkdir(exist_ok=True)
    write_json(job.attempt(most or 3) / "rendezvous.json", {})
    assert end(job, "1") == 1
    assert (read_json(job.summary) or {})["error"]["type"] == "NodeLost"


@pytest.fixture
def elastic(job: RunFolder) -> RunFolder:
    """The same run, elastic."""
    write_json(job.spec, {"experiment": {"world_size": 2}, "cluster": {"elastic": True}})
    return job


def test_an_elastic_run_is_complete_without_a_worker_that_died_at_its_end(elastic: RunFolder) -> None:
    speak(elastic, said("training", "completed", result={"status": "completed", "steps": 7}))
    assert end(elastic, "0") == 0
    summary = read_json(elastic.summary) or {}
    assert (summary["status"], summary["steps"], summary["name"]) == ("completed", 7, "n")


def test_those_that_are_left_of_an_elastic_run_save_it(elastic: RunFolder) -> None:
    speak(elastic, said("preempted", "training", requeue=True))
    assert end(elastic, "0") == REQUEUE
    assert elastic.status() == "preempted"


def test_an_elastic_run_whose_worker_cannot_be_replaced_fails(elastic: RunFolder) -> None:
    speak(elastic, said("training", "failed"))
    error = {"rank": 1, "type": "ValueError", "message": "bad", "traceback": "..."}
    write_json(MembershipFiles(elastic.attempt(2)).given_up, error)
    assert end(elastic, "0") == 1
    assert (read_json(elastic.summary) or {})["error"]["message"] == "bad"


def test_an_elastic_job_that_lost_all_its_nodes_is_queued_again(elastic: RunFolder) -> None:
    speak(elastic, said("training", "training"))
    assert end(elastic, "1") == REQUEUE

"""How runs stand: by their files, their launcher and SLURM, whichever of these can be asked."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.liveness import Observer, Standing, read_files
from launcher.runs.run_folder import RunFolder
from launcher.system import slurm_cli
from launcher.system.processes import this_process
from launcher.system.slurm_cli import QueuedJob

QUEUE = {
    "1": QueuedJob("PENDING", "Priority", ""),
    "2": QueuedJob("RUNNING", "None", "node1"),
    "3_4": QueuedJob("COMPLETING", "None", "node2"),
    "4": QueuedJob("REQUEUE_HOLD", "JobHoldMaxRequeue", ""),
}
ME = {"pid": os.getpid(), "started": this_process().started, "host": socket.gethostname()}


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """SLURM answers; the list says how often it was asked."""
    asked: list[float] = []

    def answer(patience_s: float) -> Mapping[str, QueuedJob]:
        asked.append(patience_s)
        return QUEUE

    monkeypatch.setattr(slurm_cli, "queue", answer)
    return asked


@pytest.fixture
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM is away."""
    monkeypatch.setattr(slurm_cli, "queue", lambda patience_s: None)


def standing(folder: Path, observer: Observer | None = None) -> Standing:
    return (observer or Observer()).standing(read_files(RunFolder(folder)))


def written(folder: Path, status: str | None, *, launcher: Any = None, job: Any = None) -> Path:
    """Write a run folder: with ``job`` on SLURM, else on a machine."""
    folder.mkdir(exist_ok=True)
    spec = {"cluster": {"name": "slurm" if job is not None else "local"}, "attempt": {"launcher": launcher}}
    (folder / "spec.json").write_text(json.dumps(spec))
    if status is not None:
        (folder / "summary.json").write_text(json.dumps({"status": status}))
    if job is not None:
        (folder / "job.json").write_text(json.dumps(job))
    return folder


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_what_has_ended_is_not_asked_about(status: str, tmp_path: Path, queue: list[float]) -> None:
    assert standing(written(tmp_path, status, job={"job_id": "1"})) == Standing(status)
    assert queue == []


@pytest.mark.parametrize(
    ("status", "job", "state"),
    [
        ("queued", "1", "queued"),
        ("queued", "2", "running"),
        ("running", "2", "running"),
        ("running", "1", "queued"),  # it was queued again and has not said so
        ("running", "3_4", "running"),
        ("running", "5", "lost"),
        ("queued", "5", "lost"),
        ("preempted", "1", "queued"),
        ("preempted", "4", "queued"),
        ("preempted", "2", "running"),
        ("preempted", "5", "preempted"),
        ("cancelled", "1", "queued"),
        ("cancelled", "2", "running"),  # it was queued again and has not said so
        ("cancelled", "3_4", "cancelled"),
        ("cancelled", "5", "cancelled"),
        (None, "5", "lost"),
        (None, "1", "queued"),
    ],
)
def test_slurm_says_how_its_jobs_stand(
    status: str | None, job: str, state: str, tmp_path: Path, queue: list[float]
) -> None:
    found = standing(written(tmp_path, status, job={"job_id": job}))
    assert (found.state, found.verified) == (state, True)
    assert found.queued == QUEUE.get(job)
    assert len(queue) == 1


def test_why_a_job_waits_is_noted(tmp_path: Path, queue: list[float]) -> None:
    assert standing(written(tmp_path, "queued", job={"job_id": "1"})).note == "Priority"


def test_slurm_is_asked_once_for_all_runs(tmp_path: Path, queue: list[float]) -> None:
    observer = Observer()
    for number in range(5):
        standing(written(tmp_path / str(number), "running", job={"job_id": "2"}), observer)
    assert len(queue) == 1


def test_an_old_answer_is_replaced(tmp_path: Path, queue: list[float]) -> None:
    observer = Observer(max_age_s=0.0)
    for _ in range(2):
        standing(written(tmp_path, "running", job={"job_id": "2"}), observer)
    assert len(queue) == 2


@pytest.mark.parametrize("status", ["queued", "running", "preempted", "cancelled"])
@pytest.mark.usefixtures("no_queue")
def test_without_slurm_the_files_count(status: str, tmp_path: Path) -> None:
    found = standing(written(tmp_path, status, job={"job_id": "1"}))
    assert (found.state, found.verified) == (status, False)
    assert found.note == "SLURM does not answer, so job 1 was not checked"


@pytest.mark.parametrize(
    "problem", [UnicodeDecodeError("utf-8", b"", 0, 1, "babble"), KeyError("no name for this user")]
)
def test_what_is_no_answer_counts_as_none(problem: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(patience_s: float) -> None:
        raise problem

    monkeypatch.setattr(slurm_cli, "queue", fail)
    assert standing(written(tmp_path, "running", job={"job_id": "1"})).verified is False


def test_a_job_without_number_is_being_submitted_or_never_was(tmp_path: Path, queue: list[float]) -> None:
    now = {"job_id": None, "submitted": time.time()}
    assert standing(written(tmp_path, "queued", job=now)) == Standing("queued", "it is being submitted")
    long_ago = {"job_id": None, "submitted": time.time() - 3600}
    assert standing(written(tmp_path, "queued", job=long_ago)).state == "lost"
    assert standing(written(tmp_path, "running", job=long_ago)).verified is False
    assert queue == []


def test_what_somebody_elses_job_does_is_not_known(
    tmp_path: Path, queue: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path, "running", job={"job_id": "5"})
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    found = standing(folder)
    assert (found.state, found.verified) == ("running", False)


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_run_lives_with_its_launcher(status: str, tmp_path: Path, queue: list[float]) -> None:
    assert standing(written(tmp_path, status, launcher=ME)) == Standing(status)
    found = standing(written(tmp_path, status, launcher={**ME, "started": "1"}))  # its number has been given again
    assert (found.state, found.note) == ("lost", f"process {os.getpid()}, which watched it, is gone")
    assert standing(written(tmp_path, status, launcher=None)).state == "lost"
    assert queue == []


def test_another_machine_is_not_looked_at(tmp_path: Path) -> None:
    found = standing(written(tmp_path, "running", launcher={**ME, "host": "elsewhere"}))
    assert (found.state, found.verified) == ("running", False)
    assert found.note == "it is watched on elsewhere, so it was not checked"


def test_an_end_that_is_written_meanwhile_counts(tmp_path: Path) -> None:
    folder = written(tmp_path, "running", launcher={**ME, "started": "1"})
    read = read_files(RunFolder(folder))
    (folder / "summary.json").write_text('{"status": "completed"}')
    assert Observer().standing(read) == Standing("completed")


@pytest.mark.parametrize("status", ["lost", "damaged", 3, None, {"a": 1}])
def test_a_status_that_is_none_makes_no_state(status: Any, tmp_path: Path) -> None:
    written(tmp_path, None, launcher={**ME, "started": "1"})
    (tmp_path / "summary.json").write_text(json.dumps({"status": status}))
    assert standing(tmp_path).state == "lost"


def test_nothing_that_can_be_read_is_damaged(tmp_path: Path) -> None:
    assert standing(tmp_path).state == "damaged"
    (tmp_path / "spec.json").write_bytes(b"\xff\x00")
    (tmp_path / "summary.json").mkdir()
    assert standing(tmp_path).state == "damaged"


def test_a_summary_alone_says_how_it_ended(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"status": "cancelled"}')
    assert standing(tmp_path) == Standing("cancelled")
    (tmp_path / "summary.json").write_text('{"status": "running"}')
    assert standing(tmp_path).verified is False

"""``sgp cancel``: runs end wherever they are, and only those that are meant."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import read_json
from tests.support.launched import Launched
from tests.support.run_folders import make_sweep
from tests.support.run_states import (
    completed_run,
    elsewhere_run,
    failed_run,
    lost_run,
    queued_run,
    running_run,
    slurm_run,
    squeue_that,
)
from tests.support.sgp_command import Said

RUN = "a000000001"


def status_of(folder: Path) -> str | None:
    return RunFolder(folder).status()


# -- on this machine --------------------------------------------------------------------------------------------------
def test_a_local_run_saves_and_ends(launch: Callable[..., Launched], sgp: Callable[..., Said]) -> None:
    launched = launch("training.epochs=4000", "cluster.workers_per_node=2", "tracker=none")
    folder = launched.until_training(workers=2)
    runs_dir = folder.parent
    assert sgp("status", "--json", "--runs-dir", runs_dir).json["runs"][0]["state"] == "running"
    said = sgp("cancel", folder.name, "--runs-dir", runs_dir)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(folder.name)
    launched.finish()
    assert (status_of(folder), launched.left()) == ("cancelled", [])
    assert not (folder / "cancel").exists()
    shown = sgp("status", folder.name, "--json", "--runs-dir", runs_dir)
    assert (shown.code, shown.json["state"]) == (0, "cancelled")
    assert shown.json["checkpoints"][-1] == shown.json["step"]
    again = sgp("cancel", folder.name, "--runs-dir", runs_dir)
    assert (again.code, again.out.strip().endswith("nothing to end: cancelled")) == (0, True)


def test_a_run_without_a_watcher_beside_it_ends(launch: Callable[..., Launched], sgp: Callable[..., Said]) -> None:
    launched = launch("training.epochs=4000", "cluster=inline", "tracker=none", "topology=complete")
    folder = launched.until_training(workers=1)
    assert sgp("cancel", folder.name, "--runs-dir", folder.parent).code == 0
    launched.finish()
    assert status_of(folder) == "cancelled"


def test_only_what_is_meant_is_asked_to_end(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    meant = [running_run(tmp_path, RUN), queued_run(tmp_path, "a000000002"), elsewhere_run(tmp_path, "a000000003")]
    ended = [make(tmp_path, f"b00000000{n}") for n, make in enumerate((completed_run, failed_run, lost_run))]
    other = running_run(tmp_path, "c000000000")
    make_sweep(tmp_path, "cccc0001", [path.name for path in (*meant, *ended)])
    said = sgp("cancel", "cccc0001", "--json", "--runs-dir", tmp_path)
    assert said.code == 0
    results = {answer["run_id"]: answer["result"] for answer in said.json["runs"]}
    assert results[RUN] == results["a000000002"] == "asked to end"
    assert results["a000000003"].startswith("asked to end, though it is watched on elsewhere")
    assert [results[path.name] for path in ended] == [f"nothing to end: {s}" for s in ("completed", "failed", "lost")]
    assert [(path / "cancel").exists() for path in (*meant, *ended, other)] == [True] * 3 + [False] * 4


def test_a_sweep_that_lists_nothing(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    make_sweep(tmp_path, "cccc0001", [])
    said = sgp("cancel", "cccc0001", "--runs-dir", tmp_path)
    assert (said.code, said.out) == (0, "cccc0001: no runs are recorded for it\n")


# -- on SLURM ---------------------------------------------------------------------------------------------------------
def test_jobs_end_and_of_an_array_only_the_elements_meant(
    tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]
) -> None:
    asked = slurm("answers")
    trains = slurm_run(tmp_path, "d000000000", "1001", "running")
    waits = slurm_run(tmp_path, "d000000001", "1002_0", "queued")
    requeued = slurm_run(tmp_path, "d000000003", "1003", "preempted")
    other = slurm_run(tmp_path, "d000000002", "1002_1", "queued")
    said = sgp("cancel", trains.name, waits.name, requeued.name, "--runs-dir", tmp_path)
    assert (said.code, said.err) == (0, "")
    assert [line for line in asked.read_text().splitlines() if line.startswith("scancel")] == [
        "scancel 1001 1002_0 1003"
    ]
    assert (trains / "cancel").exists()  # for the end of its job, which is not to queue it again
    assert status_of(trains) == "running"  # until then
    assert not any((path / "cancel").exists() for path in (waits, requeued, other))
    assert [status_of(path) for path in (waits, requeued, other)] == ["cancelled", "cancelled", "queued"]


def test_a_job_that_starts_in_the_meantime_writes_its_own_end(
    tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]
) -> None:
    folder = slurm_run(tmp_path, RUN, "1002_0", "queued")
    commands = slurm("answers").parent
    started = squeue_that("answers", tmp_path / "later") / "squeue"
    started.write_text(started.read_text().replace("1002|0|PENDING|Resources|", "1002|0|RUNNING|None|node1"))
    (commands / "scancel").write_text(f"#!/bin/sh\ncp '{started}' '{commands}/squeue'\n")
    said = sgp("cancel", RUN, "--runs-dir", tmp_path)
    assert said.out.strip().endswith("job 1002_0 was asked to end")
    assert (status_of(folder), (folder / "cancel").exists()) == ("queued", True)


@pytest.mark.parametrize("says", ["fails", "refuses"])
def test_slurm_does_not_take_it_and_nothing_changes(
    says: str, tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]
) -> None:
    asked = slurm("answers" if says == "refuses" else says)
    (asked.parent / "scancel").write_text("#!/bin/sh\nexit 1\n")
    submitted = slurm_run(tmp_path, "d000000001", "1002_0", "queued")
    local = running_run(tmp_path, RUN)
    before = contents(tmp_path)
    said = sgp("cancel", local.name, submitted.name, "--runs-dir", tmp_path)
    assert said.code == 2
    assert said.err.startswith("sgp: SLURM ")
    assert said.err.endswith(": nothing was cancelled\n")
    assert contents(tmp_path) == before


def test_a_job_that_has_ended_by_itself_meanwhile(
    tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]
) -> None:
    commands = slurm("answers").parent
    slurm_run(tmp_path, RUN, "1001", "running")
    (commands / "scancel").write_text(f"#!/bin/sh\nprintf '#!/bin/sh\\n' > '{commands}/squeue'\nexit 1\n")
    assert sgp("cancel", RUN, "--runs-dir", tmp_path).code == 0


def test_a_run_that_is_being_submitted_is_left_for_now(
    tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]
) -> None:
    slurm("answers")
    folder = slurm_run(tmp_path, RUN, "1001", "queued")
    job: dict[str, Any] = read_json(folder / "job.json") or {}
    (folder / "job.json").write_text(json.dumps({**job, "job_id": None, "submitted": time.time()}))
    said = sgp("cancel", RUN, "--runs-dir", tmp_path)
    assert (said.code, "being submitted right now" in said.err) == (2, True)
    assert not (folder / "cancel").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "asked"}

"""``sgp cancel``: end runs, those in a queue included."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, TargetArguments
from launcher.cli.watch import goes_on
from launcher.runs.find import Run, find_runs
from launcher.runs.json_fields import mapping, text
from launcher.runs.liveness import LIVE, Observer, read_files
from launcher.runs.plain_text import clean
from launcher.runs.run_folder import RunFolder
from launcher.system import processes, slurm_cli
from launcher.system.processes import Process
from sgp_core.atomic_files import write_json
from sgp_core.errors import ConfigurationError

_PATIENCE_S = 10.0


def cancel(
    targets: TargetArguments,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """End runs, or all runs of sweeps. Those that train save a checkpoint first."""
    runs = find_runs(targets, runs_dir, Observer(patience_s=1.5))
    if not runs and not as_json:
        print(f"{', '.join(targets)}: no runs are recorded for it")
    due = [run for run in runs if _may_be_ended(run)]
    for run in due:
        if run.job_id is None and run.cluster == "slurm":
            raise ConfigurationError(f"{run.run_id} is being submitted right now: cancel it in a few seconds")
    results: dict[str, str] = {}
    if submitted := [run for run in due if run.job_id is not None]:  # first, since SLURM may refuse
        results |= _cancel_jobs(submitted)
    for run in due:
        if run.job_id is None:
            results[run.run_id] = _request(run)
    answers: list[dict[str, Any]] = []
    for run in runs:
        result = results.get(run.run_id) or f"nothing to end: {run.state}"
        answers.append({"run_id": run.run_id, "name": run.name, "state": run.state, "result": result})
        if not as_json:
            print(clean(f"{run.run_id}  {run.name}  {result}"))
    if as_json:
        print_json({"runs": answers})


def _may_be_ended(run: Run) -> bool:
    """Whether a run goes on, or could do so unseen."""
    leaves = run.state not in LIVE and run.queued is not None and run.queued.state == "COMPLETING"
    return (goes_on(run) and not leaves) or not run.verified


def _cancel_jobs(runs: Sequence[Run]) -> dict[str, str]:
    """Have SLURM end jobs, only these elements of an array; return what became of each run, by its id."""
    for run in runs:
        _mark(run)  # first, so that the job is not queued again at its end
    ids = [str(run.job_id) for run in runs]
    try:
        taken = slurm_cli.cancel(ids, _PATIENCE_S)
    except ValueError:  # a damaged job.json
        taken = False
    if not taken:
        left = Observer(patience_s=1.5).jobs()
        if left is None or any(job in left and left[job].state != "COMPLETING" for job in ids):
            for run in runs:
                run.folder.cancel.unlink(missing_ok=True)
            why = "does not answer" if left is None else "did not take it"
            raise ConfigurationError(f"SLURM {why}: nothing was cancelled")
    now = (Observer(patience_s=1.5).jobs() or {}) if any(map(_waits, runs)) else {}
    results = {}
    for run in runs:
        job = now.get(str(run.job_id))
        if _waits(run) and (job is None or job.state == "PENDING"):  # else it has started in the meantime
            run.folder.cancel.unlink(missing_ok=True)  # no worker will start and act on the mark
            _write_cancelled(run.folder)
            results[run.run_id] = f"cancelled before job {run.job_id} started"
        else:
            results[run.run_id] = f"job {run.job_id} was asked to end"
    return results


def _waits(run: Run) -> bool:
    return run.queued.state == "PENDING" if run.queued is not None else run.state == "queued"


def _write_cancelled(folder: RunFolder) -> None:
    files = read_files(folder)
    if files.status in (None, *LIVE, "preempted"):
        known = {"run_id": folder.path.name, "name": files.spec.get("name"), "steps": 0, "final": None, "best": None}
        write_json(folder.summary, {**known, **files.summary, "status": "cancelled", "error": None})


def _request(run: Run) -> str:
    """Ask the launcher of a run that is not on SLURM to end it; return the answer in words."""
    launcher = mapping(mapping(run.spec.get("attempt")).get("launcher"))
    started = text(launcher.get("started"))  # without it, any process could have the number
    if run.cluster == "inline" and run.state == "running" and run.verified and started:  # no launcher beside it
        processes.send_signal(Process(launcher["pid"], started), signal.SIGTERM)
        return f"process {launcher['pid']}, which runs it inline, was asked to end"
    _mark(run)
    return "asked to end" if run.verified else f"asked to end, though {run.note}"


_MARKING = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
"""Not through a link, which may lead out of a foreign folder, and not into a pipe."""


def _mark(run: Run) -> None:
    """Write the file that asks the watchers of a run to end it."""
    try:
        os.close(os.open(run.folder.cancel, _MARKING, 0o666))
    except OSError as error:
        raise ConfigurationError(f"cannot write {run.folder.cancel}: {error.strerror or error}") from error

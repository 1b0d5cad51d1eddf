"""``sgp cancel``: end runs, also those that still wait."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, TargetArguments
from launcher.cli.table_printing import clean
from launcher.cli.watch import goes_on
from launcher.runs.find import Run, find_runs
from launcher.runs.json_fields import mapping
from launcher.runs.liveness import LIVE, Observer, read_files
from launcher.runs.run_folder import RunFolder, write_json
from launcher.system import processes, slurm_cli
from launcher.system.processes import Process
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
        print(f"{', '.join(targets)}: no runs are known to belong to it")
    due = [run for run in runs if _lives(run)]
    for run in due:
        if run.job_id is None and run.cluster == "slurm":
            raise ConfigurationError(f"{run.run_id} is being submitted this very moment: cancel it in a few seconds")
    told: dict[str, str] = {}
    if submitted := [run for run in due if run.job_id is not None]:  # first: it may be that nothing can be done
        told |= _cancel_jobs(submitted)
    for run in due:
        if run.job_id is None:
            told[run.run_id] = _ask(run)
    answers: list[dict[str, Any]] = []
    for run in runs:
        result = told.get(run.run_id) or f"nothing to end: {run.state}"
        answers.append({"run_id": run.run_id, "name": run.name, "state": run.state, "result": result})
        if not as_json:
            print(clean(f"{run.run_id}  {run.name}  {result}"))
    if as_json:
        print_json({"runs": answers})


def _lives(run: Run) -> bool:
    """Whether there is, or may be, something to end."""
    leaves = run.state not in LIVE and run.queued is not None and run.queued.state == "COMPLETING"
    return (goes_on(run) and not leaves) or not run.verified


def _cancel_jobs(runs: Sequence[Run]) -> dict[str, str]:
    """Have SLURM end jobs, of an array only the elements meant; return what has become of the runs."""
    for run in runs:
        _wish(run)  # first: the end of the job is not to queue it again
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
    told = {}
    for run in runs:
        job = now.get(str(run.job_id))
        if _waits(run) and (job is None or job.state == "PENDING"):  # else it has begun in the meantime
            run.folder.cancel.unlink(missing_ok=True)  # no worker will start, so that nobody else acts on it
            _write_cancelled(run.folder)
            told[run.run_id] = f"cancelled before job {run.job_id} started"
        else:
            told[run.run_id] = f"job {run.job_id} was told to end"
    return told


def _waits(run: Run) -> bool:
    return run.queued.state == "PENDING" if run.queued is not None else run.state == "queued"


def _write_cancelled(folder: RunFolder) -> None:
    files = read_files(folder)
    if files.status in (None, *LIVE, "preempted"):
        known = {"run_id": folder.path.name, "name": files.spec.get("name"), "steps": 0, "final": None, "best": None}
        write_json(folder.summary, {**known, **files.summary, "status": "cancelled", "error": None})


def _ask(run: Run) -> str:
    """Ask whoever watches a run that SLURM does not have."""
    launcher = mapping(mapping(run.spec.get("attempt")).get("launcher"))
    if run.cluster == "inline" and run.state == "running" and run.verified:  # it has no one beside it to look on
        processes.send(Process(launcher["pid"], str(launcher.get("started") or "")), signal.SIGTERM)
        return f"process {launcher['pid']}, which runs it inline, was told to end"
    _wish(run)
    return "asked to end" if run.verified else f"asked to end, though {run.note}"


def _wish(run: Run) -> None:
    try:
        run.folder.cancel.touch()
    except OSError as error:
        raise ConfigurationError(f"cannot write {run.folder.cancel}: {error.strerror or error}") from error

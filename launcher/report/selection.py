"""The runs of a report, their origin, and the folder of the report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launcher.config.redact import redact
from launcher.report.record import Record
from launcher.runs.find import LIVE, Run, Sweep, find, find_runs
from launcher.runs.json_fields import mapping
from sgp_core.errors import ConfigurationError

_MOST_IN_A_NAME = 3


@dataclass(frozen=True)
class Selection:
    """Runs, in the order of the report.

    Attributes:
        kind: ``Sweep 1234abcd``, ``Run 0123456789`` or ``12 runs``.
        folder: where the report is written.
        again: the arguments of ``sgp report`` that select the same runs.
        sweep: the record of the sweep; empty for runs that are not one.
    """

    runs: Sequence[Run]
    kind: str
    folder: Path
    again: str
    sweep: Mapping[str, Any] = field(default_factory=dict)


def select(targets: Sequence[str], runs_dir: Path) -> Selection:
    """Return the runs that the targets name.

    Raises:
        ConfigurationError: a target names nothing, or more than one thing.
    """
    found = find(targets[0], runs_dir) if len(targets) == 1 else None
    runs = [found] if isinstance(found, Run) else find_runs(targets, runs_dir)
    if isinstance(found, Sweep):
        if not runs:
            raise ConfigurationError(f"{found.path}/sweep.json lists no runs")
        return Selection(runs, f"Sweep {found.sweep_id}", found.path / "report", found.sweep_id, found.record)
    ids = [run.run_id for run in runs]
    again = " ".join(ids)
    if len(runs) == 1:
        return Selection(runs, f"Run {again}", runs[0].folder.path / "report", again)
    short = "-".join(ids) if len(ids) <= _MOST_IN_A_NAME else hashlib.sha256(again.encode()).hexdigest()[:8]
    return Selection(runs, f"{len(ids)} runs", Path(f"report-{short}"), again)


def origin(selection: Selection, records: Sequence[Record]) -> dict[str, Any]:
    """Return ``command``, ``whence`` (time, machine and commit of the runs) and ``made`` (when the report was made)."""
    known = [record.provenance for record in records if record.provenance]
    first: Mapping[str, Any] = known[0] if known else {}
    commands = {str(one["command"]) for one in known if one.get("command")}
    command = selection.sweep.get("command") or (commands.pop() if len(commands) == 1 else None)
    hosts = sorted({str(one["host"]) for one in known if one.get("host")})
    commits = sorted({commit for one in known if (commit := _commit(one))})
    parts = [
        _when(selection.sweep.get("created") or first.get("time")),
        f"on {', '.join(hosts[:3])}{' and others' if len(hosts) > 3 else ''}" if hosts else "",
        f"commit {commits[0]}" if len(commits) == 1 else f"{len(commits)} different commits" if commits else "",
    ]
    unfinished = sum(record.state in LIVE for record in records)
    made = (
        f"Made by stochastic-gradient-push {version('stochastic-gradient-push')}, {time.strftime('%d %B %Y, %H:%M')}."
    )
    if unfinished:
        made += f" Not all runs had ended; for the latest numbers: sgp report {selection.again}"
    command = redact(str(command)) if command else None  # earlier versions recorded it as it was
    return {"command": command, "whence": " · ".join(part for part in parts if part), "made": made}


def _when(given: Any) -> str:
    try:
        return datetime.strptime(str(given), "%Y-%m-%dT%H:%M:%S%z").strftime("%d %B %Y, %H:%M").lstrip("0")
    except ValueError:
        return ""


def _commit(provenance: Mapping[str, Any]) -> str:
    git = mapping(provenance.get("git"))
    return f"{str(git['sha'])[:8]}{' with changes' if git.get('uncommitted') else ''}" if git.get("sha") else ""

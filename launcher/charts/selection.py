"""Which runs a report is about, where they come from, and where it goes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launcher.charts.record import Record
from launcher.run_folder import read_json

_MOST_IN_A_NAME = 3


@dataclass(frozen=True)
class Selection:
    """Runs, in the order in which they are shown."""

    kind: str
    """``Sweep 1234abcd``, ``Run 0123456789`` or ``12 runs``."""
    folder: Path
    """Where their report belongs."""
    again: str
    """What one types to get it again."""
    sweep: Mapping[str, Any] | None = None
    """The record of the sweep, if they are one."""


def of_sweep(folder: Path) -> Selection:
    """Return the selection that a sweep's folder stands for."""
    return Selection(f"Sweep {folder.name}", folder / "report", folder.name, read_json(folder / "sweep.json") or {})


def of_runs(folders: Sequence[Path]) -> Selection:
    """Return the selection of runs by their folders."""
    names = [folder.name for folder in folders]
    again = " ".join(names)
    if len(folders) == 1:
        return Selection(f"Run {names[0]}", folders[0] / "report", again)
    short = "-".join(names) if len(names) <= _MOST_IN_A_NAME else hashlib.sha256(again.encode()).hexdigest()[:8]
    return Selection(f"{len(names)} runs", Path(f"report-{short}"), again)


def origin(selection: Selection, records: Sequence[Record]) -> dict[str, Any]:
    """Return command line, place and time of what is reported, and of the report."""
    known = [record.provenance for record in records if record.provenance]
    first: Mapping[str, Any] = known[0] if known else {}
    commands = {str(one["command"]) for one in known if one.get("command")}
    sweep = selection.sweep or {}
    command = sweep.get("command") or (commands.pop() if len(commands) == 1 else None)
    hosts = sorted({str(one["host"]) for one in known if one.get("host")})
    commits = sorted({commit for one in known if (commit := _commit(one))})
    parts = [
        _when(sweep.get("created") or first.get("time")),
        f"on {', '.join(hosts[:3])}{' and others' if len(hosts) > 3 else ''}" if hosts else "",
        f"commit {', '.join(commits[:3])}" if commits else "",
    ]
    unfinished = sum(record.state in ("running", "queued") for record in records)
    made = (
        f"Made by stochastic-gradient-push {version('stochastic-gradient-push')}, {time.strftime('%d %B %Y, %H:%M')}."
    )
    if unfinished:
        made += f" Not all runs had ended; for the latest numbers: sgp report {selection.again}"
    return {"command": command, "whence": " · ".join(part for part in parts if part), "made": made}


def _when(given: Any) -> str:
    try:
        return datetime.strptime(str(given), "%Y-%m-%dT%H:%M:%S%z").strftime("%d %B %Y, %H:%M").lstrip("0")
    except ValueError:
        return ""


def _commit(provenance: Mapping[str, Any]) -> str:
    git = provenance.get("git")
    if not isinstance(git, Mapping) or not git.get("sha"):
        return ""
    return f"{str(git['sha'])[:8]}{' with changes' if git.get('uncommitted') else ''}"

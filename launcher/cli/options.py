"""Options that commands share, and their completion in the shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from launcher.runs.find import all_sweeps, run_ids
from launcher.runs.json_fields import text
from launcher.runs.liveness import STATES
from launcher.runs.run_folder import RunFolder
from launcher.runs.settings import all_settings, format_setting
from sgp_core.atomic_files import read_json
from sgp_core.errors import ConfigurationError, did_you_mean

RUNS_DIR = Path("runs")

Completion = tuple[str, str]
"""A word and its description."""


def complete_runs(ctx: typer.Context, incomplete: str) -> list[Completion]:
    """Complete the ids of runs; if none matches, their names."""
    runs_dir = _runs_dir(ctx)
    ids = [run_id for run_id in run_ids(runs_dir) if run_id.startswith(incomplete)]
    if ids:
        return [(run_id, _describe(runs_dir / run_id)) for run_id in ids]
    names = {run_id: _name(runs_dir / run_id) for run_id in run_ids(runs_dir)} if incomplete else {}
    return [(name, run_id) for run_id, name in names.items() if name.startswith(incomplete)]


def complete_sweeps(ctx: typer.Context, incomplete: str) -> list[Completion]:
    """Complete the ids of sweeps."""
    return [
        (sweep.sweep_id, f"{len(sweep.run_ids)} runs, {sweep.created or '?'}")
        for sweep in all_sweeps(_runs_dir(ctx))
        if sweep.sweep_id.startswith(incomplete)
    ]


def complete_targets(ctx: typer.Context, incomplete: str) -> list[Completion]:
    """Complete the ids of sweeps and runs."""
    return [*complete_sweeps(ctx, incomplete), *complete_runs(ctx, incomplete)]


def complete_states(incomplete: str) -> Iterator[str]:
    """Complete states, separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    for state in STATES:
        if state.startswith(last) and state not in before.split(","):
            yield f"{before}{comma}{state}"


def complete_conditions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete names of settings, and after ``=`` the values that runs have."""
    runs_dir = _runs_dir(ctx)
    settings = [all_settings(read_json(RunFolder(runs_dir / run_id).spec) or {}) for run_id in run_ids(runs_dir)]
    key, chosen, _ = incomplete.partition("=")
    if chosen:
        offered = {f"{key}={format_setting(each[key])}" for each in settings if key in each}
    else:
        offered = {f"{name}=" for each in settings for name in each}
    return sorted(word for word in offered if word.startswith(incomplete))


def states(given: str | None) -> frozenset[str] | None:
    """Return the states that ``--state`` names; None if it is not given.

    Raises:
        ConfigurationError: a word is not a state.
    """
    if given is None:
        return None
    named = [word.strip() for word in given.split(",") if word.strip()]
    for word in named:
        if word not in STATES:
            raise ConfigurationError(f"--state {word}: no such state{did_you_mean(word, STATES)}")
    if not named:
        raise ConfigurationError(f"--state needs at least one of {', '.join(STATES)}")
    return frozenset(named)


RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Run id or name, or the beginning of one.", autocompletion=complete_runs)
]
SweepArgument = Annotated[
    str, typer.Argument(metavar="SWEEP", help="Sweep id, or the beginning of one.", autocompletion=complete_sweeps)
]
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|SWEEP", help="Id, or the beginning of one; a run's name.", autocompletion=complete_targets
    ),
]
TargetArguments = Annotated[
    list[str],
    typer.Argument(metavar="RUN|SWEEP...", help="Ids, or the beginnings of them.", autocompletion=complete_targets),
]
StateOption = Annotated[
    str | None,
    typer.Option(
        "--state", metavar="STATE,...", help=f"Only those that are {', '.join(STATES)}.", autocompletion=complete_states
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Run the code that a folder names, though you did not make it; do not ask.")
]
RunsDirOption = Annotated[Path, typer.Option("--runs-dir", metavar="FOLDER", help="Where the runs are.")]


def _runs_dir(ctx: typer.Context) -> Path:
    given: Any = ctx.params.get("runs_dir")
    return Path(given) if given else RUNS_DIR


def _name(path: Path) -> str:
    return text((read_json(RunFolder(path).spec) or {}).get("name")) or ""


def _describe(path: Path) -> str:
    summary = read_json(RunFolder(path).summary) or {}
    return f"{text(summary.get('name')) or _name(path) or '?'}, {text(summary.get('status')) or '?'}"

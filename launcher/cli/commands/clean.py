"""``sgp clean``: remove runs, or only their checkpoints."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from launcher.cli.confirm import confirm
from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, StateOption, complete_targets, states
from launcher.cli.table_printing import print_table
from launcher.runs.find import Run, Sweep, age, all_runs, find, find_runs
from launcher.runs.leftovers import leftovers, remove_leftover
from launcher.runs.liveness import Observer
from launcher.runs.number_format import size
from launcher.runs.plain_text import clean as cleaned
from launcher.runs.removal import (
    checkpoints_of,
    empty_sweeps,
    objection,
    remove_checkpoints,
    remove_run,
    remove_sweep,
    size_of,
)
from sgp_core.errors import ConfigurationError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Removal:
    """Runs and sweeps to remove, and those that have to stay.

    Attributes:
        kept: the reason why a run stays, by its id.
        bytes: sizes of runs and sweeps, by their ids.
    """

    runs: Sequence[Run]
    sweeps: Sequence[Path]
    kept: dict[str, str]
    bytes: dict[str, int]


def clean(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|SWEEP]...", help="Which; by default all there are.", autocompletion=complete_targets
        ),
    ] = None,
    state: StateOption = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Only those unchanged for so long: 12h, 30d, 2w."),
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Remove only checkpoints, of completed runs.")
    ] = False,
    replaced: Annotated[
        bool,
        typer.Option("--replaced", help="Remove runs that rerun=all replaced, and unused copies of the code."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")] = False,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Remove runs for good, never one that is queued or running."""
    wanted, limit = states(state), _seconds(older_than)
    if replaced:
        if targets or wanted or older_than or checkpoints:
            raise ConfigurationError("--replaced goes with neither runs nor other filters: give it alone")
        clean_leftovers(runs_dir, yes=yes, dry_run=dry_run, as_json=as_json)
        return
    if not (targets or wanted or older_than or checkpoints):
        raise ConfigurationError("say what to remove: runs, sweeps, --state, --older-than, --checkpoints or --replaced")
    observer = Observer(_PATIENCE_S)
    found = find_runs(targets, runs_dir, observer) if targets else all_runs(runs_dir, observer)
    matching = [run for run in found if (wanted is None or run.state in wanted) and _age(run) >= limit]
    removal = _plan(matching, _named_sweeps(targets or [], runs_dir), runs_dir, checkpoints=checkpoints)
    if not as_json:
        _show(removal, checkpoints=checkpoints)
    if (removal.runs or removal.sweeps) and not dry_run:
        confirm(len(removal.runs), yes=yes)
        removal = _remove(removal, runs_dir, remove_checkpoints if checkpoints else remove_run)
    if as_json:
        print_json(_as_data(removal, dry_run=dry_run))
    elif removal.runs or removal.sweeps:
        print(f"{'would remove' if dry_run else 'removed'} {_count(removal, checkpoints=checkpoints)}")


def _plan(matching: Sequence[Run], named: Sequence[str], runs_dir: Path, *, checkpoints: bool) -> Removal:
    """Return what to remove of the runs that match, and of the sweeps that were named."""
    runs, kept = [], {}
    for run in matching:
        if not run.folder.path.exists() or (checkpoints and not checkpoints_of(run.folder).is_dir()):
            continue
        why = objection(run, runs_dir)
        if why is None and checkpoints and run.state != "completed":
            why = f"{run.state}: only completed runs can do without checkpoints"
        if why is None:
            runs.append(run)
        else:
            kept[run.run_id] = why
    sizes = {run.run_id: size_of(checkpoints_of(run.folder) if checkpoints else run.folder.path) for run in runs}
    sweeps = [] if checkpoints else empty_sweeps(runs_dir, named, list(sizes))
    return Removal(runs, sweeps, kept, sizes | {path.name: size_of(path) for path in sweeps})


def _remove(planned: Removal, runs_dir: Path, remove: Callable[[Run, Path, Observer], str | None]) -> Removal:
    """Remove what is planned, and return what was removed."""
    observer = Observer(_PATIENCE_S)  # the user may have taken a while to answer
    kept = dict(planned.kept)
    for run in planned.runs:
        if why := remove(run, runs_dir, observer):
            kept[run.run_id] = why
            print(f"sgp: {run.run_id} stays: {why}", file=sys.stderr)
    gone = [run for run in planned.runs if run.run_id not in kept]
    sweeps = planned.sweeps if len(gone) == len(planned.runs) else []
    for path in sweeps:
        remove_sweep(path)
    return Removal(gone, sweeps, kept, planned.bytes)


def _named_sweeps(targets: Sequence[str], runs_dir: Path) -> list[str]:
    found = [find(target, runs_dir) for target in targets]
    return [one.sweep_id for one in found if isinstance(one, Sweep) and one.runs_dir.resolve() == runs_dir.resolve()]


def _seconds(given: str | None) -> float:
    if given is None:
        return 0.0
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)([{''.join(_UNITS)}])", given)
    if match is None:
        raise ConfigurationError(f"--older-than {given}: an age is a number with s, m, h, d or w, such as 30d")
    return float(match[1]) * _UNITS[match[2]]


def _age(run: Run) -> float:
    try:
        return time.time() - (run.last_sign or run.folder.path.stat().st_mtime)
    except OSError:
        return 0.0


# -- words ------------------------------------------------------------------------------------------------------------
def _show(removal: Removal, *, checkpoints: bool) -> None:
    if removal.runs:
        rows = [
            [run.run_id, run.name, run.state, age(run.last_sign), size(removal.bytes[run.run_id])]
            for run in removal.runs
        ]
        heading = ["run", "name", "state", "seen", "checkpoints" if checkpoints else "size"]
        print_table(heading, rows, right=("seen", heading[-1]))
    for path in removal.sweeps:
        print(f"sweep {path.name}: all its runs are removed")
    for run_id, why in removal.kept.items():
        print(cleaned(f"{run_id} stays: {why}"))
    if not (removal.runs or removal.sweeps):
        print("nothing to remove")


def _count(removal: Removal, *, checkpoints: bool) -> str:
    counts = [(len(removal.runs), "run"), (len(removal.sweeps), "sweep")]
    things = " and ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count)
    return f"{'the checkpoints of ' if checkpoints else ''}{things}, {size(_total(removal))}"


def _total(removal: Removal) -> int:
    return sum(
        removal.bytes[name] for name in (*(run.run_id for run in removal.runs), *(path.name for path in removal.sweeps))
    )


def _as_data(removal: Removal, *, dry_run: bool) -> dict[str, Any]:
    runs = [
        {"run_id": run.run_id, "name": run.name, "state": run.state, "bytes": removal.bytes[run.run_id]}
        for run in removal.runs
    ]
    return {
        "dry_run": dry_run,
        "removed": runs,
        "sweeps": [path.name for path in removal.sweeps],
        "kept": [{"run_id": run_id, "why": why} for run_id, why in removal.kept.items()],
        "bytes": _total(removal),
    }


def clean_leftovers(runs_dir: Path, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Show what lies beside the runs, ask for confirmation, and remove it."""
    found = {path: size_of(path) for path in leftovers(runs_dir)}
    if not as_json:
        rows = [[str(path.relative_to(runs_dir)), size(count)] for path, count in found.items()]
        print_table(["folder", "size"], rows, right=("size",)) if rows else print("nothing to remove")
    kept = {}
    if found and not dry_run:
        confirm(len(found), yes=yes)
        for path in found:
            if why := remove_leftover(path):
                kept[path] = why
                print(f"sgp: {path.relative_to(runs_dir)} stays: {why}", file=sys.stderr)
    gone = {str(path.relative_to(runs_dir)): count for path, count in found.items() if path not in kept}
    if as_json:
        stays = [{"folder": str(path.relative_to(runs_dir)), "why": why} for path, why in kept.items()]
        removed = [{"folder": folder, "bytes": count} for folder, count in gone.items()]
        print_json({"dry_run": dry_run, "removed": removed, "kept": stays, "bytes": sum(gone.values())})
    elif found:
        what = f"{len(gone)} folder{'s' if len(gone) != 1 else ''}, {size(sum(gone.values()))}"
        print(f"{'would remove' if dry_run else 'removed'} {what}")

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

from launcher.cli.confirm import make_sure
from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, StateOption, complete_targets, states
from launcher.cli.table_printing import clean as cleaned
from launcher.cli.table_printing import print_table
from launcher.runs.find import Run, Sweep, age, all_runs, find, find_runs
from launcher.runs.leftovers import leftovers, remove_leftover
from launcher.runs.liveness import Observer
from launcher.runs.number_format import size
from launcher.runs.removal import (
    checkpoints_of,
    emptied_sweeps,
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
    """What is to go, and what stays though it was meant."""

    runs: Sequence[Run]
    sweeps: Sequence[Path]
    kept: dict[str, str]
    """Run id -> why."""
    bytes: dict[str, int]
    """Of runs and sweeps, by id."""


def clean(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|SWEEP]...", help="Which; by default all there are.", autocompletion=complete_targets
        ),
    ] = None,
    state: StateOption = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only those without a sign of life for so long: 12h, 30d, 2w.")
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Remove only checkpoints, of completed runs.")
    ] = False,
    replaced: Annotated[
        bool, typer.Option("--replaced", help="Remove what rerun=all has set aside, and code that no run names.")
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
            raise ConfigurationError("--replaced is about what lies beside the runs: give it alone")
        clean_leftovers(runs_dir, yes=yes, dry_run=dry_run, as_json=as_json)
        return
    if not (targets or wanted or older_than or checkpoints):
        raise ConfigurationError("say what to remove: runs, sweeps, --state, --older-than, --checkpoints or --replaced")
    observer = Observer(_PATIENCE_S)
    found = find_runs(targets, runs_dir, observer) if targets else all_runs(runs_dir, observer)
    meant = [run for run in found if (wanted is None or run.state in wanted) and _age(run) >= limit]
    wish = _wish(meant, _named_sweeps(targets or [], runs_dir), runs_dir, checkpoints=checkpoints)
    if not as_json:
        _show(wish, checkpoints=checkpoints)
    if (wish.runs or wish.sweeps) and not dry_run:
        make_sure(len(wish.runs), yes=yes)
        wish = _removed(wish, runs_dir, remove_checkpoints if checkpoints else remove_run)
    if as_json:
        print_json(_as_data(wish, dry_run=dry_run))
    elif wish.runs or wish.sweeps:
        print(f"{'would remove' if dry_run else 'removed'} {_counted(wish, checkpoints=checkpoints)}")


def _wish(meant: Sequence[Run], named: Sequence[str], runs_dir: Path, *, checkpoints: bool) -> Removal:
    runs, kept = [], {}
    for run in meant:
        if not run.folder.path.exists() or (checkpoints and not checkpoints_of(run.folder).is_dir()):
            continue
        why = objection(run, runs_dir)
        if why is None and checkpoints and run.state != "completed":
            why = f"{run.state}, and only completed runs need no checkpoints"
        if why is None:
            runs.append(run)
        else:
            kept[run.run_id] = why
    sizes = {run.run_id: size_of(checkpoints_of(run.folder) if checkpoints else run.folder.path) for run in runs}
    sweeps = [] if checkpoints else emptied_sweeps(runs_dir, named, list(sizes))
    return Removal(runs, sweeps, kept, sizes | {path.name: size_of(path) for path in sweeps})


def _removed(wish: Removal, runs_dir: Path, remove: Callable[[Run, Path, Observer], str | None]) -> Removal:
    """Remove what is wished, and return what has gone."""
    observer = Observer(_PATIENCE_S)  # it may have taken a while to answer
    kept = dict(wish.kept)
    for run in wish.runs:
        if why := remove(run, runs_dir, observer):
            kept[run.run_id] = why
            print(f"sgp: {run.run_id} stays: {why}", file=sys.stderr)
    gone = [run for run in wish.runs if run.run_id not in kept]
    sweeps = wish.sweeps if len(gone) == len(wish.runs) else []
    for path in sweeps:
        remove_sweep(path)
    return Removal(gone, sweeps, kept, wish.bytes)


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
def _show(wish: Removal, *, checkpoints: bool) -> None:
    if wish.runs:
        rows = [
            [run.run_id, run.name, run.state, age(run.last_sign), size(wish.bytes[run.run_id])] for run in wish.runs
        ]
        heading = ["run", "name", "state", "seen", "checkpoints" if checkpoints else "size"]
        print_table(heading, rows, right=("seen", heading[-1]))
    for path in wish.sweeps:
        print(f"sweep {path.name}, of which nothing is left")
    for run_id, why in wish.kept.items():
        print(cleaned(f"{run_id} stays: {why}"))
    if not (wish.runs or wish.sweeps):
        print("nothing to remove")


def _counted(wish: Removal, *, checkpoints: bool) -> str:
    counts = [(len(wish.runs), "run"), (len(wish.sweeps), "sweep")]
    said = " and ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count)
    return f"{'the checkpoints of ' if checkpoints else ''}{said}, {size(_total(wish))}"


def _total(wish: Removal) -> int:
    return sum(wish.bytes[name] for name in (*(run.run_id for run in wish.runs), *(path.name for path in wish.sweeps)))


def _as_data(wish: Removal, *, dry_run: bool) -> dict[str, Any]:
    runs = [
        {"run_id": run.run_id, "name": run.name, "state": run.state, "bytes": wish.bytes[run.run_id]}
        for run in wish.runs
    ]
    return {
        "dry_run": dry_run,
        "removed": runs,
        "sweeps": [path.name for path in wish.sweeps],
        "kept": [{"run_id": run_id, "why": why} for run_id, why in wish.kept.items()],
        "bytes": _total(wish),
    }


def clean_leftovers(runs_dir: Path, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Say what there is, make sure, and remove it."""
    found = {path: size_of(path) for path in leftovers(runs_dir)}
    if not as_json:
        rows = [[str(path.relative_to(runs_dir)), size(count)] for path, count in found.items()]
        print_table(["folder", "size"], rows, right=("size",)) if rows else print("nothing to remove")
    kept = {}
    if found and not dry_run:
        make_sure(len(found), yes=yes)
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

"""``sgp clean --replaced``: remove what lies beside the run folders and nobody needs."""

from __future__ import annotations

import sys
from pathlib import Path

from launcher.cli.confirm import make_sure
from launcher.cli.json_output import print_json
from launcher.cli.table_printing import print_table
from launcher.report.number_format import size
from launcher.runs.leftovers import leftovers, remove_leftover
from launcher.runs.removal import size_of


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

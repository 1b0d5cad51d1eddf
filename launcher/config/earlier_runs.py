"""Runs that a new one builds on, found by what a user calls them."""

from __future__ import annotations

import re
from pathlib import Path

from sgp_core.atomic_files import read_json
from sgp_core.errors import ConfigurationError, did_you_mean

_RUN_ID = re.compile("[0-9a-f]{10}")
_MOST_NAMED = 5


def find_run_folder(option: str, given: str, runs_dir: Path) -> Path:
    """Return the folder of a run by its id or the beginning of it, by its name, or by the path of its folder.

    Args:
        option: where it is named, for messages.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    if "/" in given:
        path = Path(given).expanduser().absolute()
        if not (path / "spec.json").is_file():
            raise ConfigurationError(f"{option}={given}: this is not the folder of a run")
        return path
    folders = {path.name: path for path in runs_dir.glob("*/") if _RUN_ID.fullmatch(path.name)}
    found = [name for name in folders if given and name.startswith(given)]
    if not found:
        names = {name: str((read_json(path / "spec.json") or {}).get("name")) for name, path in folders.items()}
        found = [run_id for run_id, name in names.items() if name == given]
    if not found:
        hint = did_you_mean(given, {*folders, *names.values()})
        hint = hint if hint.endswith("?") else "; sgp runs lists them"
        raise ConfigurationError(f"{option}={given}: there is no such run in {runs_dir}{hint}")
    if len(found) > 1:
        more = ", ..." if len(found) > _MOST_NAMED else ""
        some = ", ".join(sorted(found)[:_MOST_NAMED])
        raise ConfigurationError(f"{option}={given} could be {some}{more}: give more of the id")
    return folders[found[0]].absolute()

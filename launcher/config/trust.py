"""Whether this user has made a run folder, since a folder of another's may name any code to run.

The launcher signs every ``spec.json`` that it writes, with a key that only its user can read. A signature is valid in
the folder where it was made: what was copied, sent or unpacked is another's until it is trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIGNATURE = "signature"
"""Key of ``spec.json``."""

_CODE_OF_SLURM = ("setup", "python", "srun_args", "additional_parameters")
"""Options of ``cluster=slurm`` that are commands, or parts of some."""


def sign(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``spec.json`` with this user's signature; without one where no key can be kept."""
    unsigned = {key: value for key, value in spec.items() if key != SIGNATURE}
    key = _key(make=True)
    return unsigned if key is None else {**unsigned, SIGNATURE: _signature(key, unsigned)}


def is_made_here(spec: Mapping[str, Any], folder: Path) -> bool:
    """Whether this user's launcher wrote ``spec`` to the run folder ``folder``, where it still is."""
    key, given, place = _key(make=False), spec.get(SIGNATURE), spec.get("run_dir")
    if key is None or not isinstance(given, str) or not isinstance(place, str):
        return False
    unsigned = {name: value for name, value in spec.items() if name != SIGNATURE}
    same_place = os.path.realpath(place) == os.path.realpath(folder)
    return same_place and hmac.compare_digest(given.encode(), _signature(key, unsigned).encode())


def plugins_of(spec: Mapping[str, Any]) -> list[str]:
    """Return the plug-ins that a run loads, in words."""
    plugins = spec.get("plugins")
    named = plugins if isinstance(plugins, list) else []
    return [f"the plug-in {plugin.get('path')}" for plugin in named if isinstance(plugin, Mapping)]


def code_of(spec: Mapping[str, Any]) -> list[str]:
    """Return what a run executes besides the installed package: its copy of the code, plug-ins, commands for SLURM."""
    snapshot, cluster = spec.get("snapshot"), spec.get("cluster")
    options = cluster if isinstance(cluster, Mapping) else {}
    return [
        *([f"the copy of the code {snapshot}"] if snapshot else []),
        *plugins_of(spec),
        *(f"cluster.{option}={options[option]}" for option in _CODE_OF_SLURM if options.get(option)),
    ]


def links_of(folder: Path) -> list[str]:
    """Return the links in a run folder that lead out of it, in words: what is written there lands elsewhere."""
    home = os.path.realpath(folder)
    found = []
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            if os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(home):
                found.append(f"the link {os.path.relpath(path, folder)} to {os.readlink(path)}")
    return found


def sets_code(key: str) -> bool:
    """Whether a setting can name code to run: plug-ins, Hydra's own settings, and commands for SLURM."""
    section, _, option = key.partition(".")
    return section in ("plugins", "snapshot") or section.startswith("hydra") or option in _CODE_OF_SLURM


def _signature(key: bytes, spec: Mapping[str, Any]) -> str:
    content = json.dumps(json.loads(json.dumps(spec)), sort_keys=True)
    return hmac.new(key, content.encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    """Return the user's key, None if there is none, and with ``make`` if none can be written."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the user has no home
        home = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "sgp"
        path = home / "signing-key"
        if make and not path.exists():
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = home / f".signing-key.{os.getpid()}.tmp"
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
            with contextlib.suppress(FileExistsError):  # another launcher was faster
                os.link(draft, path)
            draft.unlink()
        return path.read_bytes() or None
    return None

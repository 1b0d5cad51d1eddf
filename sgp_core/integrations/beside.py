"""Where every worker's own state lies beside a checkpoint file that holds the average."""

from __future__ import annotations

import re
import secrets
import shutil
import string
from pathlib import Path

from sgp_core.errors import ConfigurationError

_LETTERS = 8


def new_folder(checkpoint: Path) -> Path:
    """Return a folder beside ``checkpoint`` that does not exist yet: ``<file>.gossip-<letters>``.

    A file that is written anew gets a folder of a new name, and the file names its folder. So a process that is killed
    at any instant leaves the former file with the former folder, or the new with the new. The letters are no digits:
    frameworks read numbers of checkpoints from names.
    """
    token = "".join(secrets.choice(string.ascii_lowercase) for _ in range(_LETTERS))
    return checkpoint.with_name(f"{checkpoint.name}.gossip-{token}")


def find_folder(checkpoint: Path, name: str) -> Path:
    """Return the folder that a checkpoint names, looked for beside the file, and beside what it is a link to.

    Raises:
        ConfigurationError: it is not there.
    """
    for place in (checkpoint, checkpoint.resolve()):
        if (folder := place.with_name(Path(name).name)).is_dir():
            return folder
    raise ConfigurationError(
        f"{checkpoint} holds the average model alone: the folder {Path(name).name} beside it, with the state of every"
        " worker, is missing; copy it there, or train from the average as from any weights, without ckpt_path"
    )


def remove_folders(checkpoint: Path, keep: Path | None = None) -> None:
    """Remove the folders of former saves of ``checkpoint``, all but ``keep``."""
    pattern = re.compile(rf"{re.escape(checkpoint.name)}\.gossip-[a-z]{{{_LETTERS}}}")
    for path in checkpoint.parent.glob(f"{_escape_glob(checkpoint.name)}.gossip-*"):
        if pattern.fullmatch(path.name) and path != keep:
            shutil.rmtree(path, ignore_errors=True)


def _escape_glob(name: str) -> str:
    return re.sub(r"([\[*?])", r"[\1]", name)

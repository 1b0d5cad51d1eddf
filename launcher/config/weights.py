"""``model.weights``: from what a user names to a file and its checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from launcher.config.earlier_runs import find_run_folder
from sgp_core.errors import ConfigurationError
from sgp_core.training.config import choice, registry

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_PRETRAINED = "pretrained"
_MODEL = "model.safetensors"
_OPTIONS = ("weights", "weights_except", "weights_sha256")


def locate_weights(model: Mapping[str, Any], runs_dir: Path) -> dict[str, Any]:
    """Return a model's choice with the path and the checksum of the weights that it starts from, if it does.

    Raises:
        ConfigurationError: there is no such file or run, or the checksum is another.
    """
    given = model.get("weights")
    if given is None:
        for option in _OPTIONS[1:]:
            if model.get(option):
                raise ConfigurationError(f"model.{option} needs model.weights")
        return {option: value for option, value in model.items() if option not in _OPTIONS}
    path = _find(str(given), model, runs_dir)
    try:
        status = path.stat()
        digest = _checksum(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise ConfigurationError(f"model.weights={given} cannot be read: {error.strerror or error}") from error
    if model.get("weights_sha256") not in (None, digest):
        raise ConfigurationError(f"model.weights={given} has checksum {digest}, not model.weights_sha256")
    return {**model, "weights": str(path), "weights_sha256": digest}


def _find(given: str, model: Mapping[str, Any], runs_dir: Path) -> Path:
    path = Path(given).expanduser().absolute()
    if path.suffix in _SUFFIXES or path.is_file():
        if not path.is_file():
            raise ConfigurationError(f"model.weights={given}: there is no such file")
        return path
    if given == _PRETRAINED or given.isupper() or "_V" in given:
        name, options = choice(model)
        published: Path | None = registry("model").build(name, **options).find_pretrained(given)
        if published is None:
            raise ConfigurationError(f"model.weights={given}: model={name} has no such weights; name a file or a run")
        return published
    folder = find_run_folder("model.weights", given, runs_dir)
    if not (folder / _MODEL).is_file():
        raise ConfigurationError(
            f"model.weights={given}: run {folder.name} has no {_MODEL}, which is written at its end; "
            f"sgp export {folder.name} writes a file from its last checkpoint"
        )
    return folder / _MODEL


@lru_cache(maxsize=16)  # the points of a sweep start from the same file
def _checksum(path: Path, changed_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

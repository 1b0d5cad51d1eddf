"""``manifest.json``, which makes a checkpoint complete: what was saved, with a checksum of each file and of itself."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import write_json
from sgp_core.checkpoint_files import CHECKSUM, CheckpointError, CheckpointShard, has_valid_seal, seal

MANIFEST = "manifest.json"
_KEYS = {"schema_version", "step", "world_size", "experiment", "score", "shards"}


@dataclass(frozen=True)
class Manifest:
    """The contents of ``manifest.json``."""

    step: int
    world_size: int
    experiment: str
    """Fingerprint of the experiment that wrote it."""
    score: float | None
    """How good the model was at this step, higher is better, if it was evaluated."""
    shards: tuple[CheckpointShard, ...]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of the checkpoint in ``folder``, durably.

    Raises:
        OSError: what the file system said.
    """
    content = {"schema_version": 1, **asdict(manifest), "shards": [asdict(shard) for shard in manifest.shards]}
    write_json(folder / MANIFEST, seal(content), durable=True)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the checkpoint in ``folder``.

    Raises:
        CheckpointError: it is missing or damaged; the message says which.
    """
    path = folder / MANIFEST
    content: Any = None
    if not path.exists():
        raise CheckpointError(f"{folder} has no {MANIFEST}")
    try:
        if not path.is_file():  # to open a pipe would wait for ever
            raise ValueError
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        pass
    manifest = _parse(content) if isinstance(content, dict) and has_valid_seal(content) else None
    if manifest is None or folder.name != f"step-{manifest.step}":
        raise CheckpointError(f"{path} is damaged")
    return manifest


def _parse(content: dict[str, Any]) -> Manifest | None:
    step, world_size, score = _count(content.get("step")), _count(content.get("world_size")), content.get("score")
    experiment, shards = content.get("experiment"), content.get("shards")
    if content.keys() - {CHECKSUM} != _KEYS:  # a checksum under a damaged name is none
        return None
    if step is None or world_size is None or not isinstance(experiment, str):
        return None
    if score is not None and not (isinstance(score, int | float) and math.isfinite(score)):
        return None
    if not isinstance(shards, list) or len(shards) not in (1, world_size):  # virtual workers write one
        return None
    parsed = [_parse_shard(shard, rank) for rank, shard in enumerate(shards)]
    whole = tuple(shard for shard in parsed if shard is not None)
    return Manifest(step, world_size, experiment, score, whole) if len(whole) == len(shards) else None


def _parse_shard(content: Any, rank: int) -> CheckpointShard | None:
    if not isinstance(content, dict) or content.keys() != {"file", "bytes", "sha256"}:
        return None
    file, size, sha256 = content["file"], _count(content["bytes"]), content["sha256"]
    known = file == f"rank-{rank}.pt"  # and never a path out of the folder
    if not known or size is None or not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        return None
    return CheckpointShard(file, size, sha256)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

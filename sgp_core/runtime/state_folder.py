"""A folder with the state of every worker, which holds the former save until the new one is whole."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from sgp_core.atomic_files import read_json, write_json
from sgp_core.checkpoint_files import (
    CheckpointError,
    CheckpointShard,
    has_valid_seal,
    read_shard,
    seal,
    write_shard,
)
from sgp_core.distributed.process_group import gather_objects

T = TypeVar("T")

MANIFEST = "manifest.json"
_SHARD = re.compile(r"\.?rank-(\d+)-[0-9a-f]{8}\.pt(\.\d+\.tmp)?$")


class StateFolder:
    """The folder of a save: ``rank-<k>-<random>.pt`` of every worker, and ``manifest.json``, which names them.

    The manifest is replaced in one go once all files are on disk, and the files of the former save are removed after
    that. So a process that is killed at any instant leaves the former save or the new one, and nothing in between.
    Workers need not share the folder: each reads its own file, and rank 0 the manifest.

    Args:
        path: the folder; made when it is first written to.
        group: the workers, None for the default group; without torch.distributed, a world of one.
    """

    def __init__(self, path: str | Path, group: dist.ProcessGroup | None) -> None:
        self.path = Path(path)
        self._group = group
        self.rank = dist.get_rank(group) if dist.is_initialized() else 0

    def write(self, state: dict[str, Any], facts: dict[str, Any]) -> None:
        """Save the state of every worker, in the place of what the folder holds. Collective.

        Args:
            state: this worker's.
            facts: more for the manifest; those of rank 0 count.

        Raises:
            CheckpointError: on all workers alike, if one could not write. The folder holds what it held.
        """
        token = gather_objects(secrets.token_hex(4), self._group)[0]
        shard: CheckpointShard | None = None

        def write() -> None:
            nonlocal shard
            if self.path.is_file():
                raise OSError("it is a file, not a folder")
            self.path.mkdir(parents=True, exist_ok=True)
            shard = write_shard(self.path / f"rank-{self.rank}-{token}.pt", state)

        def commit() -> None:
            if self.rank == 0:
                content = {"schema_version": 1, "kind": "gossip", **facts, "shards": [asdict(each) for each in shards]}
                write_json(self.path / MANIFEST, seal(content), durable=True)

        try:
            self._together("cannot save to", write)
            shards = gather_objects(shard, self._group)
            self._together("cannot save to", commit)
        except CheckpointError:
            if shard is not None:
                (self.path / shard.file).unlink(missing_ok=True)
            raise
        self._remove_others({each.file for each in shards})

    def manifest(self) -> dict[str, Any]:
        """Return the manifest. Collective.

        Raises:
            CheckpointError: on all workers alike, if there is none, or it is damaged.
        """
        path = self.path / MANIFEST
        content, there = (read_json(path), path.exists()) if self.rank == 0 else (None, False)
        content, there = gather_objects((content, there), self._group)[0]
        if not there:
            raise CheckpointError(f"{self.path} holds nothing that gossip.save() has completed: {MANIFEST} is missing")
        if content is None or not has_valid_seal(content) or not _is_manifest(content):
            raise CheckpointError(f"{path} is damaged, or not of gossip.save()")
        return content

    def read(self, manifest: dict[str, Any], rank: int) -> dict[str, Any]:
        """Return what ``rank`` has saved, tensors on the CPU.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        state: dict[str, Any] = read_shard(self.path, CheckpointShard(**manifest["shards"][rank]))
        return state

    def _together(self, what: str, act: Callable[[], None]) -> None:
        """Do something on every worker; if it fails on one, raise on all."""
        problem: str | None = None
        try:
            act()
        except Exception as error:  # pickling raises errors of all kinds
            problem = str(error)
        problems = gather_objects(problem, self._group)
        for rank, reason in enumerate(problems):
            if reason is not None:
                raise CheckpointError(f"{what} {self.path}: rank {rank}: {reason}")

    def _remove_others(self, kept: set[str]) -> None:
        """Remove the files of former saves: this worker's own, and by rank 0 those of all."""
        for path in self.path.iterdir():
            found = _SHARD.match(path.name)
            if found and path.name not in kept and self.rank in (0, int(found[1])):
                path.unlink(missing_ok=True)


def _is_manifest(content: dict[str, Any]) -> bool:
    """Whether this names a file of every worker, and none outside of the folder."""
    shards = content.get("shards")
    if (
        content.get("kind") != "gossip"
        or not isinstance(shards, list)
        or content.get("world_size", len(shards)) != len(shards)
    ):
        return False
    for rank, shard in enumerate(shards):
        if not isinstance(shard, dict) or shard.keys() != {"file", "bytes", "sha256"}:
            return False
        found = _SHARD.match(str(shard["file"]))
        if found is None or int(found[1]) != rank:
            return False
    return True

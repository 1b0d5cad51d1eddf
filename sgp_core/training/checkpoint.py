"""Checkpoints on disk: one shard per rank, and a manifest without which a checkpoint does not exist.

``checkpoints/step-<n>/rank-<k>.pt`` are written by their ranks, each to a temporary name, synced, then renamed, and
announced by ``rank-<k>.done``. When all are announced rank 0 writes ``manifest.json`` with the size and SHA-256 of
each. Until then the folder has a file ``unfinished``; a folder that is deleted is renamed first. So a process killed at
any instant leaves complete checkpoints and leftovers that are recognised as such, never something that loads wrongly,
and a checkpoint whose manifest is lost is told from a leftover.

Ranks agree through these files alone, so that writing needs no process group and can run in a thread.
Replicas of decentralised training differ: nothing is ever saved under a key that two ranks share.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import write_json
from sgp_core.checkpoint_files import CheckpointError, CheckpointShard, read_shard, write_shard
from sgp_core.errors import ConfigurationError
from sgp_core.same_folder import SameFolder
from sgp_core.training.manifest import MANIFEST, Manifest, read_manifest, write_manifest

__all__ = ["CheckpointError", "CheckpointShard", "CheckpointStore", "Manifest", "State"]

State = dict[str, Any]
"""Tensors, numbers, strings, lists and dicts of them."""

_POLL_SECONDS = 0.02
_NAME = re.compile(r"step-(0|[1-9]\d{0,17})")
_UNFINISHED = "unfinished"
"""A file that is in a folder for as long as it is not a checkpoint yet."""
_REMOVED, _DAMAGED = "removed-", "damaged-"
"""What the name of a folder begins with that is being deleted, or was found damaged."""


class CheckpointStore:
    """The checkpoints in ``directory/checkpoints`` of a run with ``world_size`` workers.

    Args:
        experiment: fingerprint of the experiment, written into manifests and compared on resume.
        shards: files of a checkpoint: 1 of virtual workers, which are one process; None: one of each worker.
        patience: seconds :meth:`commit` waits for the other ranks' shards.
    """

    def __init__(
        self,
        directory: Path,
        world_size: int,
        experiment: str = "",
        patience: float = 900.0,
        shards: int | None = None,
    ) -> None:
        self.folder = Path(directory) / "checkpoints"
        self._directory = SameFolder(Path(directory))
        self._world_size = world_size
        self._shards = world_size if shards is None else shards
        self._experiment = experiment
        self._patience = patience

    def step_folder(self, step: int) -> Path:
        """Return the folder of one checkpoint."""
        return self.folder / f"step-{step}"

    # -- writing ------------------------------------------------------------------------------------------------
    def write_shard(self, step: int, rank: int, state: State) -> None:
        """Write one rank's state and announce it.

        Raises:
            CheckpointError: the file system refused (disk full, no permission), or the directory is not there any more.
        """
        folder = self.step_folder(step)
        try:
            self._directory.check()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _UNFINISHED).touch()
            path = folder / f"rank-{rank}.pt"
            shard = write_shard(path, state)
            write_json(path.with_suffix(".done"), asdict(shard), durable=True)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"cannot write checkpoint {folder}/rank-{rank}.pt: {_reason(error)}") from error

    def commit(self, step: int, score: float | None = None, abandoned: Callable[[], bool] = lambda: False) -> bool:
        """Wait until every rank announced its shard, then make the checkpoint exist. Rank 0 only.

        Args:
            abandoned: returns whether the wait is in vain, since a worker has died.

        Returns:
            Whether the checkpoint exists; if not, what was written is left to :meth:`clean`.

        Raises:
            CheckpointError: a rank announced nothing in time, or the file system refused.
        """
        folder = self.step_folder(step)
        announced = [folder / f"rank-{rank}.done" for rank in range(self._shards)]
        deadline = time.monotonic() + self._patience
        while missing := [path.stem for path in announced if not path.exists()]:
            if abandoned():
                return False
            if time.monotonic() > deadline:
                raise CheckpointError(f"checkpoint {folder} misses {', '.join(missing)}: {self._patience:g} s over")
            time.sleep(_POLL_SECONDS)
        try:
            self._directory.check()
            shards = tuple(CheckpointShard(**json.loads(path.read_text(encoding="utf-8"))) for path in announced)
            write_manifest(folder, Manifest(step, self._world_size, self._experiment, score, shards))
            for path in (*announced, folder / _UNFINISHED):
                path.unlink(missing_ok=True)
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"cannot write checkpoint {folder}/{MANIFEST}: {_reason(error)}") from error
        return True

    # -- reading ------------------------------------------------------------------------------------------------
    def manifests(self) -> list[Manifest]:
        """Return the complete checkpoints, newest first."""
        found = []
        for folder in self._folders():
            with contextlib.suppress(CheckpointError):
                found.append(read_manifest(folder))
        return sorted(found, key=lambda one: one.step, reverse=True)

    def find_damage(self) -> list[tuple[Path, str]]:
        """Return the checkpoints whose manifest is missing or damaged, each with the reason, the newest first.

        Leftovers of saving are not among them, but may be: call :meth:`clean` first.
        """
        found = []
        for folder in self._folders():
            try:
                read_manifest(folder)
            except CheckpointError as error:
                found.append((folder, str(error)))
        return sorted(found, key=lambda one: (len(one[0].name), one[0].name), reverse=True)

    @property
    def has_set_aside(self) -> bool:
        """Whether there is a checkpoint that was found damaged, now or before."""
        return any(self.folder.glob(f"{_DAMAGED}*"))

    def check(self, manifest: Manifest) -> None:
        """Refuse a checkpoint of another experiment or world size.

        Raises:
            ConfigurationError: with what differs.
        """
        if manifest.world_size != self._world_size:
            raise ConfigurationError(
                f"the checkpoints in {self.folder} were saved by {manifest.world_size} workers, not "
                f"{self._world_size}: use {manifest.world_size} workers or another folder"
            )
        if self._experiment and manifest.experiment != self._experiment:
            raise ConfigurationError(
                f"the checkpoints in {self.folder} belong to another experiment: use another folder"
            )

    def check_shards(self, manifest: Manifest) -> None:
        """Refuse a checkpoint of processes where workers are virtual, and the other way round.

        Raises:
            ConfigurationError: it says which it is.
        """
        if len(manifest.shards) != self._shards:
            virtual, processes = "virtual workers, in one process", "processes, one for each worker"
            were, are = (processes, virtual) if len(manifest.shards) > 1 else (virtual, processes)
            raise ConfigurationError(
                f"the checkpoints in {self.folder} were saved by {were}, and these are {are}: go on as it was, or use"
                " another folder"
            )

    def read_shard(self, manifest: Manifest, rank: int) -> State:
        """Return what ``rank`` saved, tensors on the CPU.

        Raises:
            CheckpointError: the file is missing, or its size or checksum is not the manifest's.
        """
        state: State = read_shard(self.step_folder(manifest.step), manifest.shards[rank])
        return state

    # -- keeping tidy (rank 0 only) -----------------------------------------------------------------------------
    def clean(self) -> None:
        """Remove the leftovers of interrupted saving or deleting. Must not run while a rank is writing."""
        for folder in self._folders():
            if not (folder / MANIFEST).exists() and _is_leftover(folder):
                shutil.rmtree(folder)
        for folder in self.folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in self._folders():
            for pattern in (".*.tmp", "*.done", _UNFINISHED):
                for leftover in folder.glob(pattern):
                    leftover.unlink()

    def prune(self, keep_last: int, keep_best: bool) -> None:
        """Remove all but the newest ``keep_last`` complete checkpoints and, if asked, the best-scored one."""
        manifests = self.manifests()
        kept = {manifest.step for manifest in manifests[:keep_last]}
        scored = [manifest for manifest in manifests if manifest.score is not None]
        if keep_best and scored:
            kept.add(max(scored, key=lambda one: (one.score, -one.step)).step)
        for manifest in manifests:
            if manifest.step not in kept:
                self.remove(manifest.step)

    def remove(self, step: int) -> None:
        """Delete one checkpoint; interrupted at any instant, it is either complete or recognised as a leftover."""
        folder = self.step_folder(step)
        removed = folder.with_name(f"{_REMOVED}{folder.name}")
        shutil.rmtree(removed, ignore_errors=True)
        os.replace(folder, removed)
        shutil.rmtree(removed)

    def _folders(self) -> list[Path]:
        """Return the folders of checkpoints, whole or not; what else has such a name is passed over."""
        found = self.folder.glob("step-*")
        return [each for each in found if _NAME.fullmatch(each.name) and each.is_dir() and not each.is_symlink()]

    def set_aside(self, folder: Path) -> Path:
        """Rename a damaged checkpoint to ``damaged-step-<n>``, out of the way, but not deleted; return the new path."""
        aside = folder.with_name(f"{_DAMAGED}{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
        return aside


def _reason(error: Exception) -> str:
    """Return what an error says beside the path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _is_leftover(folder: Path) -> bool:
    """Whether a folder without a manifest was never a checkpoint. One that has lost it is not to be deleted."""
    names = {path.name for path in folder.iterdir()}
    return not names or _UNFINISHED in names or any(name.endswith((".done", ".tmp")) for name in names)

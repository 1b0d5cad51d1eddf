"""Checkpoints on disk: one shard per rank, and a manifest without which a checkpoint does not exist.

``checkpoints/step-<n>/rank-<k>.pt`` are written by their ranks, each to a temporary name, synced, then renamed, and
announced by ``rank-<k>.done``. When all are announced rank 0 writes ``manifest.json`` with the size and SHA-256 of
each. Deleting goes the other way round: manifest first. So a process killed at any instant leaves complete
checkpoints and leftovers that are recognised as such, never something that loads wrongly.

Ranks agree through these files alone, so that writing needs no process group and can run in a thread.
Replicas of decentralised training differ: nothing is ever saved under a key that two ranks share.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import write_json
from sgp_core.checkpoint_files import CheckpointError, CheckpointShard, read_shard, write_shard
from sgp_core.errors import ConfigurationError

__all__ = ["CheckpointError", "CheckpointShard", "CheckpointStore", "Manifest", "State"]

State = dict[str, Any]
"""Tensors, numbers, strings, lists and dicts of them."""

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Manifest:
    """The contents of ``manifest.json``, which makes a checkpoint complete."""

    step: int
    world_size: int
    experiment: str
    """Fingerprint of the experiment that wrote it."""
    score: float | None
    """How good the model was at this step, higher is better, if it was evaluated."""
    shards: tuple[CheckpointShard, ...]


class CheckpointStore:
    """The checkpoints in ``directory/checkpoints`` of a run with ``world_size`` workers.

    Args:
        experiment: fingerprint of the experiment, written into manifests and compared on resume.
        patience: seconds :meth:`commit` waits for the other ranks' shards.
    """

    def __init__(self, directory: Path, world_size: int, experiment: str = "", patience: float = 900.0) -> None:
        self.folder = Path(directory) / "checkpoints"
        self._world_size = world_size
        self._experiment = experiment
        self._patience = patience

    def step_folder(self, step: int) -> Path:
        """Return the folder of one checkpoint."""
        return self.folder / f"step-{step}"

    # -- writing ------------------------------------------------------------------------------------------------
    def write_shard(self, step: int, rank: int, state: State) -> None:
        """Write one rank's state and announce it.

        Raises:
            CheckpointError: the file system refused (disk full, no permission).
        """
        folder = self.step_folder(step)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"rank-{rank}.pt"
            shard = write_shard(path, state)
            write_json(path.with_suffix(".done"), asdict(shard), durable=True)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"cannot write checkpoint {folder}/rank-{rank}.pt: {error}") from error

    def commit(self, step: int, score: float | None = None) -> None:
        """Wait until every rank announced its shard, then make the checkpoint exist. Rank 0 only.

        Raises:
            CheckpointError: a rank announced nothing in time, or the file system refused.
        """
        folder = self.step_folder(step)
        announced = [folder / f"rank-{rank}.done" for rank in range(self._world_size)]
        deadline = time.monotonic() + self._patience
        while missing := [path.stem for path in announced if not path.exists()]:
            if time.monotonic() > deadline:
                raise CheckpointError(f"checkpoint {folder} misses {', '.join(missing)}: {self._patience:g} s over")
            time.sleep(_POLL_SECONDS)
        try:
            shards = [json.loads(path.read_text(encoding="utf-8")) for path in announced]
            write_json(
                folder / "manifest.json",
                {
                    "schema_version": 1,
                    "step": step,
                    "world_size": self._world_size,
                    "experiment": self._experiment,
                    "score": score,
                    "shards": shards,
                },
                durable=True,
            )
            for path in announced:
                path.unlink()
        except OSError as error:
            raise CheckpointError(f"cannot write checkpoint {folder}/manifest.json: {error}") from error

    # -- reading ------------------------------------------------------------------------------------------------
    def manifests(self) -> list[Manifest]:
        """Return the complete checkpoints, newest first."""
        found = [_read_manifest(path) for path in self.folder.glob("step-*/manifest.json")]
        return sorted((manifest for manifest in found if manifest), key=lambda one: one.step, reverse=True)

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
        for folder in self.folder.glob("step-*"):
            if not (folder / "manifest.json").exists():
                shutil.rmtree(folder)
        for leftover in self.folder.glob("step-*/*.tmp"):
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
        (folder / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(folder)

    def set_aside(self, step: int) -> None:
        """Rename a damaged checkpoint to ``damaged-step-<n>``: out of the way, but not deleted."""
        aside = self.folder / f"damaged-step-{step}"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(self.step_folder(step), aside)


def _read_manifest(path: Path) -> Manifest | None:
    """Return the manifest, or None for one that is unreadable or does not fit its folder."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(
            step=int(content["step"]),
            world_size=int(content["world_size"]),
            experiment=str(content["experiment"]),
            score=content["score"],
            shards=tuple(CheckpointShard(**shard) for shard in content["shards"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    fits = path.parent.name == f"step-{manifest.step}" and len(manifest.shards) == manifest.world_size
    return manifest if fits else None

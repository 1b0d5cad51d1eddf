"""Saves checkpoints in a background thread, and resumes every rank from the same step."""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path
from typing import Any

import torch

from sgp_core.errors import ConfigurationError
from sgp_core.nonfinite import NotFinite
from sgp_core.training.checkpoint import CheckpointError, CheckpointStore, State
from sgp_core.training.config import CheckpointConfig
from sgp_core.training.finite_state import find_nonfinite
from sgp_core.training.peers import Peers, WritingDuty

_LOGGER = logging.getLogger(__name__)
_MOMENT_SECONDS = 1.0


class CheckpointSaver:
    """Copies this rank's state at a step boundary and writes the copy, by default in a background thread.

    A state with numbers that are not finite is not written: the failed write raises :class:`sgp_core.NotFinite`.
    At most one write is in progress: an early save waits for the previous one. A write that failed raises
    in the training thread at the next :meth:`check`, :meth:`save` or :meth:`wait`.

    Args:
        store: where to.
        rank: this worker's.
        config: what is kept.
        rest_s: seconds after a checkpoint within which none is worth its time that was not asked for by its step.
    """

    def __init__(self, store: CheckpointStore, rank: int, config: CheckpointConfig, rest_s: float = 0.0) -> None:
        self._rest_s = rest_s
        self._saved_at = -math.inf
        self._store = store
        self._rank = rank
        self._config = config
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.saved_step: int | None = None
        """The latest step given to :meth:`save`."""

    def save(self, step: int, state: State, score: float | None = None, duty: WritingDuty | None = None) -> None:
        """Save ``state`` as this rank's shard of the checkpoint of ``step``; rank 0 also completes it.

        Args:
            duty: what this worker writes, if it is not that.
        """
        self.wait()
        self.saved_step, self._saved_at = step, time.monotonic()
        duty = duty or WritingDuty((self._rank,), self._rank == 0)
        self._thread = threading.Thread(
            target=self._write, args=(step, snapshot(state), score, duty), name=f"checkpoint-{step}", daemon=True
        )
        self._thread.start()
        if not self._config.asynchronous:
            self.wait()

    @property
    def rests(self) -> bool:
        """Whether the latest checkpoint is so new that one by epochs, or of the best model, can be left out."""
        return time.monotonic() - self._saved_at < self._rest_s

    def check(self) -> None:
        """Raise what the background write raised, if it did."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Return when the write in progress is done."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def leave(self) -> None:
        """Give a write in progress a moment to finish. For a run that failed: its error must not wait long."""
        if self._thread is not None:
            self._thread.join(_MOMENT_SECONDS)

    def _write(self, step: int, state: State, score: float | None, duty: WritingDuty) -> None:
        try:
            if (name := find_nonfinite(state)) is not None:
                message = f"{name} is not finite after step {step} on rank {self._rank}, so no checkpoint is written"
                raise NotFinite(message, rank=self._rank, step=step, tensor=name)
            for rank in duty.ranks:
                self._store.write_shard(step, rank, state if rank == self._rank else relabel(state, rank))
            if duty.commits and self._store.commit(step, score, duty.abandoned):
                self._store.prune(self._config.keep_last, self._config.keep_best)
        except BaseException as error:
            self._error = error


def restore(store: CheckpointStore, peers: Peers) -> State | None:
    """Return this rank's shard of the newest checkpoint that every rank can read; None if there is no checkpoint.

    Collective. Rank 0 removes leftovers and proposes a checkpoint; each rank reads only its own shard. Damaged
    checkpoints are renamed, and a warning says so and from where training goes on.

    Raises:
        ConfigurationError: the checkpoints belong to another experiment or world size.
        CheckpointError: there are or were checkpoints, but none is whole: starting afresh is the user's decision.
    """
    went_back = False
    if peers.leads:
        store.clean()
        for folder, reason in store.find_damage():
            _set_aside(store, folder, reason)
            went_back = True
    manifests, damaged = peers.broadcast((store.manifests(), store.has_set_aside) if peers.leads else ([], False))
    for manifest in manifests:
        store.check(manifest)
        store.check_shards(manifest)
        state: State | None = None
        problem = ""
        try:
            state = store.read_shard(manifest, peers.rank)
            problem = "" if (name := find_nonfinite(state)) is None else f"{name} is not finite"
        except CheckpointError as error:
            problem = str(error)
        bad = peers.gather(float(bool(problem)))
        if not any(bad):
            if went_back and peers.leads:
                _LOGGER.warning("training goes on from step %d, the newest checkpoint that is whole", manifest.step)
            return state
        damaged = went_back = True
        if peers.leads:
            _set_aside(
                store, store.step_folder(manifest.step), problem or f"the file of rank {bad.index(1.0)} is damaged"
            )
    if damaged:
        raise CheckpointError(f"no checkpoint in {store.folder} is whole; remove that folder to start afresh")
    return None


def _set_aside(store: CheckpointStore, folder: Path, reason: str) -> None:
    aside = store.set_aside(folder)
    _LOGGER.warning("checkpoint %s is damaged and now called %s: %s", folder.name, aside.name, reason)


def check_resumable(state: State, folder: Path, task: State, steps_per_epoch: int) -> None:
    """Refuse a saved state of other data.

    Args:
        folder: where it was saved.
        task: what the model needs of the data now.
        steps_per_epoch: now.

    Raises:
        ConfigurationError: with what has changed.
    """
    if state.get("task", {}) != task:
        raise ConfigurationError(
            f"the checkpoints in {folder} were saved with other data: what the model needs of them, such as a"
            " vocabulary, has changed"
        )
    saved = state["cursor"]["steps_per_epoch"]
    if saved != steps_per_epoch:
        raise ConfigurationError(
            f"the checkpoints in {folder} were saved at {saved} steps per epoch, now there are {steps_per_epoch}: the"
            " data set has changed"
        )


def relabel(state: State, rank: int) -> State:
    """Return the state of one worker as that of another, which is to begin like it."""
    gossip = state["gossip"]
    return {**state, "gossip": {**gossip, "identity": {**gossip["identity"], "rank": rank}}}


def snapshot(value: Any) -> Any:
    """Return a copy on the CPU that shares no memory with ``value`` (nested dicts, lists and tuples of tensors)."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(snapshot(item) for item in value)
    return value

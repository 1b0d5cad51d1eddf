"""Saves a worker whole, its optimizers and buffers included, with all others in one folder; and loads it again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from sgp_core.checkpoint_files import CheckpointError
from sgp_core.distributed.model_shard import local_tensor
from sgp_core.distributed.process_group import broadcast_object, gather_objects
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.gossip_state import GossipState
from sgp_core.runtime.merge_states import Saved, merge_states
from sgp_core.runtime.optimizer_state import load_plain, plain
from sgp_core.runtime.state_folder import StateFolder


class GossipCheckpoint:
    """Saves and loads all of a worker. Every method is a collective of all workers.

    Args:
        model: the user's.
        optimizers: the user's.
        state: what the rule and its network remember.
        group: all workers, None for the default group; without torch.distributed, a world of one.
        optimizer_sharded: whether the optimizers step on this worker's shard only.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        state: GossipState,
        group: dist.ProcessGroup | None,
        *,
        optimizer_sharded: bool,
    ) -> None:
        self._model = model
        self._optimizers = list(optimizers)
        self._state = state
        self._group = group
        self._optimizer_sharded = optimizer_sharded

    def save(self, path: str | Path, extra: Mapping[str, Any] | None) -> None:
        """Save all workers to a folder, in the place of what it holds.

        Raises:
            CheckpointError: on all workers alike, if one could not write. The folder holds what it held.
        """
        state = self._state.state_dict()
        saved: Saved = {
            "gossip": state,
            "numerators": self._state.numerators(),
            "optimizers": [plain(optimizer.state_dict()) for optimizer in self._optimizers],
            "optimizer_names": [type(optimizer).__name__ for optimizer in self._optimizers],
            "optimizer_sharded": self._optimizer_sharded,
            "buffers": dict(self._model.named_buffers()),
            "frozen": plain(self._frozen()),
            "extra": dict(extra or {}),
        }
        identity = self._state.identity
        facts = {"step": state["step"], "world_size": identity.world_size, "node_size": identity.node_size}
        StateFolder(path, self._group).write(saved, facts)

    def load(self, path: str | Path, *, reshape: bool) -> dict[str, Any]:
        """Continue from a folder; return the ``extra`` that this worker has saved, rank 0's if reshaped.

        Raises:
            ConfigurationError: on all workers, before anything is loaded, if what was saved does not fit.
            CheckpointError: likewise, if there is no complete save, or it is damaged.
        """
        folder = StateFolder(path, self._group)
        manifest = folder.manifest()
        problem: Exception | None = None
        try:
            self._state.identity.check_world_size(manifest["world_size"])
            saved = folder.read(manifest, folder.rank)
            self._check(saved)
        except (CheckpointError, ValueError) as error:
            problem = error
        problems = gather_objects(problem, self._group)
        damage = next((each for each in problems if isinstance(each, CheckpointError)), None)
        if damage is not None or not reshape:
            _raise(problem or damage, problems)
        elif any(problems):
            return self._load_average(folder, manifest)
        self._load_model(saved["buffers"], saved["frozen"])
        for optimizer, state in zip(self._optimizers, saved["optimizers"], strict=True):
            load_plain(optimizer, state)
        self._state.load_state_dict(saved["gossip"])
        extra: dict[str, Any] = saved["extra"]
        return extra

    def _check(self, saved: Saved) -> None:
        self._state.check(saved["gossip"])
        names = [type(optimizer).__name__ for optimizer in self._optimizers]
        if names != saved["optimizer_names"]:
            raise ConfigurationError(
                f"the state was saved with {' and '.join(saved['optimizer_names'])}, here the optimizer is"
                f" {' and '.join(names)}"
            )

    def _load_average(self, folder: StateFolder, manifest: dict[str, Any]) -> dict[str, Any]:
        """Start all workers from the average of those that were saved."""
        if self._state.identity.layout is None:
            raise ConfigurationError("a model that FSDP2 has sharded cannot be reshaped; load it as it was saved")
        if self._state.step:
            raise ConfigurationError("load what is to be reshaped before the first step")
        merged: Saved | Exception | None = None
        if folder.rank == 0:
            try:
                merged = merge_states(lambda rank: folder.read(manifest, rank), manifest["world_size"])
                self._state.identity.check_parameters(merged["identity"])
            except (CheckpointError, ValueError) as error:
                merged = error
        merged = broadcast_object(merged, self._group)
        if not isinstance(merged, dict):
            assert isinstance(merged, Exception)
            raise merged
        self._load_model(merged["buffers"], {**merged["frozen"], **merged["parameters"]})
        self._state.restart(merged["step"])
        names = [type(optimizer).__name__ for optimizer in self._optimizers]
        if merged["optimizers"] is None or self._optimizer_sharded or names != merged["optimizer_names"]:
            warnings.warn("the optimizer starts anew: what was saved is of another optimizer or shards", stacklevel=4)
        else:
            for optimizer, state in zip(self._optimizers, merged["optimizers"], strict=True):
                load_plain(optimizer, state)
        extra: dict[str, Any] = merged["extra"]
        return extra

    def _frozen(self) -> dict[str, nn.Parameter]:
        named = self._model.named_parameters()
        return {name.replace("_orig_mod.", ""): each for name, each in named if not each.requires_grad}

    @torch.no_grad()
    def _load_model(self, buffers: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        for name, buffer in self._model.named_buffers():
            buffer.copy_(buffers[name])
        for name, parameter in self._model.named_parameters():
            if (kept := parameters.get(name.replace("_orig_mod.", ""))) is not None:
                local_tensor(parameter).copy_(kept)


def _raise(error: Exception | None, problems: Sequence[Exception | None]) -> None:
    """Raise what stands in this worker's way, or else what stands in another's."""
    if error is None:
        error = next((each for each in problems if each is not None), None)
    if error is not None:
        raise error

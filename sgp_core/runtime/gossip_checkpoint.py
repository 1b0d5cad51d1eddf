"""Saves a worker whole, its optimizers and buffers included, with all others in one folder; and loads it again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sgp_core.checkpoint_files import CheckpointError
from sgp_core.distributed.model_shard import local_tensor
from sgp_core.distributed.process_group import broadcast_object, gather_objects
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.gossip_state import GossipState
from sgp_core.runtime.merge_states import Saved, merge_states
from sgp_core.runtime.optimizer_state import load_plain, plain
from sgp_core.runtime.state_folder import StateFolder
from sgp_core.runtime.state_identity import plain_name


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
        write_snapshot(path, self.snapshot(extra or {}), self._group)

    def snapshot(self, extra: Mapping[str, Any]) -> Saved:
        """Return all that is saved of this worker. Collective like the state of the rule and its network."""
        return {
            "gossip": self._state.state_dict(),
            "numerators": self._state.numerators(),
            "optimizers": [plain(optimizer.state_dict()) for optimizer in self._optimizers],
            "optimizer_groups": self._optimizer_groups(),
            "optimizer_sharded": self._optimizer_sharded,
            "buffers": self._buffers(),
            "frozen": plain(self._frozen()),
            "extra": dict(extra),
        }

    def restore(self, saved: Saved) -> dict[str, Any]:
        """Continue from :meth:`snapshot`; return what the user had added.

        Raises:
            ConfigurationError: it is of another worker, or of other choices; nothing is loaded.
        """
        self._check(saved)
        self._load_model(saved["buffers"], saved["frozen"])
        for optimizer, state in zip(self._optimizers, saved["optimizers"], strict=True):
            load_plain(optimizer, state)
        self._state.load_state_dict(saved["gossip"])
        extra: dict[str, Any] = saved["extra"]
        return extra

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
        return self.restore(saved)

    def _check(self, saved: Saved) -> None:
        self._state.check(saved["gossip"])
        self._check_names(saved)
        were, are = saved["optimizer_groups"], self._optimizer_groups()
        if were != are:
            raise ConfigurationError(f"the state was saved with {_in_words(were)}, here is {_in_words(are)}")

    def _load_average(self, folder: StateFolder, manifest: dict[str, Any]) -> dict[str, Any]:
        """Start all workers from the average of those that were saved."""
        if self._state.identity.layout is None:
            raise ConfigurationError("a model that FSDP2 has sharded cannot be reshaped; load it as it was saved")
        if any(gather_objects(self._state.step, self._group)):
            raise ConfigurationError("load what is to be reshaped before the first step")
        merged: Saved | Exception | None = None
        if folder.rank == 0:
            try:
                merged = merge_states(lambda rank: folder.read(manifest, rank), manifest["world_size"])
                self._state.identity.check_parameters(merged["identity"])
                self._check_names(merged)
            except (CheckpointError, ValueError) as error:
                merged = error
        merged = broadcast_object(merged, self._group)
        if not isinstance(merged, dict):
            assert isinstance(merged, Exception)
            raise merged
        self._load_model(merged["buffers"], {**merged["frozen"], **merged["parameters"]})
        self._state.restart(merged["step"])
        alike = merged["optimizer_groups"] == self._optimizer_groups() and not self._optimizer_sharded
        if merged["optimizers"] is None or not alike:
            warnings.warn("the optimizer starts anew: what was saved is of another optimizer or shards", stacklevel=4)
        else:
            for optimizer, state in zip(self._optimizers, merged["optimizers"], strict=True):
                load_plain(optimizer, state)
        extra: dict[str, Any] = merged["extra"]
        return extra

    def _optimizer_groups(self) -> list[list[Any]]:
        """Return the class of each optimizer, and how many parameters each of its groups has."""
        return [
            [type(optimizer).__name__, [len(group["params"]) for group in optimizer.param_groups]]
            for optimizer in self._optimizers
        ]

    def _check_names(self, saved: Saved) -> None:
        """Refuse buffers and frozen parameters of another model."""
        for kind, theirs, ours in (
            ("buffer", saved["buffers"], self._buffers()),
            ("frozen parameter", saved["frozen"], plain(self._frozen())),
        ):
            for name in [*theirs, *ours]:
                was, now = (tuple(which[name].shape) if name in which else None for which in (theirs, ours))
                if was != now:
                    had, has = (f"of shape {shape}" if shape is not None else "missing" for shape in (was, now))
                    raise ConfigurationError(
                        f"the state is another model's: its {kind} '{name}' is {had}, this model's is {has}"
                    )

    def _buffers(self) -> dict[str, Tensor]:
        return {plain_name(name): each for name, each in self._model.named_buffers()}

    def _frozen(self) -> dict[str, Tensor]:
        return {plain_name(name): each for name, each in self._model.named_parameters() if not each.requires_grad}

    @torch.no_grad()
    def _load_model(self, buffers: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
        for name, buffer in self._buffers().items():
            buffer.copy_(buffers[name])
        for name, parameter in self._model.named_parameters():
            if (kept := parameters.get(plain_name(name))) is not None:
                local_tensor(parameter).copy_(kept)


def write_snapshot(path: str | Path, saved: Saved, group: dist.ProcessGroup | None) -> None:
    """Write what :meth:`GossipCheckpoint.snapshot` has returned of every worker. Collective.

    Raises:
        CheckpointError: on all workers alike, if one could not write. The folder holds what it held.
    """
    state = saved["gossip"]
    facts = {"step": state["step"], **{name: state["identity"][name] for name in ("world_size", "node_size")}}
    StateFolder(path, group).write(saved, facts)


def _in_words(optimizers: list[list[Any]]) -> str:
    return " and ".join(f"{name} over {' + '.join(map(str, sizes))} parameters" for name, sizes in optimizers)


def _raise(error: Exception | None, problems: Sequence[Exception | None]) -> None:
    """Raise what stands in this worker's way, or else what stands in another's."""
    if error is None:
        error = next((each for each in problems if each is not None), None)
    if error is not None:
        raise error

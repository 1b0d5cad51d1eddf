"""Gossip in Lightning: ``Trainer(strategy=GossipStrategy("sgp", "one_peer_exponential"), devices=4)``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from sgp_core.distributed.process_group import broadcast_object
from sgp_core.errors import ConfigurationError
from sgp_core.gossip import Gossip
from sgp_core.integrations.adopt import adopt_average
from sgp_core.integrations.beside import find_folder, new_folder, remove_folders
from sgp_core.integrations.choices import GossipChoices
from sgp_core.integrations.deferred_signal import DeferredSignal
from sgp_core.integrations.random_states import keep_random_states, restore_random_states
from sgp_core.integrations.which_lightning import find_lightning
from sgp_core.runtime.gossip_checkpoint import write_snapshot

_LIGHTNING = import_module(find_lightning())
_DDPStrategy: Any = import_module(f"{_LIGHTNING.__name__}.strategies").DDPStrategy

_OF_LIGHTNING = {
    *("accelerator", "parallel_devices", "cluster_environment", "checkpoint_io", "precision_plugin"),
    *("process_group_backend", "timeout", "start_method"),
}
_OF_DDP = {
    *("ddp_comm_state", "ddp_comm_hook", "ddp_comm_wrapper", "model_averaging_period", "find_unused_parameters"),
    *("static_graph", "gradient_as_bucket_view", "broadcast_buffers", "bucket_cap_mb"),
}


class GossipStrategy(_DDPStrategy):
    """Every optimizer step of a ``Trainer`` is a step of a decentralised algorithm.

    Workers start as with Lightning's own ``ddp``: as copies of the script, by torchrun, or by SLURM. The model is
    wrapped in nothing. Accumulation, clipping, precision, schedules and loggers stay Lightning's. Whatever validates
    within ``fit`` sees the average over all workers; after ``fit`` the average is every worker's model.

    A checkpoint file holds the average. The folder ``<file>.gossip-<letters>`` beside it holds every worker's own
    state, from which ``ckpt_path`` goes on bit for bit on the CPU. A checkpoint of another strategy starts all workers
    alike.

    Args:
        algorithm, topology, outer: names, mappings of a name and options, or what ``build_...`` functions return; see
            :class:`sgp_core.integrations.choices.GossipChoices`.
        options: of :class:`sgp_core.Gossip`, ``reshape`` to accept a checkpoint of another number of workers or another
            rule, and of Lightning's ``DDPStrategy``: ``accelerator``, ``parallel_devices``, ``cluster_environment``,
            ``checkpoint_io``, ``precision_plugin``, ``process_group_backend``, ``timeout``, ``start_method``.

    Attributes:
        gossip: the :class:`sgp_core.Gossip`, while a model is being fitted; else None.

    Raises:
        ConfigurationError: an option that does not exist, or is DDP's.
    """

    strategy_name = "gossip"

    def __init__(self, algorithm: Any, topology: Any = None, outer: Any = None, **options: Any) -> None:
        for name in _OF_DDP & options.keys():
            raise ConfigurationError(f"GossipStrategy: '{name}' is about DDP, which is not used here; leave it out")
        super().__init__(**{name: options.pop(name) for name in _OF_LIGHTNING & options.keys()})
        self._choices = GossipChoices({"algorithm": algorithm, "topology": topology, "outer": outer, **options})
        self._shards_optimizer = bool(options.get("shard_optimizer", False))
        self.gossip: Gossip | None = None
        self._average: AbstractContextManager[None] | None = None
        self._loss: Any = None
        self._resumed_from: Path | None = None
        self._mid_epoch_random: dict[str, Any] | None = None
        self._last: dict[str, Any] | None = None  # of this worker, when training ended
        self._requeue: DeferredSignal | None = None
        self._failed = False

    # -- beginning and end ---------------------------------------------------------------------------------------------
    def setup(self, trainer: Any) -> None:
        """Place the model, build the optimizers, and attach ``Gossip`` if the model is to be fitted."""
        super().setup(trainer)
        if trainer.state.fn.value != "fit":
            return
        self._failed = False
        self._last = None
        self._check(trainer)
        for optimizer in self.optimizers:
            if _computes_gradients_once(optimizer):
                optimizer.register_step_pre_hook(self._compute_gradients)  # before those of Gossip
        optimizers = self.optimizers[0] if len(self.optimizers) == 1 else list(self.optimizers)
        self.gossip = self._choices.attach(self.lightning_module, optimizers, self.world_size)
        if not any(isinstance(each, _AverageFirst) for each in trainer.callbacks):
            trainer.callbacks.insert(0, _AverageFirst())

    def configure_ddp(self) -> None:
        """Wrap the model in nothing."""

    def _setup_model(self, model: Any) -> Any:
        return model

    def _check(self, trainer: Any) -> None:
        if not any(group["params"] for optimizer in self.optimizers for group in optimizer.param_groups):
            raise ConfigurationError("GossipStrategy: configure_optimizers() returns no optimizer, so nothing gossips")
        clip = trainer.gradient_clip_val or 0.0
        if clip and self._choices.steps_in_backward and str(trainer.gradient_clip_algorithm or "norm").endswith("norm"):
            self._choices.clip_in_backward(clip)
        elif clip and (self._choices.steps_in_backward or self._shards_optimizer):
            option = "step_in_backward" if self._choices.steps_in_backward else "shard_optimizer"
            raise ConfigurationError(
                f"gradient_clip_val: with {option} there is nothing to clip; leave one of them out"
            )
        scaler = getattr(self.precision_plugin, "scaler", None)
        if type(scaler) is torch.amp.GradScaler and self.world_size > 1:  # all workers step, or none
            from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

            self.precision_plugin.scaler = ShardedGradScaler(
                self.root_device.type,
                init_scale=scaler.get_scale(),
                growth_factor=scaler.get_growth_factor(),
                backoff_factor=scaler.get_backoff_factor(),
                growth_interval=scaler.get_growth_interval(),
            )

    def on_exception(self, exception: BaseException) -> None:
        """Training ends on this worker, who knows where the others are."""
        self._failed = True
        super().on_exception(exception)

    def teardown(self) -> None:
        """End: every worker keeps the average as its model, if all have come here."""
        gossip = self.gossip
        if gossip is not None:
            self._leave_average()
            if self._failed:
                self.gossip = None
            else:
                self._last = _in_host_memory(gossip.snapshot({"random": keep_random_states()}))
                self.gossip = None
                adopt_average(self.lightning_module, gossip)
        if self._requeue is not None:
            self._requeue.restore()
            self._requeue = None
        super().teardown()

    # -- steps ---------------------------------------------------------------------------------------------------------
    def optimizer_step(self, optimizer: Any, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        """Take the step, which gossips, once gradients are computed."""
        self._loss = None
        output = super().optimizer_step(optimizer, closure, model, **kwargs)
        loss, self._loss = self._loss, None
        return loss if output is None else output

    def _compute_gradients(
        self, optimizer: Any, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        """Call Lightning's closure before the step begins: models that were sent ahead travel meanwhile."""
        closure = kwargs.get("closure")
        if closure is None:
            return None
        with torch.enable_grad():
            self._loss = closure()
        return args, {**kwargs, "closure": None}

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Accumulate gradients inside the block: they are not averaged, nor stepped on."""
        with nullcontext() if self.gossip is None else self.gossip.no_sync():
            yield

    def on_train_start(self) -> None:
        """Go on with the random numbers of a checkpoint within an epoch; put off SLURM's signal."""
        super().on_train_start()
        state, self._mid_epoch_random = self._mid_epoch_random, None
        if state is not None and getattr(self.lightning_module.trainer.fit_loop, "restarted_mid_epoch", False):
            restore_random_states(state)
        environment = self.cluster_environment
        number = getattr(environment, "requeue_signal", None)
        if number is not None and getattr(environment, "auto_requeue", False):
            self._requeue = DeferredSignal(int(number), self._add_up)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Between two steps: do what a signal has asked for."""
        super().on_train_batch_start(batch, batch_idx)
        if self._requeue is not None and batch_idx % self.lightning_module.trainer.accumulate_grad_batches == 0:
            self._requeue.poll()

    def _add_up(self, numbers: list[float]) -> list[float]:
        found: list[float] = self.reduce(torch.tensor(numbers, device=self.root_device), reduce_op="sum").tolist()
        return found

    # -- the average ---------------------------------------------------------------------------------------------------
    def enter_average(self) -> None:
        """Let the model be the average until validation ends. Every worker must call."""
        if self.gossip is not None and self._average is None:
            block = self.gossip.averaged()
            block.__enter__()
            self._average = block

    def _leave_average(self) -> None:
        if self._average is not None:
            block, self._average = self._average, None
            block.__exit__(None, None, None)

    def on_validation_end(self) -> None:
        """Give every worker its own model back, bit for bit, after all callbacks have seen the average."""
        super().on_validation_end()
        self._leave_average()
        if self._requeue is not None:
            self._requeue.ask()

    # -- checkpoints ---------------------------------------------------------------------------------------------------
    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the average over all workers. Every worker must call."""
        state: dict[str, Any]
        if self.gossip is None or self._average is not None:
            state = super().lightning_module_state_dict()
        else:
            state = self.gossip.averaged_state_dict()
        return state

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write every worker's own state beside the file; then the file, which names it. Every worker must call.

        Raises:
            ConfigurationError: the file is not to be in a file system.
            CheckpointError: on all workers, if one could not write.
        """
        if "optimizer_states" not in checkpoint or (self.gossip is None and self._last is None):
            super().save_checkpoint(checkpoint, filepath, storage_options)  # weights only, or nothing was fitted
            return
        path = _local(filepath)
        folder = Path(broadcast_object(str(new_folder(path)), None))
        checkpoint["gossip"] = {"folder": folder.name, "world_size": self.world_size}
        self._save_own(folder)
        super().save_checkpoint(checkpoint, filepath, storage_options)
        self.barrier()  # until then the former file may be the one that is there
        if self.local_rank == 0:
            remove_folders(path, keep=folder)

    def _save_own(self, folder: Path) -> None:
        if self.gossip is None:
            assert self._last is not None
            write_snapshot(folder, self._last, None)
            return
        averaging = self._average is not None
        self._leave_average()  # or the average would be saved as every worker's own model
        self.gossip.save(folder, {"random": keep_random_states()})
        if averaging:
            self.enter_average()

    def remove_checkpoint(self, filepath: Any) -> None:
        """Remove the file and what lies beside it."""
        super().remove_checkpoint(filepath)
        if self.local_rank == 0:
            remove_folders(_local(filepath))

    def load_checkpoint(self, checkpoint_path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read the file, and note where the workers' own states are.

        Raises:
            ConfigurationError: they are to be gone on from, and are not there.
        """
        checkpoint: dict[str, Any] = super().load_checkpoint(checkpoint_path, *args, **kwargs)
        said, self._resumed_from = checkpoint.get("gossip"), None
        if said is not None and self.lightning_module.trainer.state.fn.value == "fit":
            self._resumed_from = find_folder(_local(checkpoint_path), said["folder"])
        return checkpoint

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        """Go on from this worker's own state; where there is none, from the optimizers that the file holds.

        Raises:
            ConfigurationError: it was saved by another number of workers or with other choices.
            CheckpointError: it is damaged, or that of a worker is missing.
        """
        if self._resumed_from is None:
            super().load_optimizer_state_dict(checkpoint)
            return
        assert self.gossip is not None
        try:
            extra = self.gossip.load(self._resumed_from, reshape=self._choices.reshape)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}; here: GossipStrategy(..., reshape=True)") from None
        restore_random_states(extra["random"])
        self._mid_epoch_random = extra["random"]


class _AverageFirst(_LIGHTNING.Callback):  # type: ignore[name-defined]
    """Lets validation see the average: the first of all callbacks, since others may exchange weights for its time."""

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Enter the average."""
        if isinstance(trainer.strategy, GossipStrategy):
            trainer.strategy.enter_average()


def _computes_gradients_once(optimizer: Any) -> bool:
    """Whether its step calls the closure first of all and once, as those of torch do, LBFGS apart."""
    kind = type(optimizer)
    return kind.__module__.startswith("torch.optim.") and kind is not torch.optim.LBFGS


def _local(path: Any) -> Path:
    text = os.fspath(path)
    if "://" in text:
        raise ConfigurationError(
            f"GossipStrategy saves every worker's state beside the checkpoint, in a folder that all can reach, not to"
            f" {text}; give a path"
        )
    return Path(text)


def _in_host_memory(saved: Any) -> Any:
    """Return a copy of nested tensors on the CPU."""
    if isinstance(saved, torch.Tensor):
        return saved.detach().to("cpu", copy=True)
    if isinstance(saved, dict):
        return {key: _in_host_memory(value) for key, value in saved.items()}
    if isinstance(saved, list | tuple):
        return type(saved)(_in_host_memory(value) for value in saved)
    return saved

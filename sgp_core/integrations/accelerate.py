"""Gossip in loops of Hugging Face's accelerate: an ``Accelerator`` that gossips where others wrap the model in DDP."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgp_core.errors import ConfigurationError
from sgp_core.gossip import Gossip
from sgp_core.integrations.adopt import adopt_average
from sgp_core.integrations.choices import GossipChoice, GossipChoices

try:
    from accelerate import Accelerator
except ImportError as error:
    raise ImportError(f"{error}; pip install 'stochastic-gradient-push[transformers]' installs it") from error

FOLDER = "gossip"
"""Where in a checkpoint every worker's own state is."""


class GossipAccelerator(Accelerator):
    """An ``Accelerator`` whose optimizers gossip. The loop stays as it is, and so do data sharding, mixed precision,
    gradient accumulation and compilation.

    ``prepare()`` leaves the model unwrapped and attaches a :class:`sgp_core.Gossip` to it once it has seen its
    optimizer. ``no_sync()`` and ``accumulate()`` say when gradients are complete. ``save_state()`` writes the network's
    average where accelerate writes the model, and beside it every worker's own state, from which ``load_state()`` goes
    on. Evaluate inside :meth:`averaged`.

    Args:
        *args: as for ``Accelerator``.
        gossip: the name of an algorithm, or a mapping of options; see
            :class:`sgp_core.integrations.choices.GossipChoices`.
        **kwargs: as for ``Accelerator``.

    Raises:
        ConfigurationError: the options are wrong, or accelerate was told to shard the model in its own way.
    """

    def __init__(self, *args: Any, gossip: GossipChoice, **kwargs: Any) -> None:
        choices = GossipChoices(gossip)
        super().__init__(*args, **kwargs)
        self._begin(choices)

    @classmethod
    def take_over(cls, accelerator: Accelerator, choices: GossipChoices) -> GossipAccelerator:
        """Make an accelerator that a framework has built gossip; to be called before anything is prepared.

        Raises:
            ConfigurationError: it was told to shard the model in its own way, or is of a class of its own.
        """
        if type(accelerator) is not Accelerator:
            raise ConfigurationError(
                f"an accelerator of the class {type(accelerator).__name__} cannot be made to gossip"
            )
        accelerator.__class__ = cls  # others hold bound methods of this very object
        accelerator._begin(choices)
        taken: GossipAccelerator = accelerator
        return taken

    def _begin(self, choices: GossipChoices) -> None:
        check_plain(self)
        self._choices = choices
        self._gossips: list[tuple[nn.Module, Gossip]] = []
        self._seen: list[nn.Module] = []  # models that gossip, or have finished
        self._last: Gossip | None = None
        self._averaging = False
        self._folder = Path()
        self.register_save_state_pre_hook(self._save_gossip)
        self.register_load_state_pre_hook(self._before_load)
        if self.scaler is not None and self.num_processes > 1:  # all workers step, or none
            from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

            handler = self.scaler_handler
            self.scaler: Any = ShardedGradScaler(**({} if handler is None else handler.to_kwargs()))

    # -- preparing -----------------------------------------------------------------------------------------------------
    def prepare(self, *args: Any, device_placement: list[bool] | None = None) -> Any:
        """Prepare as ``Accelerator.prepare`` does, and let models gossip whose optimizers are known.

        Raises:
            ConfigurationError: as :class:`sgp_core.Gossip` does.
        """
        prepared = super().prepare(*args, device_placement=device_placement)
        self._attach()
        return prepared

    def prepare_model(
        self, model: nn.Module, device_placement: bool | None = None, evaluation_mode: bool = False
    ) -> nn.Module:
        """Place, autocast and compile the model; wrap it in nothing that averages gradients."""
        prepared: nn.Module = super().prepare_model(model, device_placement=device_placement, evaluation_mode=True)
        return prepared

    def _attach(self) -> None:
        for model in map(self._plain, self._models):
            mine = set(map(id, model.parameters()))
            optimizers = [each.optimizer for each in self._optimizers if _steps_over(each, mine)]
            if optimizers and not any(model is each for each in self._seen):
                one_or_all = optimizers[0] if len(optimizers) == 1 else optimizers
                self._last = self._choices.attach(model, one_or_all, self.num_processes)
                self._gossips.append((model, self._last))
                self._seen.append(model)

    def _plain(self, model: nn.Module) -> nn.Module:
        plain: nn.Module = getattr(model, "_orig_mod", model)  # what torch.compile has wrapped
        return plain

    def free_memory(self, *objects: Any) -> Any:
        """Forget all that was prepared, and stop gossiping, as before another training. Every worker must call."""
        for _, gossip in self._gossips:
            gossip.close()
        self._gossips, self._seen = [], []
        return super().free_memory(*objects)

    # -- what loops ask for --------------------------------------------------------------------------------------------
    @property
    def gossip(self) -> Gossip | None:
        """The ``Gossip`` of the model that was prepared last; None before."""
        return self._last

    @property
    def gossiping(self) -> bool:
        """Whether workers have models of their own at the moment, which differ."""
        return bool(self._gossips)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block, models hold the average over all workers, see :meth:`sgp_core.Gossip.averaged`; blocks may
        be nested. Every worker must enter."""
        if self._averaging:
            yield
            return
        with ExitStack() as stack:
            for _, gossip in self._gossips:
                stack.enter_context(gossip.averaged())
            self._averaging = True
            try:
                yield
            finally:
                self._averaging = False

    def finish_gossip(self) -> None:
        """End the training: every worker keeps the average as its model, and nothing gossips any more.

        From then on models are alike on all workers, and rank 0 may save or evaluate alone. Every worker must call.
        """
        for model, gossip in self._gossips:
            adopt_average(model, gossip)
        self._gossips = []

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Compute gradients, as ``Accelerator.backward`` does.

        Raises:
            ConfigurationError: no model gossips, so that every worker would train alone.
        """
        if not self._gossips:
            raise ConfigurationError("no model gossips: give prepare() the model and the optimizer over it")
        super().backward(loss, **kwargs)

    @contextmanager
    def no_sync(self, model: nn.Module | None = None) -> Iterator[None]:
        """Accumulate gradients inside the block, see :meth:`sgp_core.Gossip.no_sync`.

        Args:
            model: as prepared; None: all.
        """
        with ExitStack() as stack:
            for mine, gossip in self._gossips:
                if model is None or mine is self._plain(model):
                    stack.enter_context(gossip.no_sync())
            yield

    @contextmanager
    def join_uneven_inputs(self, joinables: Sequence[Any] = (), even_batches: bool | None = None) -> Iterator[None]:
        """Let workers take different numbers of steps inside the block, see :meth:`sgp_core.Gossip.join`.

        Args:
            joinables: is ignored: all models join.
            even_batches: what data loaders are to do inside the block; None: what they do. If they repeat examples so
                that all workers have as many batches, there is nothing to join.
        """
        samplers = [loader.batch_sampler for loader in self._dataloaders if hasattr(loader, "batch_sampler")]
        samplers = [sampler for sampler in samplers if hasattr(sampler, "even_batches")]
        before = [sampler.even_batches for sampler in samplers]
        even = self.even_batches if even_batches is None else even_batches
        try:
            for sampler in samplers:
                sampler.even_batches = even
            with ExitStack() as stack:
                for _, gossip in [] if even else self._gossips:
                    stack.enter_context(gossip.join())
                yield
        finally:
            for sampler, value in zip(samplers, before, strict=True):
                sampler.even_batches = value

    def clip_grad_norm_(self, parameters: Any, max_norm: float, norm_type: float = 2) -> Tensor:
        """Clip gradients of this worker, and return their norm before: nan with ``step_in_backward``, where they have
        been clipped by ``max_norm`` and are gone.

        Raises:
            ConfigurationError: with ``step_in_backward``, to another norm than there.
        """
        parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if self._choices.steps_in_backward and self._gossips:
            if max_norm not in (math.inf, self._choices.max_norm):
                raise ConfigurationError(
                    f"gradients are gone after backward: clip them there, with gossip={{'max_norm': {max_norm}, ...}}"
                )
            return torch.tensor(math.nan)
        given = set(map(id, parameters))
        for model, gossip in self._gossips:
            if norm_type == 2 and given == set(map(id, model.parameters())):
                self.unscale_gradients()
                return gossip.clip_grad_norm_(max_norm)  # also where gradients lie in shards, and in join()
        norm: Tensor = super().clip_grad_norm_(parameters, max_norm, norm_type)
        return norm

    # -- saving --------------------------------------------------------------------------------------------------------
    def get_state_dict(self, model: nn.Module, unwrap: bool = True) -> Any:
        """Return the state dict of the average, with which to export a model. Every worker must call."""
        for mine, gossip in self._gossips:
            if mine is self._plain(model) and not self._averaging:
                return OrderedDict(gossip.averaged_state_dict())  # accelerate unties the tensors of no other mapping
        return super().get_state_dict(model, unwrap=unwrap)

    def load_state(self, input_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        """Go on from ``save_state()``, bit for bit on the CPU; from what a plain ``Accelerator`` has saved, with its
        model and optimizer on all workers. Every worker must call.

        Raises:
            ConfigurationError: it was saved by another number of workers or with other choices, unless ``reshape``.
            CheckpointError: it is damaged.
        """
        super().load_state(input_dir, *args, **kwargs)
        for number, (_, gossip) in enumerate(self._gossips):
            folder = folder_of(self._folder, number)
            if folder.is_dir():
                gossip.load(folder, reshape=self._choices.reshape)

    def _before_load(self, models: list[nn.Module], folder: str) -> None:
        self._folder = Path(folder)
        for _, gossip in self._gossips:
            gossip.finish()

    def _save_gossip(self, models: list[nn.Module], weights: list[Any], folder: str) -> None:
        if self._averaging:
            raise ConfigurationError(
                "save_state() inside averaged() would save the average as every worker's own model"
            )
        self.save_gossip(folder)

    def save_gossip(self, folder: str | Path) -> None:
        """Save every worker's own state into a checkpoint. Every worker must call."""
        for number, (_, gossip) in enumerate(self._gossips):
            gossip.save(folder_of(folder, number))

    def load_gossip(self, folder: str | Path) -> bool:
        """Load every worker's own state from a checkpoint; return whether it holds one. Every worker must call."""
        if not folder_of(folder, 0).is_dir():
            return False
        for number, (_, gossip) in enumerate(self._gossips):
            gossip.load(folder_of(folder, number), reshape=self._choices.reshape)
        return True


def folder_of(checkpoint: str | Path, number: int) -> Path:
    """Return where in a checkpoint the workers' own states of a model are, models counted from 0."""
    return Path(checkpoint, FOLDER if number == 0 else f"{FOLDER}-{number}")


def _steps_over(optimizer: Any, parameters: set[int]) -> bool:
    return any(id(each) in parameters for group in optimizer.param_groups for each in group["params"])


def check_plain(accelerator: Any) -> None:
    """Refuse what shards a model over the workers that are to gossip, or takes their steps.

    Raises:
        ConfigurationError: it says what.
    """
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if not (kind == "NO" or kind.startswith("MULTI_")):
        raise ConfigurationError(
            f"accelerate is set up for {kind}, which shards the model over all workers, so that there is nothing to"
            " gossip; leave it out"
        )
    started = os.environ.get("WORLD_SIZE", "1")
    if kind == "NO" and started not in ("", "1"):
        raise ConfigurationError(
            f"{started} workers were started, but accelerate would let each train alone: it found no GPU; to train on"
            " CPUs, say Accelerator(cpu=True), or use_cpu=True in TrainingArguments"
        )
    parallel = getattr(accelerator, "parallelism_config", None)
    if parallel is not None and parallel.total_size > 1:
        raise ConfigurationError(
            "accelerate has a parallelism_config, which shards the model over workers that are to gossip; leave it out"
        )

"""Hooks on the user's optimizer and gradients that let an algorithm act in every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sgp_core.algorithms.base import Algorithm
from sgp_core.distributed.model_shard import ModelShard
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.backward_steps import BackwardStepper
from sgp_core.runtime.gradient_bucket import GradientBucket
from sgp_core.runtime.sharded_optimizer import ShardedOptimizer
from sgp_core.runtime.worker_state import WorkerState


class OptimizerHooks:
    """Calls a rule when backward ends, before the optimizer steps and after it.

    Args:
        model: the user's.
        optimizer: the user's.
        algorithm: the rule.
        shard: what this worker gossips of the model.
        node: the worker's.
        shard_optimizer: whether each worker of a node steps on its own shard only.

    Attributes:
        forbidden: why no step is allowed at the moment; None if it is.

    Raises:
        ConfigurationError: the rule changes gradients, but FSDP2 holds them.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        algorithm: Algorithm,
        shard: ModelShard,
        node: NodeGroup,
        *,
        shard_optimizer: bool,
    ) -> None:
        self.forbidden: str | None = None
        self._model = model
        self._optimizer = optimizer
        self._algorithm = algorithm
        self._shard = shard
        self._node = node
        storage = shard.storage
        self._addresses = list(zip(storage.parameters, storage.addresses, strict=True)) if storage else []
        self._in_place = shard.storage is not None and node.size == 1  # the vector is the model's own memory
        self._worker: WorkerState
        self._in_backward: BackwardStepper | None = None
        self._sharded_optimizer: ShardedOptimizer | None = None
        if shard_optimizer and shard.storage and node.size > 1:
            self._sharded_optimizer = ShardedOptimizer(optimizer, shard.storage, node)
        self.gradients = self._collected_gradients()

    def attach(self, worker: WorkerState, bucket_bytes: int | None, max_norm: float | None) -> None:
        """Act in every step from now on.

        Args:
            worker: as the rule sees it, with the gradients if those are collected.
            bucket_bytes: take steps inside backward, in buckets of this size; None: after it.
            max_norm: norm to clip gradients to, inside backward.

        Raises:
            ConfigurationError: steps are to be taken inside backward, but FSDP2 takes them.
        """
        self._worker = worker
        if bucket_bytes is not None:
            if self._shard.storage is None:
                raise ConfigurationError("FSDP2 steps on shards once backward is over; use step_in_backward=False")
            self._in_backward = BackwardStepper(
                self._algorithm,
                worker,
                self._shard.storage,
                self._optimizer,
                bucket_bytes=bucket_bytes,
                max_norm=max_norm,
                check=self._check,
            )
        self._hooks = [
            self._optimizer.register_step_pre_hook(self.before_step),
            self._optimizer.register_step_post_hook(self.after_step),
        ]

    @property
    def inside_backward(self) -> bool:
        """Whether steps are taken inside backward."""
        return self._in_backward is not None

    @property
    def optimizer_sharded(self) -> bool:
        """Whether the optimizer steps on this worker's shard only."""
        return self._sharded_optimizer is not None

    def detach(self) -> None:
        """Remove all hooks: act in no further step."""
        for hook in self._hooks:
            hook.remove()
        if self.gradients is not None:
            self.gradients.close()
        if self._in_backward is not None:
            self._in_backward.close()

    # -- what users ask for --------------------------------------------------------------------------------------------
    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Only accumulate gradients inside the block: nothing else happens when backward ends."""
        acts = self.gradients or self._in_backward
        if acts is None:
            yield
            return
        before, acts.enabled = acts.enabled, False
        try:
            yield
        finally:
            acts.enabled = before

    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """Scale the optimizer's gradients, those of the whole model; return the norm before.

        Raises:
            RuntimeError: steps are taken inside backward, so that it would be too late.
        """
        if self._in_backward is not None:
            raise RuntimeError("with step_in_backward, gradients are clipped inside backward: use Gossip(max_norm=...)")
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        if self._sharded_optimizer is not None:
            return self._sharded_optimizer.clip_grad_norm_(parameters, max_norm)
        return nn.utils.clip_grad_norm_(parameters, max_norm)

    # -- stages --------------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def _on_gradients(self) -> None:
        assert self.gradients is not None
        self._node.reduce(self.gradients.flat)
        self._algorithm.on_gradients(self._worker)
        if self._sharded_optimizer is None:
            self._node.gather(self.gradients.flat)

    @torch.no_grad()
    def _take_gradients(self, present: list[bool]) -> None:
        assert self._sharded_optimizer is not None
        self._sharded_optimizer.take(self._worker.grads, present)

    @torch.no_grad()
    def before_step(self, *_: object) -> None:
        """The optimizer is about to step, or, with steps inside backward, to end a step whose buckets have stepped."""
        if self._in_backward is not None:
            if not self._in_backward.stepping:
                self._in_backward.finish()
            return
        self._check()
        self._worker.averaged = False
        if not self._in_place:
            self._shard.collect()
        self._algorithm.before_step(self._worker)

    @torch.no_grad()
    def after_step(self, *_: object) -> None:
        """The optimizer has stepped: gossip."""
        if self._in_backward is not None:
            if self._in_backward.stepping:
                return
            self._in_backward.end()
        else:
            if not self._in_place:
                self._shard.collect()
            self._algorithm.after_step(self._worker)
            self._algorithm.receive(self._worker)
        if not self._in_place:
            self._shard.spread()
        self._worker.step += 1

    def _check(self) -> None:
        if self.forbidden is not None:
            raise RuntimeError(self.forbidden)
        for parameter, address in self._addresses:
            if parameter.data_ptr() != address:
                name = next((name for name, one in self._model.named_parameters() if one is parameter), "?")
                raise RuntimeError(
                    f"parameter '{name}' was given other memory after Gossip was built; move or convert the model"
                    " before"
                )

    def _collected_gradients(self) -> GradientBucket | None:
        if self._shard.storage is None:
            if self._algorithm.traits.reads_gradients:
                raise ConfigurationError(
                    "FSDP2 holds the gradients, so that no algorithm can change them; to average them, give fully_shard"
                    " a mesh of two axes"
                )
            return None
        if not self._algorithm.traits.reads_gradients and self._node.size == 1:
            return None
        take = self._take_gradients if self._sharded_optimizer else None
        return GradientBucket(self._shard.storage, self._on_gradients, take)

"""Hooks on the user's optimizer and gradients that let an algorithm act in every step."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from sgp_core.algorithms.base import Algorithm
from sgp_core.distributed.model_shard import ModelShard
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.distributed.positions import BACKWARD
from sgp_core.distributed.waits import Waits
from sgp_core.errors import ConfigurationError, PeerLost
from sgp_core.runtime.backward_steps import BackwardStepper
from sgp_core.runtime.clipping import clip_grad_norm_
from sgp_core.runtime.finite_check import FiniteCheck
from sgp_core.runtime.global_collectives import GlobalCollectives
from sgp_core.runtime.global_hooks import add_global_hook
from sgp_core.runtime.gradient_bucket import GradientBucket
from sgp_core.runtime.optimizers import one_only, parameters_of, update_reads_model
from sgp_core.runtime.preconditions import claim, release
from sgp_core.runtime.sharded_optimizer import ShardedOptimizer
from sgp_core.runtime.step_checks import StepChecks, calls_itself
from sgp_core.runtime.uneven_steps import Announcements, StepEvent
from sgp_core.runtime.worker_network import WorkerNetwork
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.tensors.flat_vector import FlatVector


class OptimizerHooks:
    """Calls a rule when backward ends, before the optimizer steps and after it.

    Several optimizers are one to the rule: it acts before the first of them steps, and after the last in the list has.

    Args:
        model: the user's.
        optimizers: the user's.
        parameters: those of the model that are exchanged.
        algorithm: the rule.
        shard: what this worker gossips of the model.
        node: the worker's.
        waits: where this worker waits for others.
        finite: looks at numbers before they leave this worker; None: nothing does.
        shard_optimizer: whether each worker of a node steps on its own shard only.

    Attributes:
        checks: what is looked at before every step.

    Raises:
        ConfigurationError: the rule changes gradients, but FSDP2 holds them.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        parameters: Sequence[nn.Parameter],
        algorithm: Algorithm,
        shard: ModelShard,
        node: NodeGroup,
        waits: Waits,
        finite: FiniteCheck | None,
        *,
        shard_optimizer: bool,
    ) -> None:
        self._parameters = parameters
        self._optimizers = list(optimizers)
        self._algorithm = algorithm
        self._shard = shard
        self._node = node
        self._waits = waits
        self._finite = finite
        self._in_place = shard.storage is not None and node.size == 1  # the vector is the model's own memory
        self._worker: WorkerState
        self._network: WorkerNetwork
        self._announcements: Announcements | None = None
        self._in_backward: BackwardStepper | None = None
        self._sharded_optimizer: ShardedOptimizer | None = None
        if shard_optimizer and shard.storage and node.size > 1:
            optimizer = one_only(self._optimizers, "shard_optimizer")
            self._sharded_optimizer = ShardedOptimizer(optimizer, shard.storage, node)
        self.checks = StepChecks(model, self._optimizers, parameters, shard.storage, algorithm.traits, waits)
        # Between the rule and the optimizer, or among optimizers, others may look at the model, or step elsewhere.
        self._apart = shard.storage is None or len(self._optimizers) > 1
        self._between = True  # the last step is over, and the next has not begun
        self._inside = False  # one of the optimizers steps at the moment, and others that it calls are part of it
        self.gradients = self._collected_gradients()

    def attach(
        self, worker: WorkerState, network: WorkerNetwork, bucket_bytes: int | None, max_norm: float | None
    ) -> None:
        """Act in every step from now on.

        Args:
            worker: as the rule sees it, with the gradients if those are collected.
            network: what carries its model.
            bucket_bytes: take steps inside backward, in buckets of this size; None: after it.
            max_norm: norm to clip gradients to, inside backward.

        Raises:
            ConfigurationError: steps are to be taken inside backward, but FSDP2 takes them.
        """
        self._worker, self._network = worker, network
        claim(self, self._parameters)
        if bucket_bytes is not None:
            optimizer = one_only(self._optimizers, "step_in_backward")
            if self._shard.storage is None:
                raise ConfigurationError("FSDP2 steps on shards once backward is over; use step_in_backward=False")
            self._in_backward = BackwardStepper(
                self._algorithm,
                worker,
                self._shard.storage,
                optimizer,
                bucket_bytes=bucket_bytes,
                max_norm=max_norm,
                check=self._begin_step,
                check_update=self._check_update,
            )
        me = weakref.ref(self)  # a hook on all optimizers must not keep this one's model alive

        def before_any_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
            hooks = me()
            if hooks is not None and not hooks._inside and optimizer not in hooks._optimizers:
                hooks.checks.watch.check_other(optimizer)

        self._hooks = [add_global_hook(self, register_optimizer_step_pre_hook, before_any_step)]
        for optimizer in self._optimizers:
            self._hooks.append(optimizer.register_step_pre_hook(self.before_step))
            self._hooks.append(optimizer.register_step_post_hook(self.after_step))

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
        release(self)
        for hook in self._hooks:
            hook.remove()
        self.checks.watch.close()
        if self.gradients is not None:
            self.gradients.close()
        if self._in_backward is not None:
            self._in_backward.close()

    # -- what users ask for --------------------------------------------------------------------------------------------
    def check_between(self, what: str) -> None:
        """Refuse what looks at the whole model while some of the optimizers have stepped and others have not.

        Where the rule acts after the last of them alone, the model is whole at any time.

        Raises:
            RuntimeError: it has to wait for the last of them.
        """
        begun = not self._between and not self._inside
        if begun and (self._algorithm.traits.sends_ahead or self._worker.biased):
            raise RuntimeError(f"{what} in the middle of a step: the last of the optimizers has not stepped yet")

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
        self._announce(StepEvent.clip, max_norm)
        parameters = parameters_of(self._optimizers)
        if self._sharded_optimizer is not None:
            with self._waits.inside_step("clip_grad_norm_()"):
                return self._sharded_optimizer.clip_grad_norm_(parameters, max_norm)
        return clip_grad_norm_(parameters, max_norm)

    @contextmanager
    def joining(self, workers: GlobalCollectives) -> Iterator[None]:
        """Announce every step inside the block; after it, take part in those of workers that are still inside.

        Raises:
            ConfigurationError: workers that never wait for each other, or FSDP2.
            RuntimeError: one such block inside another.
        """
        if self._algorithm.traits.asynchronous:
            raise ConfigurationError(
                "each worker of this algorithm may take as many steps as it likes; leave join() out"
            )
        if self._shard.storage is None:
            raise ConfigurationError("FSDP2 waits for all workers of a node in every forward; it has no join()")
        if self._announcements is not None:
            raise RuntimeError("gossip.join() is already active")
        announcements = Announcements(workers, self._optimizers, self._shard.flat.tensors[0].device)
        self._announcements = self._waits.joining = announcements
        try:
            yield
        finally:
            self._announcements = self._waits.joining = None
        self._zero_grad()
        while True:
            with self._waits.inside_step("join()"):
                found = announcements.next_event()
            if found is None:
                return
            self._take_part(*found)

    def _announce(self, event: StepEvent, norm: float = 0.0) -> None:
        if self._announcements is not None:
            with self._waits.inside_step():
                self._announcements.announce(event, norm)

    def _take_part(self, event: StepEvent, norm: float) -> None:
        """Do what the others do, without a gradient of this worker's own."""
        if event is StepEvent.clip:
            self.clip_grad_norm_(norm)
        elif event is StepEvent.gradients:
            assert self.gradients is not None
            self.gradients.hand_over()
        elif self.gradients is None and self._in_backward is None:
            self.before_step()  # no update: the optimizers are left out
            self.after_step(self._optimizers[-1])
        else:  # with the gradients of others, or with none, part by part
            for optimizer in self._optimizers:
                optimizer.step()
            self._zero_grad()

    def _zero_grad(self) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad()

    # -- stages --------------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def _on_gradients(self) -> bool:
        assert self.gradients is not None
        self._announce(StepEvent.gradients)
        if self._finite is not None and not self._finite.admit(self.gradients.flat, self._worker.step + 1):
            return False
        with self._waits.inside_step(BACKWARD):
            self._node.reduce(self.gradients.flat)
            self._algorithm.on_gradients(self._worker)
            if self._sharded_optimizer is None:
                self._node.gather(self.gradients.flat)
        return True

    @torch.no_grad()
    def _take_gradients(self, present: list[bool]) -> None:
        assert self._sharded_optimizer is not None
        self._sharded_optimizer.take(self._worker.grads, present)

    @torch.no_grad()
    def before_step(self, _: object = None, args: Sequence[Any] = (), options: Mapping[str, Any] | None = None) -> None:
        """An optimizer is about to step, or, with steps inside backward, to end a step whose buckets have stepped."""
        if self._in_backward is not None:
            self._inside = True
            if not self._in_backward.stepping:
                self._in_backward.finish()
            return
        if not self._between:
            self.checks.check()
            self._inside = True
            return
        self._begin_step()
        self._inside = True
        self._between = False
        self._worker.averaged = False
        if self._finite is not None and self._finite.skips and self.gradients is None:
            self._finite.admit(None, self._worker.step + 1)
        if self._algorithm.traits.sends_ahead:
            closure = any(each is not None for each in (*args[1:], (options or {}).get("closure")))  # it needs z, too
            self._worker.update_reads_model = self._apart or closure or update_reads_model(self._optimizers)
        if not self._in_place:
            self._shard.collect()
        with self._waits.inside_step():
            self._algorithm.before_step(self._worker)

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """An optimizer has stepped: gossip, if it is the last."""
        if calls_itself(optimizer):
            return
        self._inside = False
        if optimizer is not self._optimizers[-1]:
            return
        self._between = True
        if self._in_backward is not None and self._in_backward.stepping:
            return
        if self._in_backward is None:
            if not self._in_place:
                self._shard.collect()
            self._check_update(self._shard.flat)
        with self._waits.inside_step():
            if self._in_backward is not None:
                self._in_backward.end()
            else:
                self._algorithm.after_step(self._worker)
                self._algorithm.receive(self._worker)
            if not self._in_place:
                self._shard.spread()
            self._worker.step += 1
            self._waits.steps = self._worker.step
            if self._algorithm.traits.sends_ahead:
                with suppress(PeerLost):  # one that has ended after its last step is missed only if there is another
                    self._algorithm.send_ahead(self._worker)
                self.checks.note_sent(travels=self._network.model_travels)

    def _check_update(self, model: FlatVector) -> None:
        if self._finite is not None:
            self._finite.check(model, self._worker.step + 1)

    def _begin_step(self) -> None:
        self.checks.check()
        self.checks.check_unchanged()
        self.checks.check_surroundings()
        self._announce(StepEvent.step)

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

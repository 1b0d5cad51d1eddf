"""Steps inside backward: each bucket of the model is updated and sent as soon as its gradients are complete."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from typing import Any

import torch
from torch import nn
from torch.autograd import Variable

from sgp_core.algorithms.base import Algorithm
from sgp_core.algorithms.worker import Network
from sgp_core.runtime.clipping import clip_grad_norm_
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology

_FIRST_DIVISOR = 4
"""The first bucket is this many times smaller than the others, so that messages begin to leave early in backward."""


@dataclass
class _Bucket:
    """Parameters that step together, and the worker that the rule sees for them."""

    parameters: list[nn.Parameter]
    worker: _BucketWorker
    missing: set[int] = field(default_factory=set)
    """Ids of those whose gradients are not complete."""


class BackwardStepper:
    """Takes the optimizer's steps bucket by bucket while backward goes on, in one order on all workers.

    A bucket consists of whole parameters. Once all its gradients are complete and the buckets before it have stepped,
    the rule and the user's optimizer act on it as if it were the model: its messages leave while backward computes the
    gradients of the next. Its gradients are then gone. ``optimizer.step()`` waits for messages and ends the step. The
    numbers are those of steps after backward.

    Args:
        algorithm: the rule.
        worker: the whole model's.
        storage: the model.
        optimizer: any whose update of a parameter depends on that parameter and its group's options alone.
        bucket_bytes: the least size of a bucket; the first has a quarter of that.
        max_norm: norm that all gradients together are clipped to; no bucket then steps before backward is over.
        check: called before the first bucket of a step; raises if no step is allowed.
        check_update: called with each bucket that has stepped; raises if it must not leave.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        worker: WorkerState,
        storage: FlatStorage,
        optimizer: torch.optim.Optimizer,
        *,
        bucket_bytes: int,
        max_norm: float | None,
        check: Callable[[], None],
        check_update: Callable[[FlatVector], None],
    ) -> None:
        self.enabled = True
        self.stepping = False
        self._algorithm = algorithm
        self._worker = worker
        self._optimizer = optimizer
        self._max_norm = max_norm
        self._check, self._check_update = check, check_update
        self._buckets: list[_Bucket] = []
        self._done = 0
        self._pending = False
        for parameters, flat in storage.cut(chain([bucket_bytes // _FIRST_DIVISOR], repeat(bucket_bytes))):
            self._buckets.append(_Bucket(parameters, _BucketWorker(worker, flat, optimizer)))
        self._handles = [
            parameter.register_post_accumulate_grad_hook(partial(self._gradient_ready, number))
            for number, bucket in enumerate(self._buckets)
            for parameter in bucket.parameters
        ]
        self._restart()

    def finish(self) -> None:
        """Step the buckets that have not stepped, with the gradients they have: more may never come."""
        for bucket in self._buckets[self._done :]:
            self._step(bucket)

    def end(self) -> None:
        """Let the rule receive what its peers have sent. The next step may begin."""
        self._worker.weight, self._worker.averaged = self._buckets[-1].worker.weight, False
        self._algorithm.receive(self._worker)
        self._restart()

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    # -- inside ------------------------------------------------------------------------------------------------------
    def _restart(self) -> None:
        self._done = 0
        for bucket in self._buckets:
            bucket.missing = set(map(id, bucket.parameters))

    def _gradient_ready(self, number: int, parameter: nn.Parameter) -> None:
        if not self.enabled:
            return
        if number < self._done:
            raise RuntimeError(
                "backward() came again before optimizer.step(), and the model has stepped; put all backward() of a step"
                " but the last inside gossip.no_sync()"
            )
        if not self._pending:
            self._pending = True
            Variable._execution_engine.queue_callback(self._backward_done)
        self._buckets[number].missing.discard(id(parameter))
        if self._max_norm is None:
            while self._done < len(self._buckets) and not self._buckets[self._done].missing:
                self._step(self._buckets[self._done])

    def _backward_done(self) -> None:
        self._pending = False
        if self._max_norm is not None:
            parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
            clip_grad_norm_(parameters, self._max_norm)
        self.finish()

    @torch.no_grad()
    def _step(self, bucket: _Bucket) -> None:
        if not self._done:
            self._check()
            for each in self._buckets:
                each.worker.begin()
        self._algorithm.before_step(bucket.worker)
        with self._only(bucket.parameters):
            self._optimizer.step()
        self._check_update(bucket.worker.params)
        for parameter in bucket.parameters:
            parameter.grad = None
        self._algorithm.after_step(bucket.worker)
        self._done += 1

    @contextmanager
    def _only(self, parameters: list[nn.Parameter]) -> Iterator[None]:
        """Restrict the optimizer's groups to these parameters, inside the block."""
        groups = self._optimizer.param_groups
        original = [group["params"] for group in groups]
        mine = set(map(id, parameters))
        options = [_numbers(group) for group in groups]
        self.stepping = True
        try:
            for group in groups:
                group["params"] = [parameter for parameter in group["params"] if id(parameter) in mine]
            yield
        finally:
            for group, parameters in zip(groups, original, strict=True):
                group["params"] = parameters
            self.stepping = False
        if options != [_numbers(group) for group in groups]:
            raise RuntimeError(
                f"{type(self._optimizer).__name__} counts its steps per group of parameters, not per parameter, so it"
                " cannot step in parts; use step_in_backward=False"
            )


class _BucketWorker(WorkerState):
    """A bucket as a rule sees it. What the rule remembers lies in the memory of the whole model."""

    def __init__(self, whole: WorkerState, params: FlatVector, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(params, optimizer, BucketNetwork(whole.network, params), biased=whole.biased)
        self._whole = whole
        self._known: set[str] = set()

    def begin(self) -> None:
        """Begin a step: every bucket starts from the state of the whole model."""
        self.step, self.weight, self.averaged = self._whole.step, self._whole.weight, False
        self.first_step = self._whole.first_step
        self._known = set(self._whole.memories)

    def memory(self, name: str, like: FlatVector | None = None) -> FlatVector:
        """Return this bucket's part of the persistent vector ``name``."""
        mine = self._whole.memory(name).at(self.params)
        if name not in self._known and like is not None:
            mine.copy_(like)
        self._known.add(name)
        return mine

    def number(self, name: str, default: float = 0.0) -> float:
        """Return the persistent number ``name``."""
        return self._whole.number(name, default)

    def set_number(self, name: str, value: float) -> None:
        """Refuse: the next bucket would see it, as if a step had passed."""
        raise RuntimeError("where steps are taken inside backward, a rule sets numbers in receive()")


class BucketNetwork:
    """The network as a rule sees it that acts on a bucket: messages may leave, none is waited for."""

    def __init__(self, network: Network, part: FlatVector) -> None:
        self.topology = network.topology
        self.post, self.push = network.post, network.push
        self.in_degree, self.own = network.in_degree, network.own
        self._network = network
        self._part = part

    def scratch(self) -> FlatVector:
        """Return memory laid out like the bucket."""
        return self._network.scratch().at(self._part)

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Refuse: inside backward no message is waited for."""
        raise _too_early()

    def pull(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Refuse."""
        raise _too_early()

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Refuse."""
        raise _too_early()

    def mean(self, x: FlatVector) -> None:
        """Refuse."""
        raise _too_early()

    def mix_along(self, x: FlatVector, topology: Topology, step: int) -> None:
        """Refuse."""
        raise _too_early()

    def swap(self, outgoing: Sequence[FlatVector], incoming: Sequence[FlatVector], step: int) -> None:
        """Refuse."""
        raise _too_early()


def _too_early() -> RuntimeError:
    return RuntimeError(
        "where steps are taken inside backward, a rule waits for others in receive(), not in before_step() or"
        " after_step(); there it may post() and push()"
    )


def _numbers(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if isinstance(value, int | float)}


def warn_if_compiled(model: nn.Module) -> None:
    """Warn if the whole model is compiled: all its gradients then become ready at the end of backward."""
    if hasattr(model, "_orig_mod") or model._compiled_call_impl is not None:
        warnings.warn(
            "the model is compiled as a whole, so all its gradients come when backward is over and nothing can leave"
            " before; compile its blocks one by one: block.compile()",
            stacklevel=4,
        )

"""``Gossip``: attaches a decentralised algorithm to a model and to the user's own optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sgp_core.algorithms.base import Algorithm
from sgp_core.build_network import build_network
from sgp_core.compatibility import check_compatibility
from sgp_core.compression import Codec
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.pacing import Pace
from sgp_core.runtime.averaged_model import averaged_model
from sgp_core.runtime.backward_steps import warn_if_compiled
from sgp_core.runtime.events import Event, Staleness
from sgp_core.runtime.global_collectives import GlobalCollectives
from sgp_core.runtime.optimizer_hooks import OptimizerHooks
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.timeline import Timeline
from sgp_core.topology import Topology, build_topology

_INSIDE_AVERAGED = "optimizer.step() inside gossip.averaged(): the averaged model is for evaluation only"


class Gossip:
    """Makes every ``optimizer.step()`` a step of a decentralised algorithm. The training loop stays the user's own.

    From construction on, all workers hold rank 0's parameters and buffers, and trainable parameters live in one
    contiguous storage (move the model to its device, dtype and memory format first). Frozen parameters and buffers are
    each worker's own during training.

    Args:
        model: any module; tied parameters count once.
        optimizer: any torch optimizer over parameters of ``model``.
        algorithm: the rule, such as ``build_algorithm("sgp")``, possibly wrapped in an outer.
        topology: who sends to whom; the complete graph if None (enough for ``allreduce`` and ``local_sgd``).
        pace: when workers gossip, such as ``build_pace("every", steps=4)``; one round after each step if None.
        process_group: None for torch.distributed's default group; without torch.distributed, a world of one.
        compression: how messages are coded, such as ``build_compression("int8")``; None: they are not.
        transport: how models travel, the same on every worker. ``"shared_memory"``: workers on the CPUs of one host
            read each other's models in place. ``"symmetric_memory"``: the GPUs of one host write into each other's
            memory. ``"p2p"``: messages of torch.distributed. ``"hierarchical"`` (also ``"mixed"``): shared memory
            inside each of several hosts, messages between them. ``"auto"``: the fastest that is available. All give
            the same results bit for bit, except with asynchronous algorithms, no two runs of which are alike.
        node_size: workers of a node, m. More than 1 makes every m consecutive ranks one gossip node: they average
            their gradients at each step and hold the same model, and ``topology`` is one of nodes. Each worker sends
            the m-th part of the model that is its own to the workers at its place in the peer nodes. The model may
            have been sharded over the workers of the node by FSDP2's ``fully_shard``.
        shard_optimizer: let the optimizer of each worker step on its own shard only: an m-th of its state and work, and
            two thirds of the messages inside the node. For optimizers that treat every element by itself. Gradients
            are then the optimizer's alone, ``parameter.grad`` is None: clip with :meth:`clip_grad_norm_`.
        step_in_backward: take the optimizer's steps inside ``backward()``, bucket by bucket, so that messages leave
            while it goes on. The loop stays as it is: ``optimizer.step()`` waits for the messages of peers. The numbers
            are the same. Gradients are gone after ``backward()``, so clip with ``max_norm``; put all ``backward()`` of
            a step but the last inside :meth:`no_sync`. For optimizers whose update of a parameter depends on that
            parameter and its group's options alone. Costs a receive buffer per in-peer.
        bucket_mb: the least size of a bucket, in MB (2**20 bytes); the first has a quarter of it.
        max_norm: with ``step_in_backward``, the norm that all gradients together are clipped to before any step;
            messages then leave when backward is over.
        part_mb: the former name of ``bucket_mb``.
        record_events: whether an asynchronous algorithm remembers what it used when, for :func:`sgp_core.replay`.

    Attributes:
        algorithm, topology, optimizer: as given.
        network: what connects this worker to others. For measuring and testing; users' code should not need it.
        shard: the part of the model that this worker gossips, likewise.

    Raises:
        ConfigurationError: nothing to train, a topology of the wrong size or one the algorithm is not defined on, an
            optimizer over other parameters, choices that do not go together, workers that cannot be divided into
            nodes, models that differ between workers, or a transport that is not
            available.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        algorithm: Algorithm,
        topology: Topology | None = None,
        pace: Pace | None = None,
        process_group: dist.ProcessGroup | None = None,
        compression: Codec | None = None,
        transport: str = "auto",
        node_size: int = 1,
        shard_optimizer: bool = False,
        step_in_backward: bool = False,
        bucket_mb: float = 4.0,
        part_mb: float | None = None,
        max_norm: float | None = None,
        record_events: bool = False,
    ) -> None:
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trainable:
            raise ConfigurationError("the model has no trainable parameters")
        node = NodeGroup(process_group, node_size, trainable[0].device)
        topology = topology or build_topology("complete", world_size=node.count)
        if topology.world_size != node.count:
            made = f"the topology is made for {topology.world_size} {'workers' if node_size == 1 else 'nodes'}"
            raise ConfigurationError(f"{made}, the group has {node.count}")
        check_compatibility(
            algorithm,
            topology,
            pace=pace,
            compression=compression,
            node_size=node_size,
            step_in_backward=step_in_backward,
        )
        _check_optimizer(optimizer, model, algorithm)
        if step_in_backward:
            warn_if_compiled(model)

        self.algorithm = algorithm
        self.topology = topology
        self.optimizer = optimizer
        self._model = model
        self._node = node
        self._workers = GlobalCollectives(node)
        self.shard, self.network, self._paced = build_network(
            model,
            trainable,
            algorithm=algorithm,
            topology=topology,
            node=node,
            pace=pace if algorithm.traits.gossips else None,  # others have a rhythm of their own
            compression=compression,
            transport=transport,
            record_events=record_events,
        )
        self._hooks = OptimizerHooks(model, optimizer, algorithm, self.shard, node, shard_optimizer=shard_optimizer)
        gradients = self._hooks.gradients
        bucket_bytes = int((bucket_mb if part_mb is None else part_mb) * 2**20)
        self._worker = WorkerState(
            self.shard.flat,
            optimizer,
            self._paced or self.network,
            biased=algorithm.leaves_one(self.network.topology),
            grads=node.shard_of(gradients.flat) if gradients else None,
        )
        self._hooks.attach(self._worker, bucket_bytes if step_in_backward else None, max_norm)

    # -- facts -------------------------------------------------------------------------------------------------------
    @property
    def rank(self) -> int:
        """This worker's rank in the group."""
        return self._node.number * self._node.size + self._node.place

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return self._workers.size

    @property
    def step(self) -> int:
        """Optimizer steps completed."""
        return self._worker.step

    @property
    def transport(self) -> str | None:
        """How models travel, by the name that chooses it; None in a world of one."""
        return self.network.transport_name

    @property
    def steps_in_backward(self) -> bool:
        """Whether the optimizer's steps, and any clipping before them, happen inside ``backward()``."""
        return self._hooks.inside_backward

    @property
    def push_sum_weight(self) -> float:
        """This worker's (its node's) PushSum weight ``w``; exactly 1 on doubly stochastic graphs."""
        return float(self._worker.weight)

    @property
    def bytes_sent(self) -> int:
        """Bytes this worker has sent for training so far (an AllReduce counts as a ring's), to other nodes only."""
        return self.network.bytes_sent

    @property
    def bytes_sent_inside(self) -> int:
        """Bytes this worker has sent for training so far to the workers of its own node."""
        return self._node.bytes_sent

    @property
    def communication_seconds(self) -> float:
        """Seconds the training thread has spent in communication so far, waiting and mixing included."""
        return self.network.seconds + self._node.seconds

    def record(self, timeline: Timeline | None) -> None:
        """Let ``timeline`` record the exchanges of the steps it is interested in; None: stop."""
        self.network.timeline = timeline

    @property
    def consensus_estimate(self) -> tuple[int, float] | None:
        """Step and value of the latest estimate of :meth:`consensus_distance`; None unless a pace measures it.

        It travels with the messages, needs no collective, and is the same number on every worker.
        """
        return None if self._paced is None else self._paced.estimate

    @property
    def asynchronous(self) -> bool:
        """Whether each worker steps at its own pace. Workers then meet in every method that all of them must call."""
        return self.network.asynchronous

    @property
    def staleness(self) -> Staleness:
        """How old what this worker used was; counted with asynchronous algorithms only."""
        return self.network.staleness

    @property
    def events(self) -> list[Event]:
        """What this worker used when, from its start or its last load; empty without ``record_events``."""
        return list(self.network.events or ())

    # -- what users call ---------------------------------------------------------------------------------------------
    def consensus_distance(self) -> float:
        """Return ``sqrt(mean_i ||z_i - z_bar||^2) / ||z_bar||``; every worker must call, and gets the same number."""
        return self._workers.consensus_distance(self._worker.params, self.network.scratch())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block, the model holds the average over all workers, ``sum_i x_i / n``; so do its buffers.

        Every worker must enter. On exit each worker's own model is restored bit for bit. An asynchronous algorithm's
        workers meet here, and messages in flight are added first.

        Raises:
            RuntimeError: entered twice, or the optimizer steps inside.
        """
        if self._hooks.forbidden is not None:
            raise RuntimeError("gossip.averaged() is already active")
        if self.asynchronous:
            self.finish()
        self._hooks.forbidden = _INSIDE_AVERAGED
        try:
            with averaged_model(self._model, self.shard, self._worker, self.network, self._node):
                yield
        finally:
            self._hooks.forbidden = None

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients inside the block: they are neither averaged (``allreduce``, node groups) nor stepped on
        (``step_in_backward``)."""
        with self._hooks.accumulating():
            yield

    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """Scale the optimizer's gradients to a norm of at most ``max_norm``; return the norm before.

        What ``torch.nn.utils.clip_grad_norm_`` does, also where the workers of a node hold a shard each: then all of
        them must call.

        Raises:
            RuntimeError: steps are taken inside backward, so that it would be too late.
        """
        return self._hooks.clip_grad_norm_(max_norm)

    def request_meeting(self) -> None:
        """Ask the other workers of an asynchronous algorithm, without waiting, to meet."""
        self.network.request_meeting()

    @property
    def meeting_requested(self) -> bool:
        """Whether a worker has asked for a meeting since the last one. The training loop should then let all meet."""
        return self.network.meeting_requested

    @torch.no_grad()
    def finish(self) -> None:
        """Wait for messages in flight and add them. Every worker must call; synchronous algorithms have none.

        Workers of an asynchronous algorithm meet here: call it once the last step is done, before any of them ends.
        """
        if self.network.in_flight:
            worker = self._worker
            worker.params.mul_(worker.weight)
            worker.weight = self.network.drain(worker.params, worker.weight)
            worker.params.div_(worker.weight)
            self.shard.spread()

    def close(self) -> None:
        """Remove all hooks, once messages in flight have arrived and left; the model stays usable.

        Call this or :meth:`finish` before the process group is used for something else: a message that was given up
        could be taken for the next one.
        """
        self.network.close()
        self._hooks.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return what a bit-exact resume of this worker needs beside ``optimizer.state_dict()`` and the buffers.

        Messages in flight are part of it, so every worker must call at the same step; call ``finish`` first to have
        none. Workers of an asynchronous algorithm meet here, each at its own step, and add what is in flight: a resume
        is then not bit-exact, but conserves both sums. Tensors are copies. Replicas differ by design: save one per
        rank.
        """
        if self.asynchronous:
            self.finish()
        return {
            **self._worker.state_dict(),
            "device": self.shard.flat.tensors[0].device.type,
            **self.network.state_dict(),
            "pace": None if self._paced is None else self._paced.state_dict(),
            "bytes_sent_inside": self.bytes_sent_inside,
            "seconds": self.communication_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`; every worker loads its own, all workers of a node at once.

        With an asynchronous algorithm all workers meet.

        Raises:
            ValueError: the state is of another model, or only one of the two was compressed.
        """
        self.network.check_state(state)
        self._worker.load_state_dict(state)
        self.network.load_state_dict(state, self._worker.step)
        if self._paced is not None:
            self._paced.load_state_dict(state["pace"])
        self.shard.spread()
        self._node.bytes_sent = int(state.get("bytes_sent_inside", 0))
        self.network.seconds, self._node.seconds = float(state["seconds"]), 0.0


def _check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, algorithm: Algorithm) -> None:
    known = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) not in known for group in optimizer.param_groups for parameter in group["params"]):
        raise ConfigurationError(
            "the optimizer updates parameters that are not the model's; build it from model.parameters()"
        )
    for group in optimizer.param_groups:
        algorithm.check_optimizer(group)

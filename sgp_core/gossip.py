"""``Gossip``: attaches a decentralised algorithm to a model and to the user's own optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.build_network import build_network
from sgp_core.compatibility import check_compatibility
from sgp_core.compression import Codec
from sgp_core.distributed.waits import Waits
from sgp_core.elastic.group import ElasticGroup
from sgp_core.elastic.worker import ElasticWorker
from sgp_core.elastic.world import group_of, workers_of
from sgp_core.nonfinite import Nonfinite
from sgp_core.pacing import Pace
from sgp_core.runtime import choices
from sgp_core.runtime.averaged_model import averaged_model, compact_state_dict
from sgp_core.runtime.backward_steps import warn_if_compiled
from sgp_core.runtime.finite_check import FiniteCheck
from sgp_core.runtime.gossip_checkpoint import GossipCheckpoint
from sgp_core.runtime.gossip_state import GossipState
from sgp_core.runtime.optimizer_hooks import OptimizerHooks
from sgp_core.runtime.optimizers import JointOptimizer, Optimizers
from sgp_core.runtime.preconditions import check_optimizers, find_parameters
from sgp_core.runtime.state_identity import StateIdentity, list_parameters
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.timeline import Timeline
from sgp_core.validation import one_of


class Gossip(ElasticWorker):
    """Makes every ``optimizer.step()`` a step of a decentralised algorithm. The training loop stays the user's own.

    From construction on, all workers hold rank 0's parameters and buffers, and trainable parameters live in one
    contiguous storage (move the model to its device, dtype and memory format first). Frozen parameters and buffers are
    each worker's own during training.

    Args:
        model: any module; tied parameters count once.
        optimizer: any torch optimizer over parameters of ``model``, or a list of all that step over it: models are then
            exchanged when the last of the list has stepped.
        algorithm: the rule, by name, or such as ``build_algorithm("sgp")``, possibly wrapped in an outer.
        topology: who sends to whom, by name, or from ``build_topology``; the complete graph if None (enough for
            ``allreduce`` and ``local_sgd``).
        pace: when workers gossip, by name or such as ``build_pace("every", steps=4)``, which 4 stands for; one round
            after each step if None.
        process_group: None for torch.distributed's default group; without torch.distributed, a world of one.
        compression: how messages are coded, by name or from ``build_compression``; None: they are not.
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
        nonfinite: what to do about numbers that are not finite, before any of them is sent: ``"stop"`` raises
            :class:`sgp_core.NotFinite`, which names rank, step and tensor; ``"skip"`` lets all workers skip a step in
            which a gradient is not finite, for one small collective a step; None: nothing is looked at. Looking reads
            what is sent once more. With a ``GradScaler``, leave it None where gradients are averaged.
        link_faults: for tests: lose, double, delay and reorder the messages of ``asgp``, the same on every worker.
            Models then travel as messages.
        patience_s: seconds within which workers that wait for each other in places that do not match say who waits
            where, in an error; and after which a worker that waits names who is missing. ``math.inf``: never.
        elastic: an :class:`~sgp_core.elastic.ElasticGroup`, or True to make one of the default process group: workers
            may die, be stopped or come, and the others go on. For ``sgp`` and ``osgp``; see docs/elastic.md. A worker
            that comes gets a living worker's model here, and begins with step :attr:`step`.

    Attributes:
        algorithm, topology, optimizer: as given.
        inherited: what the worker whose model this one began with had for it, see :meth:`admit`; None if there is none.
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
        optimizer: Optimizers,
        *,
        algorithm: choices.AlgorithmChoice,
        topology: choices.TopologyChoice = None,
        pace: choices.PaceChoice = None,
        process_group: dist.ProcessGroup | None = None,
        compression: choices.CompressionChoice = None,
        transport: str = "auto",
        node_size: int = 1,
        shard_optimizer: bool = False,
        step_in_backward: bool = False,
        bucket_mb: float = 4.0,
        part_mb: float | None = None,
        max_norm: float | None = None,
        record_events: bool = False,
        nonfinite: str | None = None,
        link_faults: LinkFaults | None = None,
        patience_s: float = 5.0,
        elastic: ElasticGroup | bool = False,
    ) -> None:
        trainable = find_parameters(model, process_group)
        self._group = group = group_of(elastic, process_group)
        algorithm, pace = choices.algorithm_of(algorithm), choices.pace_of(pace)
        compression = choices.compression_of(compression)
        action = None if nonfinite is None else one_of(Nonfinite, "nonfinite", nonfinite)
        self._waits = Waits(process_group, math.inf if group else patience_s, in_step=not algorithm.traits.asynchronous)
        with self._waits.inside("Gossip(...)", meet=False):
            node, self._workers = workers_of(group, process_group, node_size, trainable[0].device)
        topology = choices.topology_of(topology, node)
        check_compatibility(
            algorithm,
            topology,
            pace=pace,
            compression=compression,
            node_size=node_size,
            step_in_backward=step_in_backward,
            nonfinite=action,
            elastic=group is not None,
        )
        optimizers = check_optimizers(optimizer, model, algorithm)

        self.algorithm, self.topology, self.optimizer = algorithm, topology, optimizer
        self._model, self._node = model, node
        with self._waits.inside("Gossip(...)", meet=False):
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
                link_faults=link_faults,
                workers=self._workers,
                elastic=group,
            )
        self._waits.interrupt_by(node.interrupt, self.network.interrupt)
        self._hooks = self._make_hooks(optimizers, trainable, action, shard_optimizer)
        self._worker = self._make_worker(optimizers)
        bucket_bytes = self._bucket_bytes(bucket_mb if part_mb is None else part_mb) if step_in_backward else None
        self._hooks.attach(self._worker, self.network, bucket_bytes, max_norm)
        identity, sharded = self._identity(trainable, pace, compression), self._hooks.optimizer_sharded
        self._state = GossipState(self._worker, self.shard, self.network, self._paced, node, identity)
        self._checkpoint = GossipCheckpoint(model, optimizers, self._state, process_group, optimizer_sharded=sharded)
        self._take_place(group)

    # -- what users call ---------------------------------------------------------------------------------------------
    def record(self, timeline: Timeline | None) -> None:
        """Let ``timeline`` record the exchanges of the steps it is interested in; None: stop."""
        self.network.timeline = timeline

    def consensus_distance(self) -> float:
        """Return ``sqrt(mean_i ||z_i - z_bar||^2) / ||z_bar||``; every worker must call, and gets the same number."""
        self._hooks.check_between("consensus_distance()")
        with self._waits.inside("consensus_distance()"):
            return self._workers.consensus_distance(self._worker.params)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block, the model holds the average over all workers, ``sum_i x_i / n``; so do its buffers.

        Every worker must enter. On exit each worker's own model is restored bit for bit. An asynchronous algorithm's
        workers meet here, and messages in flight are added first.

        Raises:
            RuntimeError: entered twice or in the middle of a step, or the optimizer steps inside.
        """
        self._hooks.check_between("averaged()")
        with self._hooks.checks.evaluating():
            if self.asynchronous:
                with self._waits.inside("averaged()"):
                    self.finish()
            with averaged_model(self._model, self.shard, self._worker, self.network, self._workers, self._waits):
                yield

    def averaged_state_dict(self, device: torch.device | str | None = None) -> dict[str, Any]:
        """Return ``model.state_dict()`` of the average over all workers, buffers included. Every worker must call.

        Tensors are copies that share no memory with the model, whole ones where FSDP2 has sharded it: save them with
        ``torch.save`` or safetensors, and load them into a model that knows nothing of ``Gossip``.

        Args:
            device: where to put them; None: where the model is.
        """
        with self.averaged():
            return compact_state_dict(self._model, device)

    def check_finite(self) -> None:
        """Look at this worker's model, without communication.

        Raises:
            NotFinite: it holds nan or infinity; the message names the tensor.
        """
        with torch.no_grad():
            self.shard.collect()
        self._finite.check(self.shard.flat, self.step, sends=False)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients inside the block: they are neither averaged (``allreduce``, node groups) nor stepped on
        (``step_in_backward``)."""
        with self._hooks.accumulating():
            yield

    @contextmanager
    def join(self) -> Iterator[None]:
        """Let workers take different numbers of steps inside the block: those that have left it take part in the rest.

        A worker that has run out of batches goes on exchanging, with no update of its own, until all have left, so that
        both sums of PushSum are kept. Where gradients are averaged (``allreduce``, node groups) it adds zero to them,
        and takes the step that the others take, with their learning rate: clip with :meth:`clip_grad_norm_` then. Costs
        one small collective per step. Every worker must enter.

        Raises:
            ConfigurationError: an asynchronous algorithm, whose workers need none, or FSDP2.
            RuntimeError: entered twice.
        """
        with self._hooks.joining(self._workers):
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

    def close(self) -> None:
        """Remove all hooks, once messages in flight have arrived and left; the model stays usable.

        Call this or :meth:`finish` before the process group is used for something else: a message that was given up
        could be taken for the next one.
        """
        with self._waits.inside_close():
            self.network.close()
        self._hooks.detach()
        self._waits.close()

    def _make_hooks(
        self,
        optimizers: list[torch.optim.Optimizer],
        trainable: list[nn.Parameter],
        action: Nonfinite | None,
        shard_optimizer: bool,
    ) -> OptimizerHooks:
        agree = None if self.algorithm.traits.asynchronous else self._workers
        self._finite = FiniteCheck(self._model, optimizers, action, self.rank, agree, self._waits)
        return OptimizerHooks(
            self._model,
            optimizers,
            trainable,
            self.algorithm,
            self.shard,
            self._node,
            self._waits,
            None if action is None else self._finite,
            shard_optimizer=shard_optimizer,
        )

    def _bucket_bytes(self, megabytes: float) -> int:
        warn_if_compiled(self._model)
        return int(megabytes * 2**20)

    @property
    def waits(self) -> Waits:
        """Where this worker waits for others, for :class:`sgp_core.watchdog.Watchdog`."""
        return self._waits

    def _make_worker(self, optimizers: list[torch.optim.Optimizer]) -> WorkerState:
        gradients = self._hooks.gradients
        return WorkerState(
            self.shard.flat,
            optimizers[0] if len(optimizers) == 1 else JointOptimizer(optimizers),
            self._paced or self.network,
            biased=self._group is not None or self.algorithm.leaves_one(self.network.topology),
            grads=self._node.shard_of(gradients.flat) if gradients else None,
        )

    def _identity(self, trainable: list[nn.Parameter], pace: Pace | None, compression: Codec | None) -> StateIdentity:
        return StateIdentity(
            self.rank,
            self.world_size,
            self._node.size,
            self.algorithm,
            self.topology,
            pace if self._paced else None,
            compression,
            *list_parameters(self._model, trainable, self.shard.storage),
        )

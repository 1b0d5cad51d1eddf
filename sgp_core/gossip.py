"""``Gossip``: attaches a decentralised algorithm to a model and to the user's own optimizer."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sgp_core.algorithms.base import Algorithm, average_exactly
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.distributed import DistributedNetwork
from sgp_core.runtime.events import Event, Staleness
from sgp_core.runtime.gradients import GradientCollector
from sgp_core.runtime.one_sided import NETWORKS, SharedMemoryNetwork
from sgp_core.runtime.storage import FlatStorage
from sgp_core.runtime.transports.p2p import P2PTransport
from sgp_core.runtime.worker import RuleWorker
from sgp_core.topology import Topology, build_topology


class Gossip:
    """Makes every ``optimizer.step()`` a step of a decentralised algorithm. The loop stays the user's own.

    From construction on, all workers hold rank 0's parameters and buffers, and trainable parameters live in one
    contiguous storage (move the model to its device, dtype and memory format first). Frozen parameters and buffers are
    each worker's own during training.

    Args:
        model: any module; tied parameters count once.
        optimizer: any torch optimizer over parameters of ``model``.
        algorithm: the rule, such as ``build_algorithm("sgp")``, possibly wrapped in an outer.
        topology: who talks to whom; the complete graph if None (enough for ``allreduce`` and ``local_sgd``).
        process_group: None for torch.distributed's default group; without torch.distributed, a world of one.
        record_events: whether an asynchronous algorithm remembers what it used when, for :func:`sgp_core.replay`.

    Raises:
        ConfigurationError: nothing to train, a topology of the wrong size or one the algorithm is not defined on, an
            optimizer over other parameters, or models that differ between workers.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        algorithm: Algorithm,
        topology: Topology | None = None,
        process_group: dist.ProcessGroup | None = None,
        record_events: bool = False,
    ) -> None:
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        _check_parameters(model, trainable, optimizer)
        size = dist.get_world_size(process_group) if dist.is_initialized() else 1
        topology = topology or build_topology("complete", world_size=size)
        if topology.world_size != size:
            raise ConfigurationError(f"the topology is made for {topology.world_size} workers, the group has {size}")
        algorithm.check(topology)

        self.algorithm = algorithm
        self.topology = topology
        self._model = model
        self._averaging = False
        self._storage = FlatStorage(trainable)
        flat = self._storage.flat
        self._one_sided: SharedMemoryNetwork | None = None
        if algorithm.one_sided is not None:
            network = NETWORKS[algorithm.one_sided]
            self._one_sided = network(topology, process_group, flat, record_events=record_events)
        transport = P2PTransport(flat, process_group, algorithm.steps_in_flight) if size > 1 else None
        self._network = self._one_sided or DistributedNetwork(topology, process_group, transport)
        self._gradients = GradientCollector(self._storage, self._on_gradients) if algorithm.reads_gradients else None
        self._worker = RuleWorker(
            flat,
            optimizer,
            self._network,
            biased=algorithm.leaves_one(topology),
            grads=self._gradients.flat if self._gradients else None,
        )
        self._start_alike()
        if self._one_sided:
            self._one_sided.begin(0)
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    # -- facts -------------------------------------------------------------------------------------------------------
    @property
    def rank(self) -> int:
        """This worker's rank in the group."""
        return self._network.rank

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return self._network.world_size

    @property
    def step(self) -> int:
        """Optimizer steps completed."""
        return self._worker.step

    @property
    def push_sum_weight(self) -> float:
        """This worker's PushSum weight ``w``; exactly 1 on doubly stochastic graphs."""
        return float(self._worker.weight)

    @property
    def bytes_sent(self) -> int:
        """Bytes this worker has sent for training so far (an AllReduce counts as a ring's)."""
        return self._network.bytes_sent

    @property
    def communication_seconds(self) -> float:
        """Seconds the training thread has spent in communication so far, waiting and mixing included."""
        return self._network.seconds

    @property
    def asynchronous(self) -> bool:
        """Whether workers take their steps each at its own pace; what every worker must call then lets them meet."""
        return self._one_sided is not None

    @property
    def staleness(self) -> Staleness:
        """How old what this worker used was; nothing is counted for algorithms that march together."""
        return self._one_sided.staleness if self._one_sided else Staleness()

    @property
    def events(self) -> list[Event]:
        """What this worker used when, from its start or its last load; empty without ``record_events``."""
        return list(self._one_sided.events or ()) if self._one_sided else []

    # -- what users call ---------------------------------------------------------------------------------------------
    @torch.no_grad()
    def consensus_distance(self) -> float:
        """Return ``sqrt(mean_i ||z_i - z_bar||^2) / ||z_bar||``; every worker must call, and gets the same number."""
        if self.world_size == 1:
            return 0.0
        z, z_bar = self._worker.params, self._network.scratch()
        with self._network.uncounted():
            z_bar.copy_(z)
            self._network.mean(z_bar)
            spread, size = 0.0, 0.0
            for mine, mean in zip(z.tensors, z_bar.tensors, strict=True):
                spread += float(torch.linalg.vector_norm(mine - mean, dtype=torch.float64)) ** 2
                size += float(torch.linalg.vector_norm(mean, dtype=torch.float64)) ** 2
            total = self._network.total(torch.tensor(spread, dtype=torch.float64, device=z.tensors[0].device))
        return (float(total) / self.world_size) ** 0.5 / max(size**0.5, 1e-300)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model hold the network-wide average ``sum_i x_i / n``, buffers averaged too, inside the block.

        Every worker must enter. On exit each worker's own model is restored bit for bit. An asynchronous algorithm's
        workers meet here, and what was under way has been added.

        Raises:
            RuntimeError: entered twice, or the optimizer steps inside.
        """
        if self._averaging:
            raise RuntimeError("gossip.averaged() is already active")
        if self._one_sided:
            self.finish()
        own, weight = self._worker.params.clone(), self._worker.weight
        in_flight = self._network.in_flight_content()
        buffers = list(self._model.buffers())
        own_buffers = [buffer.clone() for buffer in buffers]
        self._averaging, self._worker.averaged = True, False
        try:
            with torch.no_grad(), self._network.uncounted():
                average_exactly(self._worker)
                self._average_buffers(buffers)
            yield
        finally:
            self._averaging = False
            self._worker.params.copy_(own)
            self._worker.weight = weight
            self._network.load_in_flight(in_flight)
            with torch.no_grad():
                for buffer, kept in zip(buffers, own_buffers, strict=True):
                    buffer.copy_(kept)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients inside the block without averaging them (only ``allreduce`` averages gradients)."""
        if self._gradients is None:
            yield
            return
        before, self._gradients.enabled = self._gradients.enabled, False
        try:
            yield
        finally:
            self._gradients.enabled = before

    def call(self) -> None:
        """Ask the other workers of an asynchronous algorithm, without waiting, to come and meet; see :attr:`called`."""
        if self._one_sided:
            self._one_sided.call()

    @property
    def called(self) -> bool:
        """Whether a worker has called since all last met. It is for the training loop to answer."""
        return self._one_sided is not None and self._one_sided.called

    @torch.no_grad()
    def finish(self) -> None:
        """Wait for messages in flight and add them. Every worker must call; synchronous algorithms have none.

        Workers of an asynchronous algorithm meet here: call it once the last step is done, before any of them ends.
        """
        if self._network.in_flight:
            worker = self._worker
            worker.params.mul_(worker.weight)
            worker.weight = self._network.drain(worker.params, worker.weight)
            worker.params.div_(worker.weight)

    def close(self) -> None:
        """Detach from the optimizer once messages in flight have come and gone; the model stays usable.

        Call it before the process group is used for something else, or ``finish``: a message that is given up on may
        be taken for the next one.
        """
        self._network.in_flight_content()
        self._network.load_in_flight({})
        if self._one_sided:
            self._one_sided.close()
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return what a bit-exact resume of this worker needs beside ``optimizer.state_dict()`` and the buffers.

        Messages in flight are part of it, so every worker must call at the same step; call ``finish`` first to have
        none. Workers of an asynchronous algorithm meet here, wherever each is, and add what is under way: no state is
        bit-exact where nothing is repeatable, but both sums are. Tensors are copies. Replicas differ by design: save
        one per rank.
        """
        if self._one_sided:
            self.finish()
        return {
            **self._worker.state_dict(),
            "in_flight": self._network.in_flight_content(),
            "bytes_sent": self.bytes_sent,
            "seconds": self.communication_seconds,
            "staleness": self.staleness.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`; every worker loads its own, and with an asynchronous algorithm all meet.

        Raises:
            ValueError: the state is of another model.
        """
        self._worker.load_state_dict(state)
        self._network.load_in_flight(state["in_flight"])
        if self._one_sided:
            self._one_sided.begin(self._worker.step)
            self._one_sided.staleness = Staleness(**state["staleness"])
        self._network.bytes_sent, self._network.seconds = int(state["bytes_sent"]), float(state["seconds"])

    # -- stages of a step --------------------------------------------------------------------------------------------
    @torch.no_grad()
    def _on_gradients(self) -> None:
        self.algorithm.on_gradients(self._worker)

    @torch.no_grad()
    def _before_step(self, *_: object) -> None:
        if self._averaging:
            raise RuntimeError("optimizer.step() inside gossip.averaged(): the averaged model is for evaluation only")
        moved = self._storage.moved()
        if moved is not None:
            name = _name_of(self._model, self._storage.parameters[moved])
            raise RuntimeError(
                f"parameter '{name}' was given other memory after Gossip was built; move or convert the model before"
            )
        self._worker.averaged = False
        self.algorithm.before_step(self._worker)

    @torch.no_grad()
    def _after_step(self, *_: object) -> None:
        self.algorithm.after_step(self._worker)
        if self._one_sided:
            self.algorithm.receive(self._worker)
        self._worker.step += 1

    # -- buffers and the start ---------------------------------------------------------------------------------------
    @torch.no_grad()
    def _start_alike(self) -> None:
        layout = repr(
            [(name, tuple(p.shape), str(p.dtype), p.requires_grad) for name, p in self._model.named_parameters()]
        )
        device = self._storage.flat.tensors[0].device
        fingerprint = torch.tensor([zlib.crc32(layout.encode())], dtype=torch.int64, device=device)
        first = fingerprint.clone()
        self._network.broadcast([first])
        different = self._network.total((first != fingerprint).to(torch.int64))
        if int(different):
            raise ConfigurationError(
                f"{int(different)} of {self.world_size} workers built a model whose parameters differ from rank 0's in"
                " name, shape or dtype"
            )
        frozen = [parameter.data for parameter in self._model.parameters() if not parameter.requires_grad]
        self._network.broadcast([*self._storage.flat.tensors, *frozen, *self._model.buffers()])

    def _average_buffers(self, buffers: list[Tensor]) -> None:
        numeric = [buffer for buffer in buffers if buffer.dtype != torch.bool and buffer.numel()]
        if not numeric or self.world_size == 1:
            return
        total = self._network.total(torch.cat([buffer.reshape(-1).to(torch.float64) for buffer in numeric]))
        parts = total.div_(self.world_size).split([buffer.numel() for buffer in numeric])
        for buffer, part in zip(numeric, parts, strict=True):
            buffer.copy_((part if buffer.is_floating_point() else part.round()).view_as(buffer))


def _check_parameters(model: nn.Module, trainable: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    if not trainable:
        raise ConfigurationError("the model has no trainable parameters")
    known = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) not in known for group in optimizer.param_groups for parameter in group["params"]):
        raise ConfigurationError(
            "the optimizer updates parameters that are not the model's; build it from model.parameters()"
        )


def _name_of(model: nn.Module, wanted: nn.Parameter) -> str:
    return next((name for name, parameter in model.named_parameters() if parameter is wanted), "?")

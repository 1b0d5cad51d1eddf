"""Ways of keeping workers together, all behind one small class: those of this library, and others beside them."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import sgp_core
from sgp_core.algorithms import ALGORITHMS

COMPUTE_ONLY, FLOOR, MEMORY, DDP = "compute only", "bare exchange", "in-place average", "torch DDP"
Loss = Callable[[nn.Module], Tensor]
_CHUNK = 1 << 20
"""Elements the bare exchange sends at a time: 4 MB, as ``p2p`` does."""


class Contender:
    """A model and its optimizer, and no communication: what others add to.

    Args:
        model: any module; the contender may wrap it and move its parameters.
        lr: of the plain SGD that all contenders use.
    """

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        self.model = model
        self.size = sum(p.numel() * p.element_size() for p in model.parameters())
        self.steps = 0
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def step(self, loss: Loss) -> None:
        """Take one training step."""
        loss(self.model).backward()
        self.optimizer.step()
        self.exchange()
        self.optimizer.zero_grad()
        self.steps += 1

    def exchange(self) -> None:
        """Communicate after the optimizer's step."""

    def settle(self) -> None:
        """Wait for what is under way, so that it does not disturb whoever is next."""

    @property
    def bytes_sent(self) -> float:
        """Bytes this worker has sent so far (an AllReduce counts as a ring's)."""
        return 0.0


class InPlaceAverage(Contender):
    """What averaging with a model in the same memory cannot go below: two reads and a write, and nobody to wait for."""

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        super().__init__(model, lr)
        parameters = list(model.parameters())
        flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        for parameter, piece in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.data = piece.view_as(parameter)
        self.pieces = list(zip(flat.split(_CHUNK), flat.clone().split(_CHUNK), strict=True))

    @torch.no_grad()
    def exchange(self) -> None:
        for mine, other in self.pieces:
            mine.lerp_(other, 0.5)


class BareExchange(InPlaceAverage):
    """What one-peer gossip cannot go below over gloo: receives posted first, the model sent as it lies, one pass.

    Written by hand for this one case: the peers of the one-peer exponential graph, half and half.
    """

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        super().__init__(model, lr)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.offsets = [1 << k for k in range(max(1, (self.world_size - 1).bit_length()))]

    @torch.no_grad()
    def exchange(self) -> None:
        offset = self.offsets[self.steps % len(self.offsets)]
        source, target = (self.rank - offset) % self.world_size, (self.rank + offset) % self.world_size
        receives = [dist.irecv(inbox, source) for _, inbox in self.pieces]
        sends = [dist.isend(mine, target) for mine, _ in self.pieces]
        for (mine, inbox), receive, send in zip(self.pieces, receives, sends, strict=True):
            receive.wait()  # type: ignore[union-attr]
            send.wait()  # type: ignore[union-attr]
            mine.lerp_(inbox, 0.5)

    @property
    def bytes_sent(self) -> float:
        return float(self.steps * self.size)


class TorchDDP(Contender):
    """DistributedDataParallel at its quickest: gradients live in its buckets, buffers stay each worker's own."""

    def __init__(self, model: nn.Module, lr: float = 0.01, *, bf16: bool = False, bucket_mb: float = 25) -> None:
        super().__init__(model, lr)
        self.sent = (0.5 if bf16 else 1.0) * self.size * _ring(dist.get_world_size())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the newer name does not exist in torch 2.9
            self.model = DistributedDataParallel(
                model, gradient_as_bucket_view=True, broadcast_buffers=False, bucket_cap_mb=bucket_mb
            )
        if bf16:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

            self.model.register_comm_hook(None, bf16_compress_hook)

    @property
    def bytes_sent(self) -> float:
        return self.steps * self.sent


class PeriodicAverage(Contender):
    """torch's PeriodicModelAverager after every step."""

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        super().__init__(model, lr)
        from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it recommends DDP
            self.averager = PeriodicModelAverager(period=1)

    def exchange(self) -> None:
        self.averager.average_parameters(self.model.parameters())

    @property
    def bytes_sent(self) -> float:
        return self.steps * self.size * _ring(dist.get_world_size())


class DecentDP(Contender):
    """Decent-DP from PyPI, on its own one-peer exponential graph; it steps inside backward and overlaps by itself."""

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        super().__init__(model, lr)
        from decent_dp.ddp import DecentralizedDataParallel
        from loguru import logger

        logger.disable("decent_dp")
        self.wrapped = self.model = DecentralizedDataParallel(
            model,
            optim_fn=lambda named: torch.optim.SGD([parameter for _, parameter in named], lr=lr),
            topology="one-peer-exp",
            _local_world_size=1,
        )

    def step(self, loss: Loss) -> None:
        self.model.zero_grad()
        loss(self.model).backward()
        self.steps += 1

    def settle(self) -> None:
        for work in self.wrapped._comm_ops:
            if work is not None:
                work.wait()

    @property
    def bytes_sent(self) -> float:
        return self.steps * self.size * _ring(2)


class Gossiped(Contender):
    """One of this library's algorithms over one of its transports."""

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.01,
        *,
        algorithm: str,
        topology: str = "one_peer_exponential",
        options: dict[str, Any] | None = None,
        transport: str | None = None,
    ) -> None:
        super().__init__(model, lr)
        chosen: dict[str, Any] = {"transport": transport or "p2p"} if transports() else {}
        self.gossip = sgp_core.Gossip(
            model,
            self.optimizer,
            algorithm=sgp_core.build_algorithm(algorithm, **(options or {})),
            topology=sgp_core.build_topology(topology, world_size=dist.get_world_size()),
            **chosen,
        )

    def settle(self) -> None:
        self.gossip.finish()

    @property
    def bytes_sent(self) -> float:
        return float(self.gossip.bytes_sent)

    @property
    def ages(self) -> tuple[float, float] | None:
        """Mean and largest age in steps of what this worker has used; None where workers march together."""
        staleness = getattr(self.gossip, "staleness", None)
        if staleness is None or not staleness.count:
            return None
        return staleness.mean_steps, staleness.most_steps


@dataclass(frozen=True)
class Entry:
    """A contender before it is built.

    Attributes:
        kind: its class.
        options: arguments of the class beside model and learning rate.
        vectors: about how many vectors of the model's size it holds, to see how many contenders fit into memory.
    """

    kind: type[Contender]
    options: dict[str, Any] = field(default_factory=dict)
    vectors: float = 2.0

    def build(self, model: nn.Module, lr: float = 0.01) -> Contender:
        """Return it, around ``model``."""
        return self.kind(model, lr, **self.options)


def gossip(
    algorithm: str,
    transport: str | None = None,
    vectors: float = 2.0,
    topology: str = "one_peer_exponential",
    **options: Any,
) -> Entry:
    """Return one of this library's algorithms as a contender.

    Args:
        algorithm: its name.
        transport: None for messages, though the workers of a benchmark could share memory; ``auto``: the library's.
        topology: the graph.
        vectors: see :class:`Entry`.
        options: of the algorithm.
    """
    chosen = {"algorithm": algorithm, "topology": topology, "options": options, "transport": transport}
    return Entry(Gossiped, chosen, vectors)


def never_waiting() -> dict[str, Entry]:
    """Return this library's algorithms in which nobody waits for anybody."""
    found = {
        "asgp": gossip("asgp", "auto", 4.0),
        "adpsgd": gossip("adpsgd", "auto", 4.0, topology="bipartite_exponential"),
    }
    return {name: entry for name, entry in found.items() if name in ALGORITHMS.names()}


def transports() -> list[str]:
    """Return the transports a user can choose; none where there is only one."""
    return ["p2p", "shared_memory"] if "transport" in inspect.signature(sgp_core.Gossip.__init__).parameters else []


def left_out() -> dict[str, str]:
    """Return contenders that are not installed, and how to have them."""
    there = importlib.util.find_spec("decent_dp") is not None
    return {} if there else {"Decent-DP": "not installed; pip install -e '.[bench]' installs it"}


OURS: dict[str, Callable[[str | None], Entry]] = {
    "sgp": lambda transport: gossip("sgp", transport),
    "osgp": lambda transport: gossip("osgp", transport, 4.0),
    "dpsgd": lambda transport: gossip("dpsgd", transport),
    "allreduce": lambda transport: gossip("allreduce", transport, 3.0),
    "local_sgd, period 4": lambda transport: gossip("local_sgd", transport, period=4),
}
"""This library's algorithms. A new one is one line here."""


def everyone() -> dict[str, Entry]:
    """Return all contenders there are, by the names tables use."""
    found = {
        COMPUTE_ONLY: Entry(Contender, vectors=1.0),
        FLOOR: Entry(BareExchange),
        MEMORY: Entry(InPlaceAverage),
        DDP: Entry(TorchDDP),
        f"{DDP}, bf16 hook": Entry(TorchDDP, {"bf16": True}, 2.5),
        "PeriodicModelAverager": Entry(PeriodicAverage, vectors=3.0),
        "Decent-DP": Entry(DecentDP),
        **dict(_ours()),
        **never_waiting(),
    }
    return {name: entry for name, entry in found.items() if name not in left_out()}


def _ours() -> Iterator[tuple[str, Entry]]:
    for name, entry in OURS.items():
        for transport in transports() or [None]:  # type: ignore[list-item]
            yield (f"{name}, {transport}" if transport else name), entry(transport)


def _ring(n: int) -> float:
    """Return what a worker sends in a ring AllReduce over ``n``, in vectors."""
    return 2 * (n - 1) / n

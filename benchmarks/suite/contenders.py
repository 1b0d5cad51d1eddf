"""Who can take part in a benchmark, by name: this library's algorithms, and others beside them."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist
from torch import nn

import sgp_core
from sgp_core.algorithms import ALGORITHMS
from suite.contender import Contender
from suite.rivals import BareExchange, DecentDP, InPlaceAverage, PeriodicAverage, TorchDDP

COMPUTE_ONLY, FLOOR, MEMORY, DDP = "compute only", "bare exchange", "in-place average", "torch DDP"


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
        more: dict[str, Any] | None = None,
        compression: str = "none",
    ) -> None:
        super().__init__(model, lr)
        chosen: dict[str, Any] = {"transport": transport or "p2p"} if transports() else {}
        self.gossip = sgp_core.Gossip(
            model,
            self.optimizer,
            algorithm=sgp_core.build_algorithm(algorithm, **(options or {})),
            topology=sgp_core.build_topology(topology, world_size=dist.get_world_size()),
            compression=sgp_core.build_compression(compression),
            **chosen,
            **(more or {}),
        )

    def settle(self) -> None:
        if self.gossip.algorithm.traits.sends_ahead:
            self.gossip.network.settle()  # what was sent ahead is for the next turn
        else:
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
    more: dict[str, Any] | None = None,
    compression: str = "none",
    **options: Any,
) -> Entry:
    """Return one of this library's algorithms as a contender.

    Args:
        algorithm: its name.
        transport: None for messages, though the workers of a benchmark could share memory; ``auto``: the library's.
        topology: the graph.
        more: arguments of Gossip.
        vectors: see :class:`Entry`.
        compression: the codec, with its defaults.
        options: of the algorithm.
    """
    chosen: dict[str, Any] = {"algorithm": algorithm, "topology": topology, "options": options, "transport": transport}
    chosen |= {"compression": compression, "more": more}
    return Entry(Gossiped, chosen, vectors)


def never_waiting() -> dict[str, Entry]:
    """Return this library's algorithms that are asynchronous."""
    found = {
        "asgp": gossip("asgp", "auto", 4.0),
        "asgp, p2p": gossip("asgp", "p2p", 6.0),
        "adpsgd": gossip("adpsgd", "auto", 4.0, topology="bipartite_exponential"),
        "adpsgd, p2p": gossip("adpsgd", "p2p", 5.0, topology="bipartite_exponential"),
    }
    return {name: entry for name, entry in found.items() if name.split(",")[0] in ALGORITHMS.names()}


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


def all_contenders() -> dict[str, Entry]:
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

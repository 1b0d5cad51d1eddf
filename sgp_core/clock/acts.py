"""What a worker does after the computation of a step, as far as it takes time: all workers do the same, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np


@dataclass(frozen=True, eq=False)
class Leave:
    """Messages leave, one along each edge; who does not wait for them goes on.

    Attributes:
        senders, receivers: workers, ``[messages]``.
        nbytes: of each.
        key: by which they are waited for.
        in_backward: parts of them leave while gradients are computed.
    """

    senders: np.ndarray
    receivers: np.ndarray
    nbytes: int
    key: int
    in_backward: bool = False


@dataclass(frozen=True)
class Await:
    """A worker waits for the messages of ``key``: those it gets, and its own if ``sent``, to have left.

    Attributes:
        received: whether it waits for those it gets.
        sent: whether it waits for its own.
    """

    key: int
    received: bool = True
    sent: bool = True


class CollectiveVerb(str, Enum):
    """What a collective does."""

    all_reduce = "all_reduce"
    reduce_scatter = "reduce_scatter"
    all_gather = "all_gather"


@dataclass(frozen=True)
class Collective:
    """All workers of a group make something together, and none goes on before.

    Attributes:
        nbytes: of the whole vector, on each worker.
        inside: whether the groups are the workers of each node; if not, those of equal place in all nodes.
    """

    verb: CollectiveVerb
    nbytes: int
    inside: bool = False


@dataclass(frozen=True)
class Begin:
    """A collective begins as soon as all workers of a group are there, which go on meanwhile.

    Attributes:
        key: by which it is waited for.
    """

    collective: Collective
    key: int


@dataclass(frozen=True)
class AwaitCollective:
    """Workers wait for the collective of ``key`` to be over."""

    key: int


@dataclass(frozen=True)
class AverageInBackward:
    """All workers average their gradients bucket by bucket while they compute them, and none goes on before the last.

    Attributes:
        buckets: bytes of each, in the order in which they become ready.
        in_nodes: whether workers of a node scatter and gather each bucket among themselves.
    """

    buckets: tuple[int, ...]
    in_nodes: bool = False

    def collectives(self, nbytes: int) -> Iterator[Collective]:
        """Yield what averages a bucket, one after another."""
        if self.in_nodes:
            yield Collective(CollectiveVerb.reduce_scatter, nbytes, inside=True)
        yield Collective(CollectiveVerb.all_reduce, nbytes)
        if self.in_nodes:
            yield Collective(CollectiveVerb.all_gather, nbytes, inside=True)


Act = Leave | Await | Collective | Begin | AwaitCollective | AverageInBackward

"""A topology is a graph that is a pure function of the step, the same on every rank, with a weight on every edge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import numpy as np

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.registry import NOT_AN_OPTION, Registry

Choice = TypeVar("Choice", bound=Enum)

TOPOLOGIES: Registry[Topology] = Registry("topology", "sgp_core.topology")
"""Every topology by name. A new one is one file in this package."""

_GRAPHS_KEPT = 64
"""Graphs remembered per topology object: whole periods of usual schedules, a sliding window of random ones."""


@dataclass(frozen=True)
class Edges:
    """The graph of one step in the form workers use it: per rank, peers in a fixed order and their weights."""

    out_peers: tuple[tuple[int, ...], ...]
    in_peers: tuple[tuple[int, ...], ...]
    own_weight: tuple[float, ...]
    in_weights: tuple[tuple[float, ...], ...]
    out_weights: tuple[tuple[float, ...], ...]
    max_in_degree: int

    @classmethod
    def of(cls, matrix: np.ndarray) -> Edges:
        """Read the edges off a mixing matrix ``[n, n]``; in-peers ascend cyclically from the rank itself."""
        n = len(matrix)
        rows, columns = np.nonzero(matrix)
        senders: list[list[int]] = [[] for _ in range(n)]
        receivers: list[list[int]] = [[] for _ in range(n)]
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            if i != j:
                senders[i].append(j)
                receivers[j].append(i)
        in_peers = tuple(tuple(sorted(peers, key=_cyclic(i, n, -1))) for i, peers in enumerate(senders))
        out_peers = tuple(tuple(sorted(peers, key=_cyclic(j, n, 1))) for j, peers in enumerate(receivers))
        in_weights = tuple(tuple(float(matrix[i, j]) for j in in_peers[i]) for i in range(n))
        out_weights = tuple(tuple(float(matrix[i, j]) for i in out_peers[j]) for j in range(n))
        own = tuple(float(matrix[i, i]) for i in range(n))
        return cls(out_peers, in_peers, own, in_weights, out_weights, max(map(len, in_peers)))


@dataclass(frozen=True)
class Topology(ABC):
    """A (time-varying) directed graph over ``world_size`` workers with column-stochastic mixing weights.

    Stable extension point.

    One method is required, :meth:`out_neighbors`; weights are uniform unless :meth:`mixing_matrix` is overridden.
    Instances are immutable; nothing rotates or counts, so every rank computes the same graph for the same step.
    """

    world_size: int = field(metadata=NOT_AN_OPTION)

    def __post_init__(self) -> None:
        if not _is_whole(self.world_size) or self.world_size < 1:
            raise ConfigurationError(
                f"topology '{self.name}': world_size must be a whole number of at least 1, not {self.world_size!r}"
            )

    @property
    def name(self) -> str:
        """The name it is registered under; a user's own class goes by its class name."""
        return next((name for name in TOPOLOGIES.names() if TOPOLOGIES.get(name) is type(self)), type(self).__name__)

    # -- what a topology says -------------------------------------------------------------------------------------
    @property
    def period(self) -> int | None:
        """Steps after which the sequence of graphs repeats; None where it never does (random graphs)."""
        return 1

    @abstractmethod
    def out_neighbors(self, rank: int, step: int) -> Sequence[int]:
        """Return the ranks that ``rank`` sends to at ``step``: distinct, never ``rank`` itself."""

    def mixing_matrix(self, step: int) -> np.ndarray:
        """Return P at ``step``: float64 ``[n, n]``; ``P[i, j]`` weighs what ``i`` receives from ``j``.

        Columns sum to 1. The default is uniform: a sender splits its mass evenly over itself and its out-peers.
        """
        n = self.world_size
        matrix = np.zeros((n, n))
        for sender in range(n):
            receivers = list(self.out_neighbors(sender, step))
            matrix[[sender, *receivers], sender] = 1.0 / (len(receivers) + 1)
        return matrix

    def content(self) -> str | None:
        """Return a hash of what was read from files; None if the options say everything."""
        return None

    def drawbacks(self) -> Sequence[str]:
        """Return, in a sentence each, what this graph lacks at this ``world_size`` and has at others; () if nothing."""
        return ()

    # -- what follows from it -------------------------------------------------------------------------------------
    def out_peers(self, rank: int, step: int) -> tuple[int, ...]:
        """Return the ranks that ``rank`` sends to at ``step``, in a fixed order."""
        return self.edges(step).out_peers[rank]

    def in_peers(self, rank: int, step: int) -> tuple[int, ...]:
        """Return the ranks that ``rank`` receives from at ``step``, in a fixed order."""
        return self.edges(step).in_peers[rank]

    def edges(self, step: int) -> Edges:
        """Return the graph of ``step`` as peers and weights per rank (remembered: the graph is a pure function)."""
        phase = step % self.period if self.period else step
        cache: OrderedDict[int, Edges] = self.__dict__.setdefault("_edges", OrderedDict())
        if phase not in cache:
            if len(cache) >= _GRAPHS_KEPT:
                cache.popitem(last=False)
            cache[phase] = Edges.of(self.mixing_matrix(phase))
        return cache[phase]

    @property
    def is_doubly_stochastic(self) -> bool:
        """Whether rows, too, sum to 1 at every step (to 1e-12): PushSum weights then stay exactly 1.

        Topologies without a period are checked over the first steps; override where it is known by construction.
        """
        if "_doubly_stochastic" not in self.__dict__:
            rows = (self.mixing_matrix(step).sum(axis=1) for step in range(self.period or _GRAPHS_KEPT))
            self.__dict__["_doubly_stochastic"] = all(np.allclose(row, 1.0, rtol=0, atol=1e-12) for row in rows)
        return bool(self.__dict__["_doubly_stochastic"])

    @property
    def is_symmetric_and_fixed(self) -> bool:
        """Whether mixing weights are the same at every step, and (to 1e-12) in both directions of an edge."""
        if self.period != 1:
            return False
        matrix = self.mixing_matrix(0)
        return np.allclose(matrix, matrix.T, rtol=0, atol=1e-12)

    # -- for subclasses that check their options ------------------------------------------------------------------
    def _refuse(self, reason: str) -> ConfigurationError:
        """Return (to be raised) the error that says ``reason`` and names this topology."""
        return ConfigurationError(f"topology '{self.name}' {reason}")

    def _refuse_size(self, reason: str, nearest: Iterable[int]) -> ConfigurationError:
        """Return (to be raised) the error for a ``world_size`` the graph cannot have, with the nearest that it can."""
        sizes = " or ".join(map(str, nearest))
        return self._refuse(f"{reason}, not {self.world_size} workers; nearest: {sizes}")

    def _check_whole(self, option: str, at_least: int) -> None:
        """Refuse an option that is not a whole number of at least ``at_least``."""
        value = getattr(self, option)
        if not _is_whole(value) or value < at_least:
            raise self._refuse(f"needs {option} to be a whole number of at least {at_least}, not {value!r}")

    def _check_choice(self, option: str, choices: type[Choice]) -> None:
        """Turn the option's word into the member of ``choices`` it names; refuse any other word."""
        value = getattr(self, option)
        words = [str(choice.value) for choice in choices]
        if value not in words and value not in list(choices):
            raise self._refuse(f"has no {option} '{value}'{did_you_mean(str(value), words)}")
        object.__setattr__(self, option, choices(value))


@dataclass(frozen=True)
class MatrixTopology(Topology):
    """A topology given by its :meth:`mixing_matrix`, the one required method; the peers are read off it."""

    @abstractmethod
    def mixing_matrix(self, step: int) -> np.ndarray:
        """Return P at ``step``: float64 ``[n, n]``, columns sum to 1."""

    def out_neighbors(self, rank: int, step: int) -> Sequence[int]:
        return self.out_peers(rank, step)


def _cyclic(rank: int, n: int, sign: int) -> Callable[[int], int]:
    """Return the sort key "hops from ``rank``", counted upwards (``sign`` 1) or downwards (-1)."""
    return lambda peer: sign * (peer - rank) % n


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)

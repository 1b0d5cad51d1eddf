"""A worker, and the network that connects it to others, as rules see them.

Under the simulator the tensors carry a leading axis of virtual workers. Imports without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from sgp_core.compression import Codec
    from sgp_core.tensors.flat_vector import FlatVector, Scalar
    from sgp_core.topology import Topology


class Network(Protocol):
    """What a rule may ask of the other workers."""

    topology: Topology

    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Let ``x`` begin to travel, where that can be: it stays as it is until it is mixed at ``step``."""

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace ``x_i`` by ``sum_j P_ij(step) x_j`` in place; return ``sum_j P_ij(step) w_j`` (1 if no weight)."""

    def post_ahead(self, z: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Let ``z`` begin to travel, where that can be: it stays as it is until it is combined at ``step``."""

    def combine(self, z: FlatVector, step: int, weight: Scalar | None = None, *, apart: bool) -> Scalar:
        """Replace ``z_i`` by ``sum_j P_ij(step) w_j z_j`` in place; return ``sum_j P_ij(step) w_j`` (1 if no weight).

        With ``apart`` leave ``z`` as it is, and keep the difference for :meth:`complete`.
        """

    def complete(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Add to ``x`` what :meth:`combine` has kept apart at ``step``; return ``weight`` (1 if None)."""

    def push(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Begin to send the shares of ``step``, keep ``P_ii(step) x_i`` in place, and return ``P_ii(step) w_i``."""

    def pull(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Add ``sum_j P_ij(step) x_j`` of what was pushed at ``step``, if anything was; return the weight likewise."""

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Pull everything that is in flight."""

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""

    def mean(self, x: FlatVector) -> None:
        """Replace ``x_i`` by the exact average over all workers, in place."""

    def post_mean(self, x: FlatVector, key: int, codec: Codec | None = None) -> None:
        """Let the average of ``x``, the whole model or a fragment, begin to travel.

        It is the exact one, and ``x`` is free again at once. With a codec it is that of coded vectors, and ``x``
        becomes what the codes leave out, at the latest when the average is taken: to be added to the next vector. Over
        all workers, that and n times the average are what ``x`` was.

        Args:
            key: by which it is taken; the same on all workers.
            codec: one that remembers nothing, and sees no shapes.
        """

    def forward_mean(self, key: int) -> None:
        """Let the second half of a coded average's way begin, in which what each worker has averaged goes to all.

        All workers do so after the same step, best halfway; else it begins when the average is taken.
        """

    def take_mean(self, key: int) -> FlatVector:
        """Wait for the average of ``key``; return it, in memory that is the caller's until the next is posted."""

    def mix_along(self, x: FlatVector, topology: Topology, step: int) -> None:
        """Mix as :meth:`mix` does, but along the graph of another topology over the same workers."""

    def swap(self, outgoing: Sequence[FlatVector], incoming: Sequence[FlatVector], step: int) -> None:
        """Give ``outgoing[s]`` to the in-peer number s of ``step``, and set ``incoming[s]`` to what that one gives.

        For undirected graphs, in which every in-peer of a worker is an out-peer too.
        """

    def in_degree(self, step: int) -> int:
        """Return how many in-peers there are at ``step`` (in the simulator: the most of any; what lacks stays 0)."""

    def own(self, values: np.ndarray) -> Scalar:
        """Return this worker's of ``values``, ``[n]``, one per worker."""


class OneSidedNetwork(Protocol):
    """What the rule of asynchronous workers may ask of the others. ``step`` is the worker's own count."""

    def push(self, x: FlatVector, step: int, weight: Scalar, *, hold: bool = False) -> Scalar:
        """Leave shares with the out-peers of ``step``, keep the rest of ``x`` in place, and of the weight return it.

        With ``hold`` leave nothing.
        """

    def collect(self, x: FlatVector, step: int, weight: Scalar, max_staleness: int | None) -> Scalar:
        """Add what lies in this worker's mailbox, without waiting; return the weight with theirs added.

        With ``max_staleness`` first wait until the in-peers have pushed at their own step ``step - max_staleness``.
        """

    def meet_partner(self, x: FlatVector, before: FlatVector, step: int) -> None:
        """Add ``x - before`` to this worker's open model, average it with a partner's, if any, and set ``x`` to it."""

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that nothing else uses."""


class Worker(Protocol):
    """One worker as its rule sees it (or, in the simulator, all of them at once)."""

    step: int
    """Optimizer steps completed before this one."""
    first_step: int
    """The step at which the rule begins, all models alike: 0, but where a run goes on from an average."""
    params: FlatVector
    """The model's trainable parameters: what the optimizer updates and the next forward uses."""
    grads: FlatVector
    """Gradients, laid out like ``params``; only for rules whose traits have ``reads_gradients``."""
    weight: Scalar
    """PushSum weight ``w``; starts at 1."""
    biased: bool
    """Whether ``w`` may leave 1: the graph is not doubly stochastic at every step, or messages are in flight."""
    update_reads_model: bool
    """Whether the optimizer must find ``z`` in ``params``, because what it adds to them depends on them."""
    averaged: bool
    """Whether ``params`` are the exact average already; False again as soon as the optimizer is about to step."""
    network: Network
    one_sided: OneSidedNetwork
    """The same, for rules whose traits have ``one_sided``."""

    @property
    def lr(self) -> float:
        """Learning rate of the optimizer's first parameter group, as used by the latest step."""

    def memory(self, name: str, like: FlatVector | None = None) -> FlatVector:
        """Return the rule's persistent tensors called ``name``; made on first use as a copy of ``like``, else zeros."""

    def number(self, name: str, default: float = 0.0) -> float:
        """Return the rule's persistent number called ``name``."""

    def set_number(self, name: str, value: float) -> None:
        """Remember ``value`` under ``name``; saved and restored with the rest of the state."""

    def optimizer_buffers(self) -> FlatVector:
        """Return the floating-point tensors of the optimizer's state with as many axes as a parameter (momenta)."""

    def reset_optimizer(self) -> None:
        """Set every tensor of the optimizer's state, step counts included, to zero."""

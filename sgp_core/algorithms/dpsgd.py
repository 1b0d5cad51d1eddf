"""D-PSGD: decentralised SGD by plain neighbour averaging.

Lian et al., "Can Decentralized Algorithms Outperform Centralized Algorithms?", NeurIPS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, declare
from sgp_core.algorithms.order import ORDER, Order, combine, complete, order_of, send_ahead
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology


@dataclass(frozen=True)
class PlainGossip(Algorithm):
    """A local step, then ``x_i <- sum_j W_ij x_j`` with W doubly stochastic: no weights, no de-biasing.

    On a graph whose rows do not sum to 1 the workers would agree on a biased mean, so such graphs are refused.
    """

    def check(self, topology: Topology) -> None:
        super().check(topology)
        if not topology.is_doubly_stochastic:
            raise ConfigurationError(
                f"algorithm '{ALGORITHMS.name_of(type(self))}' needs mixing weights whose rows and columns both sum to"
                " 1, and this topology's rows do not; use algorithm 'sgp', a regular graph, or metropolis weights"
            )

    def after_step(self, worker: Worker) -> None:
        worker.network.post(worker.params, worker.step)

    def receive(self, worker: Worker) -> None:
        worker.network.mix(worker.params, worker.step)


@ALGORITHMS.register("dpsgd")
@dataclass(frozen=True)
class DPSGD(PlainGossip):
    """Plain gossip after the local step, as in SGP, so that the two differ in the weights alone::

        x_i <- sum_j W_ij (x_j + U_j)

    or, with ``order=adapt_while_communicate``, in the order of the paper's Algorithm 1, whose messages travel while
    gradients are computed::

        x_i <- sum_j W_ij x_j + U_i
    """

    order: Order = field(default=Order.adapt_then_combine, metadata=ORDER)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", order_of(self.order))
        declare(self, self.traits, sends_ahead=self.order is Order.adapt_while_communicate)

    def before_step(self, worker: Worker) -> None:
        if self.traits.sends_ahead:
            combine(worker)

    def after_step(self, worker: Worker) -> None:
        if not self.traits.sends_ahead:
            super().after_step(worker)

    def receive(self, worker: Worker) -> None:
        if self.traits.sends_ahead:
            complete(worker)
        else:
            super().receive(worker)

    def send_ahead(self, worker: Worker) -> None:
        if self.traits.sends_ahead:
            send_ahead(worker)

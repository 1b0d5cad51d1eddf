"""Gradient tracking: workers gossip about their gradients, too, and step along an estimate of the network's mean.

Nedic, Olshevsky, Shi, "Achieving Geometric Convergence for Distributed Optimization over Time-Varying Graphs", SIAM
Journal on Optimization, 2017, Algorithm 1 (DIGing) and Algorithm 2 (Push-DIGing).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Traits, declare
from sgp_core.algorithms.order import ORDER, Order, order_of
from sgp_core.algorithms.sgp import SGP
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology

_GOSSIP = {order: SGP(order=order) for order in Order}


@ALGORITHMS.register("gradient_tracking")
@dataclass(frozen=True)
class GradientTracking(Algorithm):
    """Push-DIGing: SGP along a tracker ``y`` of the mean gradient, on any graph::

        y_i <- sum_j P_ij y_j + (g_i - g_i before)        y_i = g_i at first
        x_i <- sum_j P_ij (x_j - lr y_j)        w_i <- sum_j P_ij w_j        z_i = x_i / w_i

    with ``g_i`` the gradient at ``z_i``. The sum of ``y`` is at all times that of the gradients. Where the graph is
    doubly stochastic ``w`` stays 1, and this is the adapt-then-combine form of DIGing. With
    ``order=adapt_while_communicate`` it is DIGing as published, whose models travel while gradients are computed::

        x_i <- sum_j P_ij x_j - lr y_i

    ``y`` takes the place of the gradient when backward is complete, before anything clips or uses it. The published
    algorithm is that for ``torch.optim.SGD`` without momentum and weight decay; any optimizer may use ``y`` its own
    way, at any schedule. Twice the bytes of SGP are sent. Put all ``backward()`` of a step but the last inside
    ``no_sync``.
    """

    traits: ClassVar[Traits] = Traits(reads_gradients=True, sends_weight=True, one_exact_round=True)

    order: Order = field(default=Order.adapt_then_combine, metadata=ORDER)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", order_of(self.order))
        ahead = self.order is Order.adapt_while_communicate
        declare(self, self.traits, sends_ahead=ahead, sends_weight=not ahead)

    def check(self, topology: Topology) -> None:
        super().check(topology)
        if self.traits.sends_ahead and not topology.is_doubly_stochastic:
            raise ConfigurationError(
                f"algorithm 'gradient_tracking': order={self.order.value} needs mixing weights whose rows and columns"
                " both sum to 1, and this topology's rows do not; use order=adapt_then_combine, a regular graph, or"
                " metropolis weights"
            )

    def on_gradients(self, worker: Worker) -> None:
        worker.memory("gradient").copy_(worker.grads)
        worker.grads.add_(worker.memory("tracker"))

    def before_step(self, worker: Worker) -> None:
        _GOSSIP[self.order].before_step(worker)

    def after_step(self, worker: Worker) -> None:
        _GOSSIP[self.order].after_step(worker)

    def receive(self, worker: Worker) -> None:
        _GOSSIP[self.order].receive(worker)
        g, y = worker.memory("gradient"), worker.memory("tracker")
        y.add_(g)
        worker.network.mix(y, worker.step)
        y.add_(g, -1.0)  # so that what is kept lacks the next gradient only

    def send_ahead(self, worker: Worker) -> None:
        _GOSSIP[self.order].send_ahead(worker)

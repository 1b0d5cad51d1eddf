"""Stochastic Gradient Push: SGD whose workers average by PushSum over a directed graph.

Assran, Loizou, Ballas, Rabbat, "Stochastic Gradient Push for Distributed Deep Learning", ICML 2019;
PushSum: Kempe, Dobra, Gehrke, FOCS 2003.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Traits, declare
from sgp_core.algorithms.order import ORDER, Order, combine, complete, order_of, send_ahead
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError


@ALGORITHMS.register("sgp")
@dataclass(frozen=True)
class SGP(Algorithm):
    """Each worker takes a local step, then pushes shares of its numerator and weight to its out-peers.

    The gradient is taken at ``z``, the update is applied to ``x``::

        x_i <- x_i + (step of the user's optimizer at z_i)
        x_i <- sum_j P_ij x_j        w_i <- sum_j P_ij w_j        z_i = x_i / w_i

    The model holds ``z``. Where the graph is doubly stochastic at every step ``w`` stays exactly 1, ``x`` is ``z``,
    and neither memory nor messages are spent on it. Otherwise ``x`` is formed as ``z' + (w - 1) z`` from the
    optimizer's result ``z'``, so that weight decay, momentum and Adam all see ``z`` while the update lands on ``x``.

    With ``overlap_steps=1`` models travel while gradients are computed at them, and are averaged as they were then, the
    order *adapt while communicate*::

        x_i <- sum_j P_ij x_j + (step of the user's optimizer at z_i)
        w_i <- sum_j P_ij w_j        z_i = x_i / w_i

    Nothing is stale, and nothing is in flight that is not in the models: they are sent from the memory they lie in.

    With a larger ``overlap_steps`` (tau) it is tau-OSGP, Algorithm 2 of the paper: shares are sent without waiting and
    added tau steps later, for messages that take longer than a step::

        x_i <- p_ii x_i + sum_{j != i} P_ij(k - tau) x_j(k - tau)        w_i likewise

    Sums stay exact because w counts what is in flight: it is below 1 on every graph. ``order=adapt_then_combine`` has
    tau = 1 in this form, too.
    """

    traits: ClassVar[Traits] = Traits(sends_weight=True)

    overlap_steps: int = 0
    order: Order | None = field(default=None, metadata=ORDER)

    def __post_init__(self) -> None:
        if self.overlap_steps < 0:
            raise self._refuse(f"overlap_steps must be 0 (wait) or more steps, not {self.overlap_steps}")
        order = order_of(self.order, self.overlap_steps)
        object.__setattr__(self, "order", order)
        ahead = order is Order.adapt_while_communicate
        if ahead and self.overlap_steps > 1:
            raise self._refuse(
                f"messages of order={order.value} travel during one step, not overlap_steps={self.overlap_steps}; use"
                f" overlap_steps=1, or order={Order.adapt_then_combine.value}"
            )
        declare(self, self.traits, steps_in_flight=0 if ahead else self.overlap_steps, sends_ahead=ahead)

    def _refuse(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"algorithm '{ALGORITHMS.name_of(type(self))}': {reason}")

    def before_step(self, worker: Worker) -> None:
        if self.traits.sends_ahead:
            combine(worker)
        elif worker.biased:
            worker.network.scratch().copy_(worker.params)

    def after_step(self, worker: Worker) -> None:
        x, k = worker.params, worker.step
        if self.traits.sends_ahead:
            return
        if not worker.biased:
            worker.network.post(x, k)
            return
        form_numerator(worker)
        if self.overlap_steps == 0:
            worker.network.post(x, k, worker.weight)
        else:
            worker.weight = worker.network.push(x, k, worker.weight)

    def receive(self, worker: Worker) -> None:
        x, k = worker.params, worker.step
        if self.traits.sends_ahead:
            complete(worker)
            return
        if not worker.biased:
            worker.network.mix(x, k)
            return
        if self.overlap_steps == 0:
            worker.weight = worker.network.mix(x, k, worker.weight)
        else:
            worker.weight = worker.network.pull(x, k - self.overlap_steps, worker.weight)
        x.div_(worker.weight)

    def send_ahead(self, worker: Worker) -> None:
        if self.traits.sends_ahead:
            send_ahead(worker)


def form_numerator(worker: Worker) -> None:
    """Turn ``z'``, what the optimizer has made of ``z``, into ``x = z' + (w - 1) z``; ``z`` is in ``scratch``."""
    worker.params.add_(worker.network.scratch(), worker.weight - 1.0)


@ALGORITHMS.register("osgp")
@dataclass(frozen=True)
class OverlapSGP(SGP):
    """Overlap SGP: ``sgp`` whose messages travel while gradients are computed, like the paper's main variant, 1-OSGP.

    With ``overlap_steps=1`` models are averaged as they were when the gradient was taken, so nothing is stale. With
    more, shares are added that many steps later, for messages that take longer than a step.
    """

    overlap_steps: int = 1

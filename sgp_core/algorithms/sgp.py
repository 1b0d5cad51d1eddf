"""Stochastic Gradient Push: SGD whose workers average by PushSum over a directed graph.

Assran, Loizou, Ballas, Rabbat, "Stochastic Gradient Push for Distributed Deep Learning", ICML 2019;
PushSum: Kempe, Dobra, Gehrke, FOCS 2003.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Traits, Worker, declare
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

    With ``overlap_steps`` (tau) it is Overlap SGP, Algorithm 2 of the paper: shares are sent without waiting and added
    tau steps later, so that they travel while the next gradients are computed::

        x_i <- p_ii x_i + sum_{j != i} P_ij(k - tau) x_j(k - tau)        w_i likewise

    Sums stay exact because w counts what is in flight: it is below 1 on every graph.
    """

    traits: ClassVar[Traits] = Traits(sends_weight=True)

    overlap_steps: int = 0

    def __post_init__(self) -> None:
        if self.overlap_steps < 0:
            raise ConfigurationError(
                f"algorithm '{ALGORITHMS.name_of(type(self))}': overlap_steps must be 0 (wait) or more steps, not"
                f" {self.overlap_steps}"
            )
        declare(self, self.traits, steps_in_flight=self.overlap_steps)

    def before_step(self, worker: Worker) -> None:
        if worker.biased:
            worker.network.scratch().copy_(worker.params)

    def after_step(self, worker: Worker) -> None:
        x, k = worker.params, worker.step
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
        if not worker.biased:
            worker.network.mix(x, k)
            return
        if self.overlap_steps == 0:
            worker.weight = worker.network.mix(x, k, worker.weight)
        else:
            worker.weight = worker.network.pull(x, k - self.overlap_steps, worker.weight)
        x.div_(worker.weight)


def form_numerator(worker: Worker) -> None:
    """Turn ``z'``, what the optimizer has made of ``z``, into ``x = z' + (w - 1) z``; ``z`` is in ``scratch``."""
    worker.params.add_(worker.network.scratch(), worker.weight - 1.0)


@ALGORITHMS.register("osgp")
@dataclass(frozen=True)
class OverlapSGP(SGP):
    """Overlap SGP: ``sgp`` with messages in flight, under the name of the paper's main variant, 1-OSGP.

    Shares are sent without waiting and added ``overlap_steps`` steps later. PushSum weights count what is in flight, so
    sums stay exact; z lags behind by the messages under way.
    """

    overlap_steps: int = 1

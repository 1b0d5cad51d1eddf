"""Stochastic Gradient Push: SGD whose workers average by PushSum over a directed graph.

Assran, Loizou, Ballas, Rabbat, "Stochastic Gradient Push for Distributed Deep Learning", ICML 2019;
PushSum: Kempe, Dobra, Gehrke, FOCS 2003.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Worker


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
    """

    sends_weight: ClassVar[bool] = True

    def before_step(self, worker: Worker) -> None:
        if worker.biased:
            worker.scratch.copy_(worker.params)

    def after_step(self, worker: Worker) -> None:
        x = worker.params
        if not worker.biased:
            worker.network.mix(x, worker.step)
            return
        x.add_(worker.scratch, worker.weight - 1.0)
        worker.weight = worker.network.mix(x, worker.step, worker.weight)
        x.div_(worker.weight)

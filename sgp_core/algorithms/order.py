"""The order of a step: workers average what the optimizer has made of their models, or their models meanwhile.

Ying, Yuan, Chen, Hu, Zhang, Pan, Yin, "Communicate Then Adapt: An Effective Decentralized Adaptive Method for Deep
Training", 2021, and others call the first *adapt then combine* or *communicate* (ATC), the second *adapt while
communicate* (AWC). Lian et al., "Can Decentralized Algorithms Outperform Centralized Algorithms?", NeurIPS 2017,
Algorithm 1, is of the second order.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from sgp_core.algorithms.worker import Worker
from sgp_core.validation import one_of


class Order(str, Enum):
    """In which order a worker steps and averages."""

    adapt_then_combine = "adapt_then_combine"
    """``x+ = P (x + U(z))``: the optimizer steps, then models are exchanged, and workers wait for them."""
    adapt_while_communicate = "adapt_while_communicate"
    """``x+ = P x + U(z)``: models travel while gradients are computed at them, and none is older than its gradient."""

    @classmethod
    def _missing_(cls, value: object) -> Order | None:
        word = str(value).lower().replace("-", "_")
        return cls.__members__.get(word) or _OTHER_NAMES.get(word)


_OTHER_NAMES = {
    "atc": Order.adapt_then_combine,
    "adapt_then_communicate": Order.adapt_then_combine,
    "awc": Order.adapt_while_communicate,
    "adapt_with_combine": Order.adapt_while_communicate,
    "combine_while_adapting": Order.adapt_while_communicate,
    "communicate_while_adapt": Order.adapt_while_communicate,
}
"""Other names that papers and packages have for them, BlueFog for one."""


def order_of(value: object, overlap_steps: int = 0) -> Order:
    """Return the order that ``value`` names; None: the one in which messages are hidden behind one computation.

    Args:
        overlap_steps: how many computations a message is hidden behind.

    Raises:
        ConfigurationError: there is no such order.
    """
    if value is None:
        return Order.adapt_while_communicate if overlap_steps == 1 else Order.adapt_then_combine
    return one_of(Order, "algorithm.order", value)


def _identify(options: Mapping[str, Any]) -> str | None:
    order = order_of(options["order"], options.get("overlap_steps", 0))
    return None if order is Order.adapt_then_combine else order.value


ORDER = {"identity": _identify}
"""Metadata of the option: runs that are older than it adapted first, so that order is no part of a run's identity."""


def combine(worker: Worker) -> None:
    """Replace ``z_i`` by ``sum_j P_ij w_j z_j``, or keep their difference apart if the optimizer has to see ``z``."""
    mixed = worker.network.combine(worker.params, worker.step, _weight(worker), apart=worker.update_reads_model)
    if worker.biased:
        worker.weight = mixed


def complete(worker: Worker) -> None:
    """Add what was kept apart to what the optimizer has made, and de-bias: ``z_i <- x_i / w_i``."""
    mixed = worker.network.complete(worker.params, worker.step, _weight(worker))
    if worker.biased:
        worker.weight = mixed
        worker.params.div_(mixed)


def send_ahead(worker: Worker) -> None:
    """Let ``z_i`` and ``w_i`` leave, which stay as they are until :func:`combine`."""
    worker.network.post_ahead(worker.params, worker.step, _weight(worker))


def _weight(worker: Worker) -> Any:
    return worker.weight if worker.biased else None

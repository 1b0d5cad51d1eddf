"""Which candidate to run, why, and its command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.planning.evaluation import Evaluated
from sgp_core.clock import NetworkModel

WORTH_IT = 0.05
"""How much faster than AllReduce a candidate has to be, as a share of AllReduce's step, to be advised in its place."""


@dataclass(frozen=True)
class Recommendation:
    """What to run over some number of workers.

    Attributes:
        winner: the candidate advised.
        allreduce: AllReduce, for comparison.
        fastest: the fastest candidate of all, however it departs.
        reason: one sentence.
    """

    winner: Evaluated
    allreduce: Evaluated
    fastest: Evaluated
    reason: str


def advise(rows: Sequence[Evaluated]) -> Recommendation:
    """Return what to run among candidates over the same workers, AllReduce among them.

    Only candidates that learn as AllReduce does are advised: a faster step that needs more of them may be no faster.
    AllReduce is advised unless a candidate saves more than 5 % of its step.
    """
    allreduce = next(row for row in rows if row.is_allreduce)
    fastest = min(rows, key=_step)
    close = [row for row in rows if row.is_close]
    least = min(map(_step, close))
    # of those that are as fast to within a percent, the experiment's own choice, else the one that stays closest
    equal = [row for row in close if _step(row) <= 1.01 * least]
    best = min(equal, key=lambda row: (not row.candidate.own, row.spread))
    saved = 1 - _step(best) / _step(allreduce)
    if saved > WORTH_IT:
        reason = (
            f"{best.candidate.label}: {_ms(best)} ms a step where AllReduce takes {_ms(allreduce)}, {saved:.0%} less;"
            f" its workers stay within {best.spread:.2g} updates of each other"
        )
        return Recommendation(best, allreduce, fastest, reason)
    return Recommendation(allreduce, allreduce, fastest, _why_allreduce(best, allreduce, saved))


def _why_allreduce(best: Evaluated, allreduce: Evaluated, saved: float) -> str:
    waits = 1 - allreduce.prediction.utilisation
    if waits <= WORTH_IT:
        return (
            f"AllReduce: it waits for messages in {waits:.0%} of a step only, so nothing can save more; and all workers"
            " hold the same model"
        )
    if best.is_allreduce:
        return "AllReduce: no candidate that learns as it does has a shorter step"
    return (
        f"AllReduce: {best.candidate.label} would save {saved:.0%} of a step only, less than {WORTH_IT:.0%}, and its"
        " workers would not hold the same model"
    )


@dataclass(frozen=True)
class RuleOfThumb:
    """The closed form of docs/plan.md: seconds of computation, of a ring AllReduce, and of one message.

    Attributes:
        compute_s: C.
        ring_s: A = 2 (n - 1) (M / (n b) + d).
        message_s: G = M / b + d.
    """

    compute_s: float
    ring_s: float
    message_s: float

    @property
    def waiting(self) -> float:
        """Step of SGP over that of AllReduce: ``(C + G) / (C + A)``."""
        return (self.compute_s + self.message_s) / (self.compute_s + self.ring_s)

    @property
    def overlapped(self) -> float:
        """Step of OSGP over that of AllReduce: ``max(C, G) / (C + A)``."""
        return max(self.compute_s, self.message_s) / (self.compute_s + self.ring_s)

    def sentence(self) -> str:
        """Return it in words."""
        return (
            f"rule of thumb: computation C = {self.compute_s * 1e3:.4g} ms, ring AllReduce A = {self.ring_s * 1e3:.4g}"
            f" ms, one message G = {self.message_s * 1e3:.4g} ms; sgp / allreduce = (C + G) / (C + A) ="
            f" {self.waiting:.2f}, osgp / allreduce = max(C, G) / (C + A) = {self.overlapped:.2f}"
        )


def rule_of_thumb(network: NetworkModel, compute_s: float, model_bytes: float, nodes: int) -> RuleOfThumb:
    """Return the closed form for ``nodes`` hosts with a link each; without a link of their own, what joins them inside.

    Args:
        compute_s: computation of a step.
        model_bytes: of one message.
        nodes: number of gossip nodes.
    """
    apart = network.workers_per_host != 0
    mbit = network.bandwidth_mbit if apart else network.message_mbit or network.inside_mbit
    outwards = [mbit, network.up_mbit] if apart else [mbit]
    slowest = min((value for value in outwards if value is not None), default=None)
    wire = model_bytes / network.bytes_per_s(slowest)
    delay = (network.delay_ms if apart else network.inside_delay_ms) / 1e3
    ring = 2 * (nodes - 1) * (wire / nodes + delay)
    return RuleOfThumb(compute_s, ring, (wire + delay) if nodes > 1 else 0.0)


def _step(row: Evaluated) -> float:
    return row.prediction.step_s


def _ms(row: Evaluated) -> str:
    return f"{_step(row) * 1e3:.4g}"

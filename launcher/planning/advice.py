"""Which candidate to run, why, and its command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.planning.evaluation import Evaluated
from sgp_core.clock import BACKWARD, NetworkModel

WORTH_IT = 0.05
"""How much faster than the baseline a candidate has to be, as a share of the baseline's step, to be advised."""


@dataclass(frozen=True)
class Recommendation:
    """What to run over some number of workers.

    Attributes:
        winner: the candidate advised.
        allreduce: AllReduce as ``sgp-train`` runs it, which averages gradients after backward.
        baseline: what candidates have to beat: AllReduce, or torch's DDP where its step is shorter.
        fastest: the fastest candidate of all, however it departs.
        reason: one sentence.
    """

    winner: Evaluated
    allreduce: Evaluated
    baseline: Evaluated
    fastest: Evaluated
    reason: str

    @property
    def best(self) -> Evaluated:
        """What a table marks: the winner, or torch's DDP in the place of AllReduce where that is slower."""
        ddp_is_better = self.winner is self.allreduce and _is_slower(self.allreduce, self.baseline)
        return self.baseline if ddp_is_better else self.winner


def advise(rows: Sequence[Evaluated]) -> Recommendation:
    """Return what to run among candidates over the same workers, AllReduce among them.

    Only candidates that learn as AllReduce does are advised: a faster step that needs more of them may be no faster.
    AllReduce is advised unless a candidate saves more than 5 % of its step, and of the step of torch's DDP.
    """
    own = [row for row in rows if not row.candidate.reference]
    allreduce = next(row for row in own if row.is_allreduce)
    baseline = min([allreduce, *(row for row in rows if row.candidate.reference)], key=_step)
    fastest = min(own, key=_step)
    close = [row for row in own if row.is_close]
    least = min(map(_step, close))
    # of those that are as fast to within a percent, the experiment's own choice, else the one that stays closest
    equal = [row for row in close if _step(row) <= 1.01 * least]
    best = min(equal, key=lambda row: (not row.candidate.own, row.spread))
    saved = 1 - _step(best) / _step(baseline)
    if saved > WORTH_IT:
        reason = (
            f"{best.candidate.label}: {_ms(best)} ms a step where {_name(baseline)} takes {_ms(baseline)}, {saved:.0%}"
            f" less; its workers stay within {best.spread:.2g} updates of each other"
        )
        return Recommendation(best, allreduce, baseline, fastest, reason)
    return Recommendation(allreduce, allreduce, baseline, fastest, _why_allreduce(best, allreduce, baseline))


def _why_allreduce(best: Evaluated, allreduce: Evaluated, baseline: Evaluated) -> str:
    """Return why nothing is advised in the place of AllReduce; where torch's DDP is the better one, that it is."""
    name = "AllReduce"
    if _is_slower(allreduce, baseline):
        name += f" as torch's DDP has it, {_ms(baseline)} ms a step where algorithm=allreduce takes {_ms(allreduce)}"
    waits = 1 - baseline.prediction.utilisation
    if waits <= WORTH_IT:
        return (
            f"{name}: it waits for messages in {waits:.0%} of a step only, so nothing can save more; and all workers"
            " hold the same model"
        )
    saved = 1 - _step(best) / _step(baseline)
    if best.is_allreduce or saved <= 0:
        return f"{name}: no candidate that learns as it does has a shorter step"
    return (
        f"{name}: {best.candidate.label} would save {saved:.1%} of a step only, not more than {WORTH_IT:.0%}, and its"
        " workers would not hold the same model"
    )


def _is_slower(allreduce: Evaluated, baseline: Evaluated) -> bool:
    return _step(allreduce) > (1 + WORTH_IT) * _step(baseline)


def _name(baseline: Evaluated) -> str:
    return "torch's DDP" if baseline.candidate.reference else "AllReduce"


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
    def ddp_s(self) -> float:
        """Step of torch's DDP at its best, whose ring is as long as backward hides it: ``C / 3 + max(2 C / 3, A)``."""
        return self.compute_s * (1 - BACKWARD) + max(self.compute_s * BACKWARD, self.ring_s)

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

    def sentence_on_ddp(self) -> str:
        """Return in words what it says of torch's DDP."""
        sgp, osgp = self.compute_s + self.message_s, max(self.compute_s, self.message_s)
        return (
            f"beside torch's DDP, whose ring begins with backward, D = C/3 + max(2C/3, A) = {self.ddp_s * 1e3:.4g} ms:"
            f" sgp / ddp = (C + G) / D = {_ratio(sgp, self.ddp_s)}, osgp / ddp = max(C, G) / D ="
            f" {_ratio(osgp, self.ddp_s)}"
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


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole:.2f}" if whole else "1.00"


def _step(row: Evaluated) -> float:
    return row.prediction.step_s


def _ms(row: Evaluated) -> str:
    return f"{_step(row) * 1e3:.4g}"

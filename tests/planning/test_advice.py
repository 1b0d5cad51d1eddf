"""What is advised, against AllReduce after backward and torch's DDP, whichever is faster."""

from __future__ import annotations

import dataclasses

import pytest

from launcher.planning.advice import advise, rule_of_thumb
from launcher.planning.candidates import Candidate
from launcher.planning.evaluation import DDP, Evaluated, Question, evaluate
from launcher.planning.question import compose_plan
from sgp_core.clock import ComputationModel, NetworkModel, Prediction
from sgp_core.tensors.layout import TensorLayout

PLAN = compose_plan(["model=mlp", "cluster.workers_per_node=8"])
COMPUTE_S = 0.05


def row(name: str, step_s: float, reference: str = "") -> Evaluated:
    algorithm = "allreduce" if reference else name
    experiment = dataclasses.replace(PLAN.experiment, algorithm={"name": algorithm})
    words = () if reference else (f"algorithm={name}",)
    prediction = Prediction(step_s, COMPUTE_S, COMPUTE_S / step_s, 1.0, 1.0, "")
    return Evaluated(
        Candidate(words, experiment, False, reference=reference), 8, prediction, 1.0 * (name == "osgp"), (), 1.5
    )


@pytest.mark.parametrize(
    ("allreduce", "ddp", "osgp", "winner", "best", "reason"),
    [
        (0.16, 0.1, 0.09, "osgp", "osgp", "osgp: 90 ms a step where torch's DDP takes 100, 10% less;"),
        (0.16, 0.17, 0.09, "osgp", "osgp", "osgp: 90 ms a step where AllReduce takes 160, 44% less;"),
        (
            0.16,
            0.1,
            0.097,
            "allreduce",
            "ddp",
            "AllReduce as torch's DDP has it, 100 ms a step where algorithm=allreduce takes 160: osgp would save 3.0%",
        ),
        (0.16, 0.1, 0.12, "allreduce", "ddp", "algorithm=allreduce takes 160: no candidate that learns as it does has"),
        (
            0.102,
            0.1,
            0.097,
            "allreduce",
            "allreduce",
            "AllReduce: osgp would save 3.0% of a step only, not more than 5%",
        ),
        (0.052, 0.051, 0.05, "allreduce", "allreduce", "AllReduce: it waits for messages in 2% of a step only"),
    ],
)
def test_a_candidate_has_to_beat_the_faster_of_the_two(
    allreduce: float, ddp: float, osgp: float, winner: str, best: str, reason: str
) -> None:
    rows = [row("osgp", osgp), row("allreduce", allreduce), row("ddp", ddp, DDP)]
    advice = advise(sorted(rows, key=lambda one: one.prediction.step_s))
    assert (advice.winner.candidate.label, advice.best.candidate.label) == (winner, best)
    assert reason in advice.reason
    assert advice.baseline.prediction.step_s == min(allreduce, ddp)


def test_ddp_hides_what_fits_into_backward() -> None:
    """Of 100 MB in buckets: the rule of thumb, and little more."""
    layout = [TensorLayout.packed([(1_000_000,)] * 25, "float32")]
    network = NetworkModel(bandwidth_mbit=8000.0, payload=1.0)
    for step_ms, hidden in ((600.0, True), (150.0, False)):
        computation = ComputationModel.from_options({"name": "constant", "step_ms": step_ms})
        rows, _ = evaluate(Question(PLAN, network, computation, 100_000_000, layout), 8)
        [ddp] = [one for one in rows if one.candidate.reference]
        thumb = rule_of_thumb(network, step_ms / 1e3, 100e6, 8)
        assert thumb.ring_s == pytest.approx(0.175)
        assert thumb.ddp_s == pytest.approx(step_ms / 1e3 if hidden else 0.05 + 0.175)
        assert thumb.ddp_s < ddp.prediction.step_s < thumb.ddp_s + 0.05
        assert advise(rows).baseline is ddp

"""Paces on real gloo workers: the simulator's numbers, and a resume in the middle of a wave."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import sgp_core
from sgp_core.pacing import Numbers, Pace
from sgp_core.pacing.threshold import Action, Threshold
from tests.support.workers import run_workers
from tests.workers.agreement import (
    Irregular,
    batch,
    flatten,
    make_algorithm,
    make_model,
    make_optimizer,
    simulate_case,
    train_here,
)

STEPS = 60


def threshold(action: str, distance: float = 0.02, **options: Any) -> Pace:
    """Return a pace that has something to do now and then."""
    return sgp_core.build_pace("threshold", action=action, distance=distance, calm=0.95, every=3, **options)


STAR = threshold("peers", 0.08, denser={"name": "star", "weights": "uniform"})


ACCELERATED = sgp_core.build_pace("rounds", rounds=3, steps=2, filter="chebyshev", warmup_steps=3)
RING = sgp_core.build_topology("ring", world_size=4, weights="metropolis")

LATE = sgp_core.build_algorithm("osgp", order="adapt_then_combine")
"""Its messages are added a step later, so that only a warm-up is left of a pace."""


def cases() -> list[tuple[Any, Any, Pace]]:
    regular = sgp_core.build_topology("one_peer_exponential", world_size=4)
    target = sgp_core.build_pace("target", distance=0.02, every=4)
    phases = [{"start": 0, "name": "one_peer_exponential", "peers": 2}, {"start": 20, "name": "star"}]
    hybrid = sgp_core.build_topology("schedule", world_size=4, unit="step", phases=phases)
    return [
        (sgp_core.build_algorithm("sgp"), Irregular(4), target),
        (sgp_core.build_algorithm("sgp"), Irregular(4), STAR),
        (make_algorithm("sgp", "slowmo"), regular, target),
        (sgp_core.build_algorithm("dpsgd"), regular, sgp_core.build_pace("every", steps=3, warmup_steps=5)),
        (sgp_core.build_algorithm("osgp"), Irregular(4), sgp_core.build_pace("target", distance=0.02, every=4)),
        (LATE, Irregular(4), sgp_core.build_pace("every", warmup_steps=5)),
        (sgp_core.build_algorithm("sgp"), Irregular(4), threshold("average")),
        (make_algorithm("sgp", "slowmo"), regular, threshold("round")),
        (sgp_core.build_algorithm("dpsgd"), regular, threshold("peers", 0.045)),
        (sgp_core.build_algorithm("sgp"), hybrid, threshold("average", steps=0, warmup_steps=5)),
        (sgp_core.build_algorithm("sgp"), hybrid, sgp_core.build_pace("every", steps=2, warmup_steps=5)),
        (sgp_core.build_algorithm("osgp"), hybrid, sgp_core.build_pace("every", steps=2, warmup_steps=5)),
        (LATE, hybrid, sgp_core.build_pace("every", warmup_steps=5)),
        (sgp_core.build_algorithm("sgp"), RING, ACCELERATED),
        (sgp_core.build_algorithm("osgp"), RING, ACCELERATED),
        (make_algorithm("dpsgd", "slowmo"), RING, sgp_core.build_pace("rounds", rounds=2)),
    ]


RESUMED = (0, 1, 4)
"""One of each way of sending: the last has planned the next step, and sent its models, when it is saved."""


def resumed_in_a_wave(case: int) -> tuple[float, bool]:
    """Train 40 steps through; train 21, save, load into new objects and train 19: the difference, and if it was one."""

    def build() -> tuple[nn.Module, torch.optim.Optimizer, sgp_core.Gossip]:
        model = make_model()
        optimizer = make_optimizer(model.parameters())
        algorithm, topology, pace = cases()[case]
        return model, optimizer, sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, pace=pace)

    def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            inputs, targets = batch(dist.get_rank(), step)
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()

    model, optimizer, gossip = build()
    run(model, optimizer, range(21))
    saved, saved_optimizer = gossip.state_dict(), optimizer.state_dict()
    clone = torch.utils._pytree.tree_map(lambda v: v.clone() if torch.is_tensor(v) else v, saved_optimizer)
    run(model, optimizer, range(21, 40))
    other, other_optimizer, other_gossip = build()
    other_optimizer.load_state_dict(clone)
    other_gossip.load_state_dict(saved)
    run(other, other_optimizer, range(21, 40))
    assert other_gossip.consensus_estimate == gossip.consensus_estimate
    assert other_gossip.bytes_sent == gossip.bytes_sent
    return float((flatten(model) - flatten(other)).abs().max()), saved["pace"]["estimator"]["known"] is not None


def work() -> dict[str, Any]:
    results = []
    for algorithm, topology, pace in cases():
        results.append(train_here(algorithm, topology, "sgd", STEPS, pace=pace))
        dist.barrier()
    return {"cases": results, "resumed": [resumed_in_a_wave(case) for case in RESUMED]}


def test_paced_workers_agree_with_the_simulator_and_resume_bit_for_bit() -> None:
    ranks = run_workers(4, work)
    for number, (algorithm, topology, pace) in enumerate(cases()):
        trajectory = simulate_case(algorithm, topology, "sgd", STEPS, pace=pace)
        real = torch.stack([ranks[rank]["cases"][number]["z"] for rank in range(4)], dim=1)
        weights = torch.stack([ranks[rank]["cases"][number]["w"] for rank in range(4)], dim=1)
        assert (real - trajectory.z).abs().max() <= 1e-12, pace
        assert (weights - trajectory.w).abs().max() <= 1e-12, pace
        estimates = [rank["cases"][number]["estimate"] for rank in ranks]
        assert estimates == [estimates[0]] * 4
        if pace.measure_every:
            step, estimate = estimates[0]
            assert step == trajectory.estimates[-1][0]
            assert abs(estimate / trajectory.estimates[-1][1] - 1) < 1e-9
        numbers = [rank["cases"][number]["numbers"] for rank in ranks]
        assert numbers == [numbers[0]] * 4
        assert (trajectory.w.sum(1) + trajectory.w_in_flight - 4).abs().max() < 1e-12
        check_that_it_acted(pace, numbers[0], trajectory)
    for rank in ranks:
        assert rank["resumed"] == [(0.0, True)] * len(RESUMED)


def check_that_it_acted(pace: Pace, numbers: Numbers, trajectory: Any) -> None:
    """Something was done at some steps, and not at all of them."""
    if not isinstance(pace, Threshold):
        return
    first, second = (numbers.get(f"rounds {choice}", 0) for choice in (0, 1))
    if pace.action is Action.average:
        exact = int((trajectory.consensus_distance[pace.warmup_steps + 1 :] < 1e-12).sum())
        assert 2 <= exact <= STEPS // 3
    elif pace.action is Action.peers:
        assert first + second == STEPS
        assert 3 <= second <= STEPS - 3
    else:
        assert STEPS + 3 <= first <= 2 * STEPS - 3

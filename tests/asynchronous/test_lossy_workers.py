"""Real workers over links with faults: what is sent again until it is acknowledged loses no mass."""

from __future__ import annotations

import pytest
import torch

import sgp_core
from sgp_core.asynchronous.link_faults import LinkFaults
from tests.asynchronous.test_asynchronous import replayed
from tests.support.workers import run_workers
from tests.workers import asynchronous, lossy
from tests.workers.agreement import Irregular, make_model

WORKERS = 4


def asgp(**options):
    return sgp_core.build_algorithm("asgp", **options)


def graph(name):
    return sgp_core.build_topology(name, world_size=WORKERS)


def late(**faults):
    return LinkFaults(delay=0.5, delay_steps=10, **faults)


AVERAGES = [
    (asgp(), graph("one_peer_exponential"), late(drop=0.01)),
    (asgp(), graph("complete"), late(drop=0.05)),
    (asgp(), graph("one_peer_exponential"), late(drop=0.2)),
    (asgp(), Irregular(WORKERS), late(drop=0.2, duplicate=0.2, reorder=0.2)),
    (asgp(max_staleness=3), graph("exponential"), late(drop=0.2)),
]
LEAKING = (asgp(retransmit=False), graph("complete"), LinkFaults(drop=0.2))
UNEVEN = [
    (asgp(), graph("one_peer_exponential"), late(drop=0.2, duplicate=0.2, reorder=0.2)),
    (asgp(), graph("one_peer_exponential"), LinkFaults()),
    (asgp(retransmit=True), graph("one_peer_exponential"), None),
]
REFUSED = [
    (asgp(), graph("ring"), "shared_memory"),
    (sgp_core.build_algorithm("sgp"), graph("ring"), "auto"),
    (sgp_core.build_algorithm("adpsgd"), graph("bipartite_exponential"), "p2p"),
]


@pytest.fixture(scope="module")
def ranks():
    return run_workers(WORKERS, lossy.everything, [*AVERAGES, LEAKING], UNEVEN, UNEVEN[:1], REFUSED)


@pytest.mark.parametrize("case", range(len(AVERAGES)))
def test_at_every_meeting_models_hold_the_whole_mass_and_the_mean_is_reached(ranks, case):
    results = [rank["averages"][case] for rank in ranks]
    sums = sum(result["x"] for result in results)
    assert (sums - sums[0]).abs().max() <= 1e-5, "a part of the model is float32"
    weights = torch.tensor([result["w"] for result in results], dtype=torch.float64).sum(0)
    assert (weights - WORKERS).abs().max() <= 1e-12
    assert results[0]["distance"] <= asynchronous.NEAR, "it begins at about 1.7"


def test_without_retransmission_mass_is_lost(ranks):
    weights = [rank["averages"][-1]["w"][-1] for rank in ranks]
    assert sum(weights) < WORKERS - 0.1


@pytest.mark.parametrize("case", range(len(UNEVEN)))
def test_the_simulator_replays_the_run_as_if_no_message_had_been_lost(ranks, case):
    """Every share is added once, whole: losses and delays decide when, nothing else."""
    algorithm, topology, _ = UNEVEN[case]
    results = [rank["uneven"][case] for rank in ranks]
    run = replayed(algorithm, topology, "sgd", [event for result in results for event in result["events"]])
    for name in ("z", "w"):
        real = torch.stack([result[name] for result in results], 1)
        assert (real - getattr(run, name)).abs().max() <= 1e-12
    assert abs(float(run.w_in_flight[-1])) <= 1e-12
    assert abs(float(run.w[-1].sum()) - WORKERS) <= 1e-12


def test_shares_that_are_sent_again_are_counted_as_sent(ranks):
    size = 8 * sum(p.numel() for p in make_model().parameters()) + 8
    bad = [rank["uneven"][0] for rank in ranks]
    first = [sum(len(event.sent) for event in result["events"]) for result in bad]
    assert all(result["bytes"] >= count * size for result, count in zip(bad, first, strict=True))
    assert sum(result["bytes"] for result in bad) > sum(first) * size


def test_a_state_saved_over_bad_links_holds_the_whole_mass(ranks):
    results = [rank["resumed"][0] for rank in ranks]
    for result in results:
        assert torch.equal(result["saved"][0], result["loaded"][0])
    assert abs(sum(result["saved"][1] for result in results) - WORKERS) <= 1e-12
    before, after = (sum(result[name][0] for result in results) for name in ("loaded", "after"))
    assert (before - after).abs().max() <= 1e-12
    assert abs(sum(result["after"][1] for result in results) - WORKERS) <= 1e-12


def test_what_cannot_have_such_links_is_refused(ranks):
    [memory, sgp, adpsgd] = ranks[0]["refused"]
    assert memory.endswith("use transport=p2p for links with faults")
    assert sgp.startswith("algorithm 'sgp' waits for every message")
    assert adpsgd.startswith("algorithm 'adpsgd' changes two models together")

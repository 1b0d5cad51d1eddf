"""Asynchronous workers: real processes at uneven speeds, and the simulator replaying what they did."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import sgp_core
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.events import Event
from tests.support.workers import _CONTEXT, GROUP_TIMEOUT, run_workers
from tests.workers import asynchronous
from tests.workers.agreement import Irregular, batch, flatten, make_model, make_optimizer

ASGP, ADPSGD = sgp_core.build_algorithm("asgp"), sgp_core.build_algorithm("adpsgd")
BOUNDED = sgp_core.build_algorithm("asgp", max_staleness=3)


def graph(name: str, **options):
    return sgp_core.build_topology(name, world_size=4, **options)


UNEVEN = [
    (ASGP, graph("one_peer_exponential"), "sgd"),
    (ASGP, Irregular(4), "adamw"),
    (BOUNDED, graph("exponential"), "sgd"),
    (ADPSGD, graph("bipartite_exponential"), "sgd"),
    (ADPSGD, graph("random_matching"), "adamw"),
]
AVERAGES = [
    (ASGP, graph("one_peer_exponential")),
    (ASGP, Irregular(4)),
    (ASGP, graph("equidyn")),
    (BOUNDED, graph("complete")),
    (ADPSGD, graph("alternating_ring")),
    (ADPSGD, graph("random_matching")),
]
OTHERS = [(ASGP, graph("one_peer_exponential")), (ADPSGD, graph("bipartite_exponential"))]


TRANSPORTS = ("shared_memory", "p2p")


@pytest.fixture(scope="module")
def by_transport():
    return run_workers(4, asynchronous.everything, TRANSPORTS, UNEVEN, AVERAGES, OTHERS)


@pytest.fixture(params=TRANSPORTS)
def ranks(by_transport, request):
    return [rank[request.param] for rank in by_transport]


def replayed(algorithm, topology, kind, events):
    model = make_model()
    shapes = [(name, parameter.shape) for name, parameter in model.named_parameters()][::-1]

    def gradient(z, step):
        rows = []
        for rank, row in enumerate(z):
            leaf = row.clone().requires_grad_()
            parts = leaf.split([shape.numel() for _, shape in shapes])
            named = {name: part.view(shape) for (name, shape), part in zip(shapes, parts, strict=True)}
            inputs, targets = batch(rank, step)
            loss = nn.functional.cross_entropy(torch.func.functional_call(model, named, (inputs,)), targets)
            rows.append(torch.autograd.grad(loss, leaf)[0])
        return torch.stack(rows)

    initial = flatten(model).expand(4, -1)
    return sgp_core.replay(algorithm, topology, initial, gradient, events, optimizer=lambda p: make_optimizer(p, kind))


@pytest.mark.parametrize("case", range(len(UNEVEN)))
def test_the_simulator_replays_what_workers_of_unequal_speed_did(ranks, case):
    algorithm, topology, kind = UNEVEN[case]
    results = [rank["uneven"][case] for rank in ranks]
    run = replayed(algorithm, topology, kind, [event for result in results for event in result["events"]])
    assert run.steps.tolist() == [*range(asynchronous.STEPS + 1), asynchronous.STEPS]
    for name in ("z", "w"):
        real = torch.stack([result[name] for result in results], 1)
        assert (real - getattr(run, name)).abs().max() <= 1e-12
    assert abs(float(run.w_in_flight[-1])) <= 1e-12
    assert abs(float(run.w[-1].sum()) - 4) <= 1e-12


@pytest.mark.parametrize("case", range(len(AVERAGES)))
def test_mass_is_conserved_and_the_mean_is_reached_at_random_speeds(ranks, case):
    results = [rank["averages"][case] for rank in ranks]
    sums = sum(result["x"] for result in results)
    assert (sums - sums[0]).abs().max() <= 1e-5
    weights = torch.tensor([result["w"] for result in results], dtype=torch.float64).sum(0)
    assert (weights - 4).abs().max() <= 1e-12
    assert results[0]["distance"] <= asynchronous.NEAR, "it begins at about 1.7"


@pytest.mark.parametrize("case", range(len(OTHERS)))
def test_a_worker_that_stands_still_stops_nobody_and_takes_nobodys_weight(ranks, case):
    """The others take all their steps before its first: were they to wait for it, they would wait for ever."""
    results = [rank["still"][case] for rank in ranks]
    assert min(result["least"] for result in results) >= 0.375, "half of what it may give from, least_weight"
    assert abs(sum(result["weight"] for result in results) - 4) <= 1e-12


def test_a_worker_that_is_stopped_stops_nobody(ranks):
    """Its threads are, too: were the others' messages to each other to wait for it, they would wait for ever."""
    assert abs(sum(ranks[0]["stopped"]) - 4) <= 1e-12


def test_who_reaches_for_a_worker_that_has_closed_is_told(ranks):
    told = [rank["closed"] for number, rank in enumerate(ranks) if number != asynchronous.SLOW]
    assert all(f"lost rank {asynchronous.SLOW} at its step" in said and "gossip.finish()" in said for said in told), (
        told
    )


@pytest.mark.parametrize("case", range(len(OTHERS)))
def test_a_call_reaches_all_without_a_meeting_and_is_over_with_the_next(ranks, case):
    results = [rank["called"][case] for rank in ranks]
    assert all(all(result["quiet"]) for result in results)
    for weights in zip(*(result["weights"] for result in results), strict=True):
        assert abs(sum(weights) - 4) <= 1e-12


def test_a_bound_on_staleness_holds(ranks):
    bounded = [rank["uneven"][2] for rank in ranks]
    free = [rank["uneven"][0] for rank in ranks]
    assert max(result["staleness"].most_steps for result in bounded) <= 3
    assert max(result["staleness"].most_steps for result in free) > 3
    for rank, result in enumerate(bounded):
        used = {seen for event in result["events"] for seen in event.seen}
        for peer, other in enumerate(bounded):
            sent = {(peer, event.step) for event in other["events"] if rank in event.sent}
            assert sent <= used, "something that was sent was never used"


def test_staleness_and_bytes_are_those_of_the_events(ranks):
    size = 8 * sum(p.numel() for p in make_model().parameters())
    for result in (rank["uneven"][0] for rank in ranks):
        steps = [event for event in result["events"] if not event.meeting]
        assert [event.step for event in steps] == list(range(asynchronous.STEPS))
        lags = [event.step - sent_at for event in steps for _, sent_at in event.seen]
        staleness = result["staleness"]
        assert (staleness.count, staleness.steps, staleness.most_steps) == (len(lags), sum(lags), max(lags))
        assert result["bytes"] == sum(len(event.sent) for event in steps) * (size + 8)
    pairs = [rank["uneven"][3] for rank in ranks]
    met = [sum(rank in (event.worker, *event.sent) and bool(event.sent) for r in pairs for event in r["events"])
           for rank in range(4)]  # fmt: skip
    assert [result["bytes"] for result in pairs] == [count * size for count in met]


@pytest.mark.parametrize("case", range(len(OTHERS)))
def test_a_saved_state_holds_the_whole_mass_wherever_each_worker_was(ranks, case):
    results = [rank["resumed"][case] for rank in ranks]
    for rank, result in enumerate(results):
        assert torch.equal(result["saved"][0], result["loaded"][0])
        assert result["saved"][1] == result["loaded"][1]
        assert result["step"] == 25 + 3 * rank
    before, after = (sum(result[name][0] for result in results) for name in ("loaded", "after"))
    assert (before - after).abs().max() <= 1e-12
    assert abs(sum(result["after"][1] for result in results) - 4) <= 1e-12


def test_a_steady_step_allocates_nothing_and_needs_no_group_of_its_own(ranks):
    """Messages need buffers, made when first needed: one an edge, two where the last has hardly left."""
    for rank in ranks:
        for result, most in zip(rank["steady"], (2 * 2 + 2, 2 * 2), strict=True):
            assert len(result["allocations"]) <= result["new_buffers"]
            assert result["buffers"] <= most
            assert result["groups"] == 1


def test_messages_carry_what_is_on_several_machines(ranks, request):
    for rank in ranks:
        for auto, chosen in zip(rank["hosts"][::2], rank["hosts"][1::2], strict=True):
            assert auto == "p2p"
            assert chosen == "p2p" or "'shared_memory' is not available here: worker " in chosen
            assert chosen == "p2p" or chosen.endswith("; use transport=p2p")


def _killed(rank, folder, *case):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 3)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=3, timeout=GROUP_TIMEOUT)
    asynchronous.one_is_killed(*case)


@pytest.mark.parametrize(
    ("algorithm", "topology", "meets"),
    [(BOUNDED, "directed_ring", False), (ADPSGD, "random_matching", False),
     (ASGP, "complete", True)],
)  # fmt: skip
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_killed_worker_ends_the_run_and_nobody_hangs(algorithm, topology, meets, transport):
    topology = sgp_core.build_topology(topology, world_size=3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = (algorithm, topology, transport, folder, meets)
        processes = [_CONTEXT.Process(target=_killed, args=(rank, folder, *case), daemon=True) for rank in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        hung = [process.is_alive() for process in processes]
        for process in processes:
            process.kill()
        assert not any(hung)
        assert processes[1].exitcode == -signal.SIGKILL
        told = [(folder / f"told-{rank}").read_text() for rank in (0, 2)]
        if transport == "p2p":  # all see it at once, wherever they are
            assert all("lost rank 1 at its step" in said for said in told), told
        else:
            assert any("lost rank 1" in said for said in told) or meets, told


@pytest.mark.parametrize("algorithm", [ASGP, ADPSGD])
def test_alone_it_is_the_users_optimizer_to_the_bit(algorithm):
    models = [make_model(), make_model()]
    optimizers = [make_optimizer(model.parameters()) for model in models]
    gossip = sgp_core.Gossip(models[0], optimizers[0], algorithm=algorithm)
    for step in range(10):
        inputs, targets = batch(0, step)
        for model, optimizer in zip(models, optimizers, strict=True):
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    gossip.finish()
    assert torch.equal(flatten(models[0]), flatten(models[1]))
    gossip.close()


def test_what_cannot_be_is_refused_in_a_sentence():
    with pytest.raises(ConfigurationError, match=r"in pairs.*use bipartite_exponential"):
        ADPSGD.check(graph("ring"))
    with pytest.raises(ConfigurationError, match="in pairs"):
        ADPSGD.check(graph("schedule", unit="epoch"))
    with pytest.raises(ConfigurationError, match="never wait for each other; use outer 'none'"):
        sgp_core.build_outer("slowmo", ASGP)
    for option, value, said in (("max_staleness", -1, "must be 0 or more"), ("least_weight", 1.5, "must lie in")):
        with pytest.raises(ConfigurationError, match=f"{option} {said}"):
            sgp_core.build_algorithm("asgp", **{option: value})


def test_events_that_do_not_fit_are_refused():
    still = {"initial": torch.zeros(4, 1), "gradient": lambda z, step: z}
    with pytest.raises(ValueError, match="which no worker left"):
        sgp_core.replay(ASGP, graph("one_peer_exponential"), **still, events=[Event(1, 0, seen=((0, 0),))])
    with pytest.raises(ValueError, match="use simulate"):
        sgp_core.replay(sgp_core.build_algorithm("sgp"), graph("ring"), **still, events=[])

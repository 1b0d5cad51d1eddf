"""Elastic PushSum: without failures it is the published algorithm, with them no mass is lost but that of the dead."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import as_completed
from typing import Any

import pytest
import torch

import sgp_core
from sgp_core.elastic import ElasticGroup
from sgp_core.errors import ConfigurationError, Expelled
from tests.elastic.fleet import WAIT_S, Fleet, Model, gossip_of

MakeFleet = Callable[..., Fleet]


@pytest.mark.parametrize("order", ["atc", "awc"])
@pytest.mark.parametrize("topology", ["one_peer_exponential", "star"])
def test_without_failures_it_is_sgp(order: str, topology: str, make_fleet: MakeFleet) -> None:
    n, steps, lr = 5, 12, 0.3
    targets = torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    options = {"weights": "uniform"} if topology == "star" else {}

    def work(group: ElasticGroup) -> torch.Tensor:
        model = Model(torch.zeros(4, dtype=torch.float64))
        gossip = gossip_of(group, model, lr=lr, order=order, topology=sgp_core.build_topology(topology, n, **options))
        for _ in range(steps):
            model.loss(targets[group.rank]).backward()
            gossip.optimizer.step()
            gossip.optimizer.zero_grad()
        result = model.vector.detach().clone()
        gossip.close()
        return result

    done = make_fleet(n).start_all(work)
    expected = sgp_core.simulate(
        sgp_core.build_algorithm("sgp", order=order),
        sgp_core.build_topology(topology, n, **options),
        torch.zeros(n, 4, dtype=torch.float64),
        lambda z, step: z - targets,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr),
        steps=steps,
    )
    torch.testing.assert_close(
        torch.stack([one.result(WAIT_S) for one in done]), torch.as_tensor(expected.z[-1]), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("order", "seed"), [("atc", 0), ("awc", 1), ("atc", 2)])
def test_mass_is_that_of_the_living_and_of_what_they_got(order: str, seed: int, make_fleet: MakeFleet) -> None:
    """Members die at random and others take their place; afterwards every share is accounted for.

    Worker i begins with the i-th unit vector, so the elements of a numerator tell whose mass it holds, and their sum is
    its PushSum weight: numerators and weights never part.
    """
    n = 5
    fleet, chance = make_fleet(n), random.Random(seed)

    def work(group: ElasticGroup) -> dict[str, Any]:
        model = Model(torch.zeros(n, dtype=torch.float64))
        gossip = gossip_of(group, model, lr=0.0, order=order)
        if group.founder:
            with torch.no_grad():
                model.vector[group.rank] = 1.0
        start = gossip.push_sum_weight
        while fleet.goes_on(group):
            gossip.admit()
            model.loss(torch.zeros(n)).backward()
            gossip.optimizer.step()
            gossip.optimizer.zero_grad()
        sums = gossip.push_sum_weight * float(model.vector.detach().sum()), gossip.push_sum_weight
        with gossip.averaged():
            average = model.vector.detach().clone()
        ledger = {member: tuple(account) for member, account in gossip.network.ledger.items()}
        gossip.close()
        return {"me": group.me, "start": start, "sums": sums, "ledger": ledger, "average": average}

    done = {rank: fleet.start(rank, work) for rank in range(n)}
    fleet.wait_for(10, n)
    for _ in range(4):
        victim = chance.choice(sorted(fleet.groups))
        fleet.kill(victim)
        done[victim].result(WAIT_S)
        done[victim] = fleet.start(victim, work)
        fleet.wait_for(fleet.step + chance.randrange(3, 12), n)
    fleet.finish.set()
    outcomes = [outcome for one in done.values() if (outcome := one.result(WAIT_S)) is not None]
    by_member = {outcome["me"]: outcome for outcome in outcomes}
    assert len(by_member) == n
    assert max(member.life for member in by_member) > 1
    for outcome in outcomes:
        numerator, weight = outcome["sums"]
        assert numerator == pytest.approx(weight, abs=1e-12)
        assert torch.equal(outcome["average"], outcomes[0]["average"])
        for peer, (given, taken) in outcome["ledger"].items():
            if peer in by_member:  # what one has given is what the other has taken
                theirs = by_member[peer]["ledger"].get(outcome["me"], (0.0, 0.0))
                assert (given, taken) == (theirs[1], theirs[0])
    with_the_dead = sum(
        taken - given
        for outcome in outcomes
        for peer, (given, taken) in outcome["ledger"].items()
        if peer not in by_member
    )
    mass = sum(outcome["sums"][1] for outcome in outcomes)
    assert mass == pytest.approx(sum(outcome["start"] for outcome in outcomes) + with_the_dead, abs=1e-9)


def test_a_member_that_comes_is_like_a_living_one(make_fleet: MakeFleet) -> None:
    n = 3
    fleet = make_fleet(n)

    def work(group: ElasticGroup) -> tuple[int, dict[str, Any] | None, list[int]]:
        model = Model(torch.full((2,), 1.0 + group.rank))
        model.register_buffer("count", torch.zeros(()))
        gossip = gossip_of(group, model, lr=0.1)
        began = gossip.step
        while fleet.goes_on(group):
            gossip.admit(lambda: {"epoch": gossip.step // 10})
            model.loss(torch.zeros(2)).backward()
            gossip.optimizer.step()
            gossip.optimizer.zero_grad()
            model.get_buffer("count").add_(1)
        count = int(model.get_buffer("count"))
        gossip.close()
        return began, gossip.inherited, [count, gossip.step]

    done = {rank: fleet.start(rank, work) for rank in range(n)}
    fleet.wait_for(5, n)
    fleet.kill(1)
    done[1] = fleet.start(1, work)
    fleet.wait_for(fleet.step + 5, n)
    fleet.finish.set()
    began, inherited, [count, steps] = done[1].result(WAIT_S)
    assert began > 5
    assert inherited == {"epoch": began // 10}
    assert count == steps  # the buffer came with the model


def test_two_that_cannot_reach_each_other_do_not_both_go_on(make_fleet: MakeFleet) -> None:
    """Their link breaks, and all others still reach both: the coordinator leaves one of them out."""
    n = 4
    fleet = make_fleet(n)

    def work(group: ElasticGroup) -> list[int]:
        gossip = gossip_of(group, Model(torch.zeros(2)), lr=0.1)
        while fleet.goes_on(group):
            gossip.admit()
            gossip.optimizer.step()
            gossip.consensus_distance()
        members = group.members
        gossip.close()
        return members

    done = fleet.start_all(work)
    fleet.wait_for(5, n)
    fleet.groups[2].links.bury(fleet.groups[3].me, "the test has cut the link")
    with pytest.raises(Expelled):
        next(one for one in as_completed(done, WAIT_S)).result()
    fleet.groups = {rank: group for rank, group in fleet.groups.items() if not done[rank].done()}
    fleet.wait_for(fleet.step + 5, n - 1)
    fleet.finish.set()
    left = [one.result(WAIT_S) for one in done if not one.exception(WAIT_S)]
    assert len(left) == n - 1
    assert {0, 1} < set(left[0])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"algorithm": "dpsgd"}, "elastic: only PushSum"),
        ({"algorithm": "allreduce"}, "elastic: only PushSum"),
        ({"algorithm": "asgp"}, "elastic: only PushSum"),
        ({"algorithm": sgp_core.build_algorithm("osgp", overlap_steps=2)}, "elastic: only PushSum"),
        ({"algorithm": "sgp", "compression": "int8"}, "elastic: codecs remember"),
        ({"algorithm": "sgp", "pace": 2}, "elastic: rounds are counted"),
        ({"algorithm": "sgp", "step_in_backward": True}, "elastic: messages of a step"),
        ({"algorithm": "sgp", "nonfinite": "skip"}, "elastic: nonfinite=skip"),
        ({"algorithm": "sgp", "topology": "hypercube"}, "elastic: topology 'hypercube' does not exist for 3 workers"),
    ],
)
def test_what_cannot_go_on_is_refused(choices: dict[str, Any], message: str, make_fleet: MakeFleet) -> None:
    def work(group: ElasticGroup) -> None:
        model = Model(torch.zeros(2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(ConfigurationError, match=message):
            sgp_core.Gossip(model, optimizer, elastic=group, **{"topology": "ring", **choices})

    for one in make_fleet(4).start_all(work):
        one.result(WAIT_S)

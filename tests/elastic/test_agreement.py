"""Small collectives have one result on all members, and big sums are repeated, whoever dies in the middle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sgp_core.elastic import ElasticGroup
from sgp_core.tensors.flat_vector import FlatVector
from tests.elastic.fleet import WAIT_S, Fleet, Killed

MakeFleet = Callable[..., Fleet]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_all_get_what_all_said(n: int, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(n)
    done = fleet.start_all(lambda group: [group.gather([group.rank, turn]) for turn in range(3)])
    expected = [{rank: [float(rank), float(turn)] for rank in range(n)} for turn in range(3)]
    assert [one.result(WAIT_S) for one in done] == [expected] * n


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_sums_are_exact_and_alike(n: int, make_fleet: MakeFleet) -> None:
    vectors = [torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(rank)) for rank in range(n)]

    def work(group: ElasticGroup) -> list[torch.Tensor]:
        x = FlatVector([vectors[group.rank].clone(), torch.full((1,), group.rank, dtype=torch.int64)])
        assert group.add_up(x) == n
        return x.tensors

    results = [one.result(WAIT_S) for one in make_fleet(n).start_all(work)]
    for x, count in results:
        torch.testing.assert_close(x, torch.stack(vectors).sum(0), rtol=0, atol=1e-12)
        assert torch.equal(x, results[0][0])
        assert int(count) == sum(range(n))


@pytest.mark.parametrize("victim", [0, 2])
def test_survivors_agree_when_one_dies_in_a_collective(victim: int, make_fleet: MakeFleet) -> None:
    """The coordinator, or another, takes part in some collectives and then dies; nobody says when."""
    fleet = make_fleet(5)

    def work(group: ElasticGroup) -> list[list[int]]:
        seen = []
        for turn in range(60):
            if group.rank == victim and turn == 30:
                fleet.kill(victim)
                raise Killed
            seen.append(sorted(group.gather([turn])))
        return seen

    done = fleet.start_all(work)
    results = [one.result(WAIT_S) for rank, one in enumerate(done) if rank != victim]
    assert all(result == results[0] for result in results)
    assert results[0][28] == [0, 1, 2, 3, 4]  # the last may have died with the coordinator, before it could tell
    assert results[0][-1] == [rank for rank in range(5) if rank != victim]


def test_a_sum_in_which_one_dies_is_that_of_the_others(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(4)

    def work(group: ElasticGroup) -> list[tuple[int, float]]:
        found = []
        for turn in range(40):
            if group.rank == 1 and turn == 20:
                fleet.kill(1)
                raise Killed
            x = FlatVector([torch.full((1000,), 10.0**group.rank)])
            found.append((group.add_up(x), float(x.tensors[0][0])))
        return found

    done = fleet.start_all(work)
    results = [one.result(WAIT_S) for rank, one in enumerate(done) if rank != 1]
    assert all(result == results[0] for result in results)
    assert set(results[0]) == {(4, 1111.0), (3, 1101.0)}
    assert results[0][-1] == (3, 1101.0)

"""Shards partition every epoch, in the same number of steps on every rank."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.sharding import ExampleSampler
from tests.support.examples import examples


@st.composite
def sharing(draw: st.DrawFn) -> tuple[int, int, int]:
    workers = draw(st.integers(1, 9))
    examples = draw(st.integers(workers, 400))
    return examples, workers, draw(st.integers(1, 40))


@settings(deadline=None, max_examples=examples(60))
@given(sharing(), st.integers(0, 3), st.integers(0, 2**31))
def test_every_epoch_is_dealt_out_exactly_once_in_equally_many_nonempty_batches(
    shape: tuple[int, int, int], epoch: int, seed: int
) -> None:
    examples, workers, batch_size = shape
    shards = [ExampleSampler(examples, workers, rank, batch_size, seed) for rank in range(workers)]
    epochs = [shard.indices(epoch) for shard in shards]
    assert {len(batches) for batches in epochs} == {shards[0].steps_per_epoch}
    seen = torch.cat([index for batches in epochs for index in batches])
    assert seen.dtype == torch.int64
    assert seen.sort().values.tolist() == list(range(examples))
    sizes = [len(index) for batches in epochs for index in batches]
    assert min(sizes) >= 1
    assert max(sizes) <= max(batch_size, 2)
    # all but the last two steps are full; unless it is the only one, none is smaller than half a batch
    assert all(len(index) == batch_size for batches in epochs for index in batches[:-2])
    if shards[0].steps_per_epoch > 1:
        assert min(sizes) >= batch_size // 2


@pytest.mark.parametrize("rank", range(4))
def test_digits_on_four_workers(rank: int) -> None:
    shard = ExampleSampler(1437, 4, rank, 32, seed=0)
    sizes = [len(index) for index in shard.indices(0)]
    assert shard.steps_per_epoch == 12
    assert sizes[:10] == [32] * 10
    assert sum(sizes) == (360 if rank == 0 else 359)


def test_order_depends_on_epoch_and_seed_and_on_nothing_else() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(list(ExampleSampler(100, 2, 1, 8, seed).indices(epoch))).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 1) != order(1, 0)


def test_one_worker_sees_everything() -> None:
    (only,) = ExampleSampler(5, 1, 0, 8).indices(0)
    assert sorted(only.tolist()) == [0, 1, 2, 3, 4]


def test_more_workers_than_examples_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"^3 training examples cannot be shared by 4 workers: use at most 3"):
        ExampleSampler(3, 4, 0, 8)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"rank": 4}, {"seed": -1}])
def test_numbers_out_of_range_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ExampleSampler(**{"num_examples": 10, "world_size": 4, "rank": 0, "batch_size": 2, **wrong})

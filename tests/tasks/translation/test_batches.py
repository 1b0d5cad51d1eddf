"""Every worker gets batches of like size, each pair once, and the same number of steps whatever the epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.translation.batches import TokenSampler

LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=150)


def shares(
    pairs: list[tuple[int, int]], world_size: int, max_tokens: int, longest: int, seed: int
) -> list[TokenSampler]:
    sources, targets = np.array(pairs).T
    return [TokenSampler(sources, targets, world_size, rank, max_tokens, longest, seed) for rank in range(world_size)]


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 6), st.integers(30, 200), st.integers(20, 30), st.integers(0, 5), st.integers(0, 3))
def test_what_a_share_promises(
    pairs: list[tuple[int, int]], world_size: int, max_tokens: int, longest: int, seed: int, epoch: int
) -> None:
    usable = {index for index, pair in enumerate(pairs) if max(pair) <= longest}
    if len(usable) < world_size:
        with pytest.raises(ConfigurationError, match="cannot be shared"):
            shares(pairs, world_size, max_tokens, longest, seed)
        return
    ranks = shares(pairs, world_size, max_tokens, longest, seed)
    batches = [rank.indices(epoch) for rank in ranks]
    assert {len(of_rank) for of_rank in batches} == {rank.steps_per_epoch for rank in ranks}
    assert {len(rank.indices(epoch + 1)) for rank in ranks} == {ranks[0].steps_per_epoch}
    for together in zip(*batches, strict=True):
        assert len({len(batch) for batch in together}) == 1  # no worker has more to do than another
        assert all(len(batch) * max(max(pairs[index]) for index in batch) <= max_tokens for batch in together)
    used = [index for of_rank in batches for batch in of_rank for index in batch.tolist()]
    assert len(set(used)) == len(used)
    assert usable >= set(used)
    assert len(usable) - len(used) < world_size
    assert ranks[0].left_out == len(pairs) - len(used)
    for rank, found in zip(shares(pairs, world_size, max_tokens, longest, seed), batches, strict=True):
        assert all(map(torch.equal, rank.indices(epoch), found))


def test_epochs_and_seeds_differ_and_little_is_padding() -> None:
    dice = np.random.default_rng(0)
    lengths = dice.poisson(12, (4000, 2)) + 1
    one, other = (shares(lengths.tolist(), 4, 1000, 100, seed)[1] for seed in (0, 1))
    orders = [torch.cat(indices) for indices in (one.indices(0), one.indices(1), other.indices(0))]
    assert len({tuple(order.tolist()) for order in orders}) == 3
    sizes = [(len(batch), int(lengths[batch.numpy()].max())) for batch in one.indices(0)]
    used = sum(int(lengths[batch.numpy()].sum()) for batch in one.indices(0))
    assert used / sum(2 * count * longest for count, longest in sizes) > 0.8
    widths = [longest for _, longest in sizes]
    assert widths != sorted(widths)  # short sentences do not all come first


def test_the_remainder_is_drawn_anew() -> None:
    ranks = shares([(5, 5)] * 11, 4, 100, 10, 0)
    assert ranks[0].left_out == 3
    seen = [
        {index for rank in ranks for batch in rank.indices(epoch) for index in batch.tolist()} for epoch in range(6)
    ]
    assert {len(epoch) for epoch in seen} == {8}
    assert set.union(*seen) == set(range(11))

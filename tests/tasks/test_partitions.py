"""Partitions deal every example to one worker, in equal shares, and skew classes as their papers say."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.partitions import PARTITIONS, Assigned, check_labels
from sgp_core.tasks.sharding import ExampleSampler, build_sampler
from tests.support.examples import examples

BALANCED = np.repeat(np.arange(10), 400)


def assign(name: str, labels: np.ndarray, workers: int, seed: int = 0, **options: object) -> list[np.ndarray]:
    partition = PARTITIONS.build(name, **options)
    assert isinstance(partition, Assigned)
    return partition.assign(labels, workers, seed)


def histograms(shares: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    return np.array([np.bincount(labels[share], minlength=labels.max() + 1) for share in shares])


def concentration(shares: list[np.ndarray], labels: np.ndarray) -> float:
    """Return the mean over workers of ``sum_c q_c^2``: how likely two examples of a worker are of one class."""
    counts = histograms(shares, labels)
    size = counts.sum(1)
    return float(((counts * (counts - 1)).sum(1) / (size * (size - 1))).mean())


@st.composite
def assigned(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    if draw(st.booleans()):
        return "dirichlet", {"alpha": 10 ** draw(st.floats(-9, 6))}
    return "label_shards", {"shards": draw(st.integers(1, 50))}


@settings(deadline=None, max_examples=examples(50))
@given(
    assigned(),
    st.integers(1, 9),
    st.lists(st.integers(-3, 12), min_size=9, max_size=150),
    st.integers(0, 2**32),
    st.integers(1, 20),
)
def test_every_epoch_shows_each_example_to_its_one_worker(
    how: tuple[str, dict[str, object]], workers: int, classes: list[int], seed: int, batch_size: int
) -> None:
    labels = np.array(classes)
    shares = assign(how[0], labels, workers, seed, **how[1])
    assert [len(share) for share in shares] == [len(range(rank, len(labels), workers)) for rank in range(workers)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(labels)))
    assert all(share.dtype == np.int64 for share in shares)
    for epoch in (0, 3):
        for rank, share in enumerate(shares):
            batches = ExampleSampler(len(labels), workers, rank, batch_size, 0, own=share).indices(epoch)
            alike = ExampleSampler(len(labels), workers, rank, batch_size, 0).indices(epoch)
            assert [len(batch) for batch in batches] == [len(batch) for batch in alike]
            assert sorted(torch.cat(list(batches)).tolist()) == sorted(share.tolist())


@pytest.mark.parametrize("name", ["dirichlet", "label_shards"])
def test_an_assignment_follows_from_labels_workers_and_seed(name: str) -> None:
    def dealt(workers: int, seed: int) -> list[list[int]]:
        return [share.tolist() for share in assign(name, BALANCED, workers, seed)]

    assert dealt(4, 0) == dealt(4, 0)
    assert dealt(4, 0) != dealt(4, 1)
    assert assign(name, BALANCED, 1)[0].size == len(BALANCED)


def test_own_examples_come_in_another_order_in_every_epoch() -> None:
    share = assign("dirichlet", BALANCED, 4)[1]
    first, second = (
        torch.cat(list(ExampleSampler(len(BALANCED), 4, 1, 8, 0, own=share).indices(epoch))) for epoch in (0, 1)
    )
    assert first.tolist() != second.tolist()
    assert (first.sort().values == second.sort().values).all()


@pytest.mark.parametrize(("alpha", "kept"), [(100.0, 1.0), (10.0, 1.0), (1.0, 0.92)])
def test_dirichlet_has_the_concentration_of_its_law(alpha: float, kept: float) -> None:
    """E sum_c q_c^2 = (alpha + 1) / (10 alpha + 1) for ten equal classes; equal shares cost some of it."""
    measured = np.mean([concentration(assign("dirichlet", BALANCED, 16, s, alpha=alpha), BALANCED) for s in range(20)])
    assert measured == pytest.approx(kept * (alpha + 1) / (10 * alpha + 1), rel=0.03)


def test_smaller_alpha_is_more_heterogeneous() -> None:
    skews = [
        np.mean([concentration(assign("dirichlet", BALANCED, 16, s, alpha=alpha), BALANCED) for s in range(5)])
        for alpha in (10, 1, 0.1, 0.01)
    ]
    assert skews == sorted(skews)
    assert skews[2] > 0.35


def test_at_the_least_alpha_many_workers_see_one_class() -> None:
    found = [histograms(assign("dirichlet", BALANCED, 10, seed, alpha=1e-9), BALANCED) for seed in range(10)]
    assert np.mean([counts.max(1) == 400 for counts in found]) > 0.3


def test_dirichlet_follows_the_proportions_of_the_classes() -> None:
    labels = np.repeat([0, 1], [900, 100])
    counts = histograms(assign("dirichlet", labels, 4, alpha=1000.0), labels)
    assert counts[:, 0] == pytest.approx([225] * 4, abs=25)


def test_no_worker_draws_before_another() -> None:
    """The last worker's data are as skewed as the first's: none is left with what the others did not want."""
    by_rank = np.zeros(16)
    for seed in range(40):
        counts = histograms(assign("dirichlet", BALANCED, 16, seed, alpha=0.1), BALANCED)
        by_rank += ((counts / counts.sum(1, keepdims=True)) ** 2).sum(1) / 40
    assert by_rank[:4].mean() == pytest.approx(by_rank[-4:].mean(), abs=0.08)


def test_label_shards_are_the_papers() -> None:
    """100 workers, two shards of 300 examples each: at most two classes a worker, both of them 300 or one of 600."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 6000))
    counts = histograms(assign("label_shards", labels, 100), labels)
    assert set(np.unique(counts)) == {0, 300, 600}
    assert ((counts > 0).sum(1) <= 2).all()
    whole = histograms(assign("label_shards", labels, 10, shards=1), labels)
    assert sorted(whole.argmax(1)) == list(range(10))
    assert set(np.unique(whole)) == {0, 6000}


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("dirichlet", "alpha", 0.0), ("dirichlet", "alpha", float("inf")), ("label_shards", "shards", 0)],
)
def test_numbers_out_of_range_are_named(name: str, option: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"^partition.{option} must be"):
        PARTITIONS.build(name, **{option: value})


def test_data_without_classes_are_refused_in_one_sentence() -> None:
    verses = DATASETS.build("verses")
    check_labels(PARTITIONS.build("iid"), verses)
    with pytest.raises(ConfigurationError, match=r"^partition 'dirichlet' .* 'verses' have none; use partition=iid$"):
        check_labels(PARTITIONS.build("dirichlet"), verses)


def test_workers_of_a_task_get_what_the_partition_assigns() -> None:
    task, partition = DATASETS.build("digits").load(), PARTITIONS.build("label_shards")
    shares = [build_sampler(task, partition, 4, rank, 32, seed=1) for rank in range(4)]
    anew = [build_sampler(task, PARTITIONS.build("iid"), 4, rank, 32, seed=1) for rank in range(4)]
    assert task.labels is not None
    for share, usual in zip(shares, anew, strict=True):
        assert share.steps_per_epoch == usual.steps_per_epoch
        first, later = (torch.cat(list(share.indices(epoch))) for epoch in (0, 5))
        assert sorted(first.tolist()) == sorted(later.tolist())
        assert len(task.labels[first].unique()) <= 6  # two shards, each an eighth of ten classes
        assert len(task.labels[torch.cat(list(usual.indices(0)))].unique()) == 10
    assert sorted(torch.cat([torch.cat(list(share.indices(0))) for share in shares]).tolist()) == list(
        range(len(task.labels))
    )


def test_more_workers_than_examples_are_refused() -> None:
    task = DATASETS.build("digits").load()
    with pytest.raises(ConfigurationError, match=r"^1437 training examples cannot be shared by 1500 workers"):
        build_sampler(task, PARTITIONS.build("dirichlet"), 1500, 0, 1, seed=0)


def test_partitions_are_read_without_torch() -> None:
    code = "import sys, sgp_core.tasks.partitions as p; p.PARTITIONS.names(); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"

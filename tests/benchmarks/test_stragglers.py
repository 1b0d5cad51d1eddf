"""The model of waiting, against figures worked out by hand; and the benchmark runs."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stragglers
from suite import maxplus
from tests.benchmarks.running import run_small, table_rows
from tests.support.workers import run_workers
from tests.workers.stragglers import compute_while_others_end


def test_one_late_step_reaches_all_at_the_pace_of_the_graph() -> None:
    late = [[1.0] * 8 for _ in range(4)]
    late[0][0] = 2.0
    assert maxplus.alone(late)[3] == [5.0, *[4.0] * 7]
    assert [set(row) for row in maxplus.barrier(late)] == [{2.0}, {3.0}, {4.0}, {5.0}]
    first, second, _, _ = maxplus.gossip()(late)
    assert first == [2, 2, 1, 1, 1, 1, 1, 2]  # hop 1: its receiver and, since nothing is buffered, its sender
    assert second == [3, 3, 3, 3, 2, 3, 3, 3]  # hop 2
    assert maxplus.gossip(1)(late) == maxplus.alone(late)  # as late as a message may be
    late[0][0] = 3.0
    assert maxplus.gossip(1)(late)[:2] == [[3, 1, 1, 1, 1, 1, 1, 1], [4, 3, 2, 2, 2, 2, 2, 3]]


def test_models_that_are_sent_ahead_leave_a_computation_of_slack_either_way() -> None:
    late = [[1.0] * 8 for _ in range(3)]
    late[0][0] = 2.0
    assert maxplus.gossip_ahead(late) == maxplus.alone(late)
    late[0][0] = 4.0
    first, second, third = maxplus.gossip_ahead(late)
    assert first == [4, 1, 1, 1, 1, 1, 1, 1]  # the messages of the first step had left before it was late
    assert second == [5, 2, 4, 2, 2, 2, 4, 2]  # hop 2: those that receive from it, and send to it
    assert third == [6, 3, 5, 3, 5, 3, 5, 3]  # hop 4: its peer, and those of the two that had waited for it


def test_workers_that_send_ahead_wait_for_peers_one_computation_behind_and_no_more() -> None:
    """The model's ``t[k][in]`` and ``t[k][out]``, with real workers on a directed ring: all of three are peers of 0."""
    assert run_workers(3, compute_while_others_end) == [4, 4, 4]


def test_permanent_straggler_sets_the_pace_of_every_bounded_form_in_the_long_run() -> None:
    slow = stragglers.durations("permanent", 8, 1000, 1.0, seed=0)
    for tau in (0, 1, 2, 4):
        assert stragglers.per_step(maxplus.gossip(tau)(slow), 500) == pytest.approx([4.0] * 8, abs=0.02)
    assert stragglers.per_step(maxplus.gossip_ahead(slow), 500) == pytest.approx([4.0] * 8, abs=0.02)
    assert stragglers.per_step(maxplus.alone(slow), 500) == [4.0 if i == 3 else 1.0 for i in range(8)]


def test_random_stalls_cost_less_the_longer_one_may_wait() -> None:
    """The published order: AllReduce, gossip, and gossip with more and more overlap, down to no waiting at all."""
    stalls = stragglers.durations("random", 8, 2000, 0.05, seed=1)
    overlapped = [maxplus.gossip_ahead, *(maxplus.gossip(tau) for tau in (2, 4))]
    models = [maxplus.barrier, maxplus.gossip(), *overlapped, maxplus.alone]
    paces = [statistics.fmean(stragglers.per_step(model(stalls), 100)) for model in models]
    assert paces == sorted(paces, reverse=True)
    assert paces[0] == pytest.approx(0.05 * (1 + 0.25 * 4), rel=0.05)
    assert paces[-1] == pytest.approx(0.05 * (1 + 0.25 * 4 / 8), rel=0.05)


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(2, 9),
    model=st.sampled_from([maxplus.gossip_ahead, *(maxplus.gossip(tau) for tau in range(5))]),
    data=st.data(),
)
def test_waiting_never_makes_anybody_quicker(n: int, model: maxplus.Model, data: st.DataObject) -> None:
    step = st.lists(st.floats(0.1, 5.0), min_size=n, max_size=n)
    durations = data.draw(st.lists(step, min_size=1, max_size=12))
    least, most = maxplus.alone(durations), maxplus.barrier(durations)
    for low, middle, high in zip(least, model(durations), most, strict=True):
        for a, b, c in zip(low, middle, high, strict=True):
            assert a <= b + 1e-9
            assert b <= c + 1e-9


def test_delays_are_the_same_wherever_they_are_asked_for() -> None:
    assert stragglers.durations("random", 8, 50, 0.05, seed=2) == stragglers.durations("random", 8, 50, 0.05, seed=2)
    assert stragglers.durations("none", 2, 1, 0.05, seed=0) == [[0.05, 0.05]]


def test_small_run_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--scenarios permanent --contenders allreduce sgp --workers 2 --compute-ms 1 --rounds 1 --steps 4"
    about, rows = run_small(stragglers, f"{options} --warm 1", tmp_path, monkeypatch)
    names = ["no messages", "allreduce", "sgp"]
    assert [row["name"] for row in rows] == names
    assert [cells[0] for cells in table_rows(capsys.readouterr().out)] == names
    assert about["steps"] == {"permanent": 4}
    for row in rows:
        assert row["slowest_ms"] >= row["mean_ms"] >= row["quickest_ms"] > 0.99  # they do sleep
        assert row["others_keep"] is not None

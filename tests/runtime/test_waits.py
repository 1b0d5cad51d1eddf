"""A worker that waits for others says who waits where for whom, and a wait without end is ended."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch.distributed as dist

from sgp_core.distributed.positions import Position, advise, describe, is_deadlock
from sgp_core.distributed.wait_watcher import PositionBoard
from tests.support.waiting import PATIENCE_S
from tests.support.workers import run_workers
from tests.workers import ends_at_once, waits

EVALUATES = (
    "Deadlock",
    r"rank 0 waits in averaged\(\) after 2 steps, ranks 1 to 3 in step 2: all workers must call averag",
)
HAVE_LEFT = (
    "PeerLost",  # the busier the machine, the more are still closing
    r"rank 0 waits in finish\(\) after 2 steps, (ranks? [1-3 and]+ in close\(\) after 2 steps, )?"
    r"(ranks [1-3 andto]+ have closed their|rank [1-3] has closed its) Gossip after 2 steps",
)
EXPECTED = {
    "allreduce": (
        "Deadlock",
        r"rank 0 waits in averaged\(\) after 2 steps, ranks 1 to 3 in backward\(\) of step 2: all",
    ),
    "local_sgd": (
        "Deadlock",
        r"rank 0 waits in averaged\(\) after 2 steps, ranks 1 to 3 in step 2: all workers must call",
    ),
    "two collectives": (
        "Deadlock",
        r"rank 0 waits in consensus_distance\(\) after 0 steps, ranks 1 to 3 in averaged\(\) after 0 steps: all workers"
        r" must call averaged\(\) and consensus_distance\(\) in the same order",
    ),
    "distance": (
        "Deadlock",
        r"rank 0 waits in consensus_distance\(\) after 2 steps, ranks 1 to 3 in step 2: all workers ",
    ),
    "ahead": (
        "Deadlock",
        r"rank 0 waits in averaged\(\) after 2 steps, ranks 1 to 3 in step 3: all workers ",
    ),
    "nodes": (
        "Deadlock",
        r"rank 0 waits in averaged\(\) after 2 steps, rank 1 in backward\(\) of step 2, ranks 2 and 3 in",
    ),
    "one step more": (
        "Deadlock",
        r"ranks 0, 2 and 3 wait in averaged\(\) after 3 steps, rank 1 in step 3: all workers must",
    ),
    "one step more in memory": (
        "Deadlock",
        r"ranks 0, 2 and 3 wait in finish\(\) after 3 steps, rank 1 in step 3: all workers must call finish\(\), after",
    ),
    "one step more, ahead": (
        "Deadlock",
        r"ranks 0, 2 and 3 wait in averaged\(\) after 3 steps, rank 1 in finish\(\) after 4",
    ),
    "finish": (
        "Deadlock",
        r"rank 0 waits in finish\(\) after 2 steps, ranks 1 to 3 in step 3: all workers must call finish\(\)",
    ),
    "closed, ahead": (
        "PeerLost",
        r"ranks 0, 2 and 3 wait in close\(\) after 3 steps, rank 1 has closed its Gossip after 2 steps: all workers",
    ),
    "scaler, ahead": (
        "Deadlock",
        r"ranks 0, 2 and 3 wait in averaged\(\) after 3 steps, rank 1 in averaged\(\) after 2 steps: all workers must",
    ),
    "one step more, late": (
        "Deadlock",
        r"ranks 0, 2 and 3 wait in averaged\(\) after 3 steps, rank 1 in finish\(\) after 4",
    ),
    "closed": ("PeerLost", r"ranks 0, 2 and 3 wait in step 2, rank 1 has closed its Gossip after 2 steps: all workers"),
    "closed in memory": ("PeerLost", r"ranks 0, 2 and 3 wait in step 2, rank 1 has closed its Gossip after 2 steps"),
    "scaler": (
        "Deadlock",
        r"ranks 0, 2 and 3 wait in step 2, rank 1 in averaged\(\) after 2 steps: all workers must",
    ),
    "asynchronous": HAVE_LEFT,
    "asynchronous messages": HAVE_LEFT,
    "pairs": HAVE_LEFT,
}
HAVE_CLOSED = dict.fromkeys(("closed", "closed in memory", "closed, ahead"), (1,)) | dict.fromkeys(
    ("asynchronous", "asynchronous messages", "pairs"), (1, 2, 3)
)
"""The ranks that have nothing to wait for, and end well."""


@pytest.fixture(scope="module")
def errors() -> list[dict[str, tuple[str, str]]]:
    """What each worker ended in, by case."""
    return run_workers(waits.WORKERS, waits.fail_everywhere)


@pytest.mark.parametrize("case", waits.CASES)
def test_workers_that_wait_in_different_places_all_say_who_waits_where(
    errors: list[dict[str, tuple[str, str]]], case: str
) -> None:
    kind, pattern = EXPECTED.get(case, EVALUATES)
    for rank, found in enumerate(errors):
        if rank in HAVE_CLOSED.get(case, ()):
            assert found[case] == ("none", "")
        else:
            assert found[case][0] == kind, found[case]
            assert re.match(pattern, found[case][1]), found[case]


def test_a_worker_that_takes_its_time_is_waited_for_after_one_warning() -> None:
    ranks = run_workers(waits.WORKERS, waits.take_time, "said")
    assert {rank["steps"] for rank in ranks} == {4}
    [line] = set(ranks[1]["lines"])
    assert re.match(r"ranks 1 to 3 wait in step 2, rank 0 is in code of its own after 2 steps, for \d+ s now", line), (
        line
    )
    assert all(rank["weights"].equal(ranks[0]["weights"]) for rank in ranks)


def test_all_workers_know_the_reason_before_one_ends_with_it() -> None:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    said = subprocess.run(
        [*program, ends_at_once.__file__], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    ).stdout
    sentence = r"rank 0 waits in averaged\(\) after 2 steps, rank 1 in step 2: "
    for rank in (0, 1):
        assert re.search(f"^Deadlock of rank {rank}: {sentence}", said, re.MULTILINE), said


def test_workers_that_meet_often_leave_one_key_in_the_store() -> None:
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        keys = set()
        first, second = (PositionBoard(None, rank, world_size=2) for rank in range(2))
        for number in range(1, 101, 2):
            first.arrive("averaged()", number)
            assert not first.have_met("averaged()", number)
            second.arrive("averaged()", number)
            assert first.have_met("averaged()", number)
            first.arrive("averaged()", number + 1)  # the faster one is at the next before the other has looked
            assert second.have_met("averaged()", number)
            second.arrive("averaged()", number + 1)
            keys.add(store.num_keys())
        assert len(keys) == 1
    finally:
        dist.destroy_process_group()


def averaging(steps: int, times: int = 0) -> Position:
    return Position("averaged()", collective=True, steps=steps, passed={"averaged()": times})


def stepping(steps: int, times: int = 0) -> Position:
    return Position("optimizer.step()", needs=steps + 1, steps=steps, passed={"averaged()": times})


@pytest.mark.parametrize(
    ("positions", "dead"),
    [
        ([averaging(5), stepping(5)], True),
        ([averaging(5), stepping(4)], False),  # which comes next, and then to the average
        ([averaging(5), averaging(5)], False),
        ([averaging(5), stepping(5, times=1)], False),  # it was there: the other is about to leave
        ([stepping(5), stepping(6)], False),  # not all wait for all
        ([stepping(6), stepping(5)], False),
        ([averaging(5), Position(steps=5)], False),  # in code of its own
        ([averaging(5), None], False),
        ([averaging(5), Position(moving=True)], False),
        ([stepping(5), Position(steps=5, ended="ended")], True),
        ([stepping(4), Position(steps=5, ended="ended")], False),  # it has done what is waited for
        ([averaging(5), Position(steps=5, ended="ended")], True),
        ([averaging(5), Position(steps=5, ended="ended", passed={"averaged()": 1})], False),
        ([averaging(5), Position("consensus_distance()", collective=True, steps=5)], True),
        ([Position("finish()", needs=5, steps=5), stepping(5)], False),
        ([stepping(5), stepping(5), averaging(5), Position(steps=5)], False),
    ],
)
def test_only_what_can_never_end_is_a_deadlock(positions: list[Position | None], dead: bool) -> None:
    assert is_deadlock(dict(enumerate(positions))) is dead


def test_the_sentence_names_every_rank_once_and_says_what_is_right() -> None:
    positions = {0: averaging(9), 1: stepping(9), 2: None, 3: Position(steps=1), 4: Position(steps=1)}
    assert describe(positions) == (
        "rank 0 waits in averaged() after 9 steps, rank 1 in step 9, rank 2 has not built its Gossip,"
        " ranks 3 and 4 are in code of their own after 1 step"
    )
    assert advise({0: averaging(9), 1: stepping(9)}) == (
        "all workers must call averaged(), after the same number of steps; for uneven batches there is gossip.join()"
    )
    assert Position.from_json(averaging(3, 2).to_json()) == averaging(3, 2)

"""Who is missing, by what workers have told of themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sgp_core.watchdog.judge import Hang, WorkerSign, find_hang

LIMIT_S = 60.0


def sign(
    step: int, phase: str, still_s: float, *, waits: bool = False, silent_s: float = 0.0, limit_s: float = LIMIT_S
) -> WorkerSign:
    return WorkerSign(silent_s, still_s, limit_s, step, phase, waits)


def waiting(step: int, still_s: float, **more: float) -> WorkerSign:
    return sign(step, "optimizer.step()", still_s, waits=True, **more)


def find(signs: Mapping[int, WorkerSign]) -> Hang | None:
    return find_hang(signs, silent_after_s=5, patience_s=LIMIT_S)


def test_a_worker_that_does_not_go_on_is_missing() -> None:
    hang = find({0: waiting(20, 61), 1: sign(20, "forward", 60.4), 2: waiting(20, 61)})
    assert hang is not None
    assert (hang.peers, hang.step, hang.phase) == ((1,), 20, "forward")
    assert hang.text == (
        "rank 1 has not gone on for 60 s: in step 20, in forward; ranks 0 and 2 wait in optimizer.step() of step 20"
    )


def test_a_worker_that_says_nothing_is_missing_though_it_waited() -> None:
    hang = find({0: waiting(20, 61), 1: waiting(19, 61, silent_s=61)})
    assert hang is not None
    assert hang.peers == (1,)
    assert hang.text.startswith("rank 1 has not answered for 61 s: stopped, or the host is gone; it was in step 19")


def test_who_waits_for_a_worker_that_goes_on_waits_for_as_long_as_it_takes() -> None:
    assert find({0: waiting(20, 500), 1: sign(20, "evaluation", 3)}) is None


def test_a_wait_is_not_blamed_before_the_limit_of_who_is_missing() -> None:
    assert find({0: waiting(20, 61), 1: sign(20, "forward", 59)}) is None


def test_if_all_wait_those_in_the_earliest_step_are_missing() -> None:
    hang = find({0: waiting(21, 61), 1: waiting(20, 61), 2: waiting(21, 61)})
    assert hang is not None
    assert (hang.peers, hang.step) == ((1,), 20)


def test_workers_that_go_on_do_not_hang() -> None:
    assert find({0: sign(20, "forward", 1), 1: waiting(20, 1)}) is None
    assert find({0: sign(20, "forward", 61)}) is not None


def test_what_may_take_long_does_so_in_silence_for_as_long_as_any_may() -> None:
    def start(silent_s: float) -> Mapping[int, WorkerSign]:
        return {0: waiting(1, 300), 1: sign(1, "start", 300, limit_s=math.inf, silent_s=silent_s)}

    assert find(start(6)) is None  # an import that holds the interpreter's lock
    hang = find(start(60))
    assert hang is not None
    assert (hang.peers, hang.phase) == ((1,), "start")


def test_a_short_silence_of_one_that_waits_for_another_is_no_hang() -> None:
    compiles = sign(1, "forward", 61, limit_s=600)
    assert find({0: waiting(1, 61, silent_s=6), 1: compiles}) is None


def test_if_all_wait_one_that_does_not_run_is_missing() -> None:
    hang = find({0: waiting(20, 61), 1: waiting(20, 61, silent_s=58), 2: waiting(20, 61)})
    assert hang is not None
    assert hang.peers == (1,)
    assert hang.text.startswith("rank 1 has not answered for 58 s")

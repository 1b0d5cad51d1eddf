"""Who is missing, by what workers have told of themselves."""

from __future__ import annotations

from sgp_core.watchdog.judge import WorkerSign, find_hang

LIMIT_S = 60.0


def sign(step: int, phase: str, still_s: float, *, waits: bool = False, silent_s: float = 0.0) -> WorkerSign:
    return WorkerSign(silent_s, still_s, LIMIT_S, step, phase, waits)


def waiting(step: int, still_s: float, **more: float) -> WorkerSign:
    return sign(step, "optimizer.step()", still_s, waits=True, **more)


def test_a_worker_that_does_not_go_on_is_missing() -> None:
    hang = find_hang({0: waiting(20, 61), 1: sign(20, "forward", 60.4), 2: waiting(20, 61)}, silent_after_s=5)
    assert hang is not None
    assert (hang.peers, hang.step, hang.phase) == ((1,), 20, "forward")
    assert hang.text == (
        "rank 1 has not gone on for 60 s: in step 20, in forward; ranks 0 and 2 wait in optimizer.step() of step 20"
    )


def test_a_worker_that_says_nothing_is_missing_though_it_waited() -> None:
    hang = find_hang({0: waiting(20, 61), 1: waiting(19, 61, silent_s=61)}, silent_after_s=5)
    assert hang is not None
    assert hang.peers == (1,)
    assert hang.text.startswith("rank 1 has not answered for 61 s: stopped, or the host is gone; it was in step 19")


def test_who_waits_for_a_worker_that_goes_on_waits_for_as_long_as_it_takes() -> None:
    assert find_hang({0: waiting(20, 500), 1: sign(20, "evaluation", 3)}, silent_after_s=5) is None


def test_a_wait_is_not_blamed_before_the_limit_of_who_is_missing() -> None:
    assert find_hang({0: waiting(20, 61), 1: sign(20, "forward", 59)}, silent_after_s=5) is None


def test_if_all_wait_those_in_the_earliest_step_are_missing() -> None:
    hang = find_hang({0: waiting(21, 61), 1: waiting(20, 61), 2: waiting(21, 61)}, silent_after_s=5)
    assert hang is not None
    assert (hang.peers, hang.step) == ((1,), 20)


def test_workers_that_go_on_do_not_hang() -> None:
    assert find_hang({0: sign(20, "forward", 1), 1: waiting(20, 1)}, silent_after_s=5) is None
    assert find_hang({0: sign(20, "forward", 61)}, silent_after_s=5) is not None

"""A worker that gets no processor is slow: that is no hang."""

from __future__ import annotations

import threading
import time

from sgp_core.watchdog.starvation import Starvation
from tests.support.workers import run_workers
from tests.workers.starved import PATIENCE_S, little_processor, train


def test_a_starved_worker_has_not_hung() -> None:
    hangs, seconds = zip(*run_workers(2, train), strict=True)
    assert seconds[1] > 1.2 * PATIENCE_S, "it got too much of its processor: this proves nothing"
    assert hangs == ("", "")


def test_only_waiting_for_a_processor_counts() -> None:
    waited: list[float] = []

    def work() -> None:
        starvation = Starvation()
        time.sleep(0.5)
        waited.append(starvation.more_s())
        with little_processor():
            end = time.thread_time() + 0.1
            while time.thread_time() < end:
                pass
        waited.append(starvation.more_s())
        waited.append(starvation.more_s())

    thread = threading.Thread(target=work)  # its priority stays low
    thread.start()
    thread.join()
    asleep, starved, no_more = waited
    assert asleep + no_more < starved / 2
    assert starved > 0.3

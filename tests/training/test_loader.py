"""Batches are the same bits in whichever process they are made; one that dies is named; none outlives its worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import Batch
from sgp_core.training.config import LoaderConfig
from sgp_core.training.loader import Loader, LoaderDied
from tests.support.waiting import wait_until


def make(item: int) -> Batch:
    """Batches of many lengths, none and one too long for its slot included, each with random content of its own."""
    generator = torch.Generator().manual_seed(item)
    length = 100 if item == 4 else item % 6
    images = torch.randint(256, (length, 3, 4, 4), generator=generator, dtype=torch.uint8)
    pair = (images.to(memory_format=torch.channels_last), torch.rand(length, 2, generator=generator))
    counts = torch.arange(length) if item % 2 else None
    return Batch(pair, torch.randint(9, (length,), generator=generator), counts)


def copied(batch: Batch) -> list[torch.Tensor | None]:
    parts = [*batch.inputs, batch.targets, batch.counts]
    return [None if part is None else part.clone(memory_format=torch.contiguous_format) for part in parts]


@pytest.mark.parametrize("processes", [0, 1, 2, 3])
@pytest.mark.parametrize("ahead", [1, 3])
def test_same_bits_and_order_for_any_number_of_processes(processes: int, ahead: int) -> None:
    items = [3, 1, 4, 5, 0, 2, 7, 11, 9, 10]
    made = [copied(batch) for batch in Loader(make, items, processes, ahead)]
    assert len(made) == len(items)
    for found, item in zip(made, items, strict=True):
        for part, expected in zip(found, copied(make(item)), strict=True):
            assert (part is None) == (expected is None)
            if part is not None and expected is not None:
                assert part.dtype == expected.dtype
                assert torch.equal(part, expected)


def test_a_batch_is_valid_until_the_next_is_asked_for() -> None:
    with Loader(make, [5] * 30, 1, ahead=1) as batches:
        for batch in batches:
            time.sleep(0.005)  # the process is ahead by now
            assert torch.equal(batch.inputs[0], make(5).inputs[0])


def pids(loader: Loader) -> list[int]:
    return [helper.pid for helper in loader._helpers]


def test_a_killed_process_is_one_sentence_at_once() -> None:
    with Loader(make, range(1000), 2) as batches:
        next(batches), next(batches)
        os.kill(pids(batches)[0], signal.SIGKILL)
        with pytest.raises(LoaderDied, match=r"a loader process \(pid \d+\) was ended by SIGKILL") as caught:
            for _ in batches:
                pass
    assert "\n" not in str(caught.value)


def test_what_a_batch_raises_is_raised_here() -> None:
    def damaged(item: int) -> Batch:
        if item == 5:
            raise ConfigurationError("5.jpg is not a readable image")
        return make(item)

    with Loader(damaged, range(9), 2) as batches:
        made = [next(batches) for _ in range(5)]
        with pytest.raises(ConfigurationError, match=r"^5.jpg is not a readable image$"):
            next(batches)
    assert len(made) == 5


def test_signals_are_left_to_the_worker() -> None:
    with Loader(make, range(40), 1) as batches:
        next(batches), next(batches)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(pids(batches)[0], number)
        assert len(list(batches)) == 38


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux")
def test_processes_do_not_interrupt_the_worker() -> None:
    with Loader(make, range(40), 1) as batches:
        next(batches)
        next(batches)  # it is at work
        assert os.sched_getscheduler(pids(batches)[0]) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_closing_leaves_no_process() -> None:
    with Loader(make, range(1000), 3) as batches:
        next(batches)
        begun = pids(batches)
    for pid in begun:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert list(batches) == []


WORKER = """
import sys
import torch
from sgp_core.tasks.base import Batch
from sgp_core.training.loader import Loader
batches = Loader(lambda item: Batch((torch.zeros(1),), torch.zeros(1)), range(10**6), 2)
next(batches)
print(*(helper.pid for helper in batches._helpers), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they end when they next speak to the worker")
def test_processes_do_not_outlive_a_killed_worker() -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    begun = [int(pid) for pid in worker.stdout.readline().split()]
    worker.kill()
    worker.communicate()
    wait_until(lambda: not any(_runs(pid) for pid in begun), "the end of the loader's processes")
    assert len(begun) == 2


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie, whose new parent has not looked yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_that_may_not_start_processes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    with pytest.raises(ConfigurationError, match=r"^loader.processes must be 0 here: "):
        next(Loader(make, range(9), 1))


def test_slow_data_get_a_process_unless_told_otherwise() -> None:
    assert [LoaderConfig().number(slow) for slow in (False, True)] == [0, 1]
    assert [LoaderConfig(processes=0).number(slow) for slow in (False, True)] == [0, 0]
    with pytest.raises(ConfigurationError, match=r"loader.processes must be at least 0, not -1"):
        LoaderConfig(processes=-1)

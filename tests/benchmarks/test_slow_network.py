"""The slow network is as slow as it says, and is gone afterwards. Times have lower bounds only, which the links set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import slow_network
from suite import network
from suite.network import SlowNetwork
from suite.paced import BLOCKS, Clock, PacedModel, Problem
from suite.workers import in_workers
from tests.benchmarks.running import run_small, table_rows
from tests.support.packages import SLOW_NETWORK, give_up, require
from tests.support.waiting import PATIENCE_S, wait_until

BENCHMARK = Path(slow_network.__file__)


def namespaces() -> set[str]:
    """Return the benchmark's network namespaces that this machine has."""
    folder = Path("/run/netns")
    return {path.name for path in folder.glob("sgp-bench-*")} if folder.exists() else set()


@pytest.fixture
def clean() -> Iterator[None]:
    """A machine that can have slow networks, and has none of ours after the test either."""
    require(SLOW_NETWORK)
    try:
        network.check(delay=True)
    except network.Unavailable as reason:
        give_up(str(reason))
    before = namespaces()
    yield
    assert namespaces() <= before


def test_small_run_is_limited(
    clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--workers 2 --mbit 400 --parameters 1 --contenders sgp --rounds 2 --steps 3"
    _, rows = run_small(slow_network, options, tmp_path, monkeypatch)
    [row] = rows
    assert [cells[0] for cells in table_rows(capsys.readouterr().out)] == ["sgp"]
    wire = 4e6 * 8 / 400e6
    assert row["message_ms"] == pytest.approx(1e3 * wire * 1514 / 1448)
    assert row["bare_message_ms"] >= 1e3 * wire
    assert row["step_ms"] >= 1e3 * wire + row["compute_ms"]
    assert row["ideal_ms"] == pytest.approx(1.5 * row["message_ms"])
    assert row["bytes_per_step"] == pytest.approx(4e6, rel=1e-4)
    assert row["steps_to_loss"] is None  # not in three steps
    assert len(row["rounds"]["losses"][0]) == 3


def round_trip() -> float:
    """In two workers: return the least seconds of a message there and back."""
    rank, number, seconds = dist.get_rank(), torch.zeros(1), []
    for _ in range(3):
        dist.barrier()
        start = time.perf_counter()
        for sender in (0, 1):
            dist.send(number, 1 - rank) if rank == sender else dist.recv(number, 1 - rank)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def test_delay_is_kept_both_ways(clean: None) -> None:
    with SlowNetwork(2, 1000, delay_ms=20) as slow:
        assert in_workers(2, round_trip, namespaces=slow.namespaces) >= 0.04


def one_is_killed() -> None:
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def test_nothing_is_left_when_a_worker_is_killed(clean: None) -> None:
    with SlowNetwork(2, 1000) as slow:
        assert namespaces() >= set(slow.namespaces)
        with pytest.raises(RuntimeError, match="worker 1 was killed"):
            in_workers(2, one_is_killed, namespaces=slow.namespaces)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_it_is_stopped(clean: None, ending: signal.Signals) -> None:
    words = ["--workers", "2", "--mbit", "1", "--rounds", "1"]
    process = subprocess.Popen([sys.executable, str(BENCHMARK), *words], stdout=subprocess.DEVNULL)
    mark = f"sgp-bench-{process.pid}-"
    made = lambda: any(name.startswith(mark) for name in namespaces())  # noqa: E731
    wait_until(made, "the network", works=lambda: process.poll() is None)
    process.send_signal(ending)
    assert process.wait(PATIENCE_S) != 0
    assert not any(name.startswith(mark) for name in namespaces())


def test_networks_of_the_dead_are_removed(clean: None) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    subprocess.run(["ip", "netns", "add", f"sgp-bench-{gone.pid}-1-abcd-0"], check=True)
    with SlowNetwork(1, 1000) as slow:
        assert not any(f"-{gone.pid}-" in name for name in namespaces())
        with SlowNetwork(1, 1000) as other:  # another of a living process stays
            assert {*slow.namespaces, *other.namespaces} <= namespaces()


def test_what_is_missing_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.shutil, "which", lambda name: None)
    with pytest.raises(network.Unavailable, match="needs the packages gcc iproute2"):
        network.check(delay=True)
    monkeypatch.setattr(network.shutil, "which", lambda name: name)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(network.Unavailable, match="needs root"):
        network.check()


def test_ideal_steps() -> None:
    here = slow_network.Network(compute=2.0, wire=4.0, delay=0.0, workers=8)
    ideals = {name: ideal(here) for name, (_, ideal) in slow_network.CONTENDERS.items()}
    assert ideals["torch DDP"] == 2 + 1.75 * 4
    assert ideals["torch DDP, 1 MB buckets"] == pytest.approx(2 / 3 + 1.75 * 4)
    assert ideals["sgp"] == 6
    assert ideals["osgp, overlap_steps=1"] == 4
    far = slow_network.Network(compute=2.0, wire=4.0, delay=1.0, workers=8)
    assert far.message == 5
    assert far.ring == 14 * (0.5 + 1)


def test_loss_counts_when_it_is_reached() -> None:
    target = slow_network.TARGET_LOSS
    assert slow_network.time_to_target([2 * target, target, 0.0], [1.0, 2.0, 3.0]) == (2, 2.0)
    assert slow_network.time_to_target([2 * target], [1.0]) is None


def test_paced_model_trains_and_takes_its_time() -> None:
    clock = Clock(0.05)
    model = PacedModel(100_000, clock)
    problem = Problem(rank=0, world_size=4, batch=32)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(100_000, abs=BLOCKS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before = problem.validation_loss(model)
    start = time.perf_counter()
    for _ in range(10):
        clock.start()
        problem.loss(model).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert time.perf_counter() - start >= 0.5
    assert problem.validation_loss(model) < before - 0.5
    assert all(not padding.any() for padding in model.padding)

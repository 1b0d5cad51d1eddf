"""A slow link between real workers is recorded and named."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import sgp_core
from launcher.cli.sgp import main
from launcher.runs.timeline import read_timeline
from sgp_core.distributed.point_to_point import PointToPoint
from sgp_core.timeline import SETTLING, Timeline, now
from tests.support.run_folders import make_rows, make_run
from tests.support.workers import run_workers

LATE_S = 0.04
STEPS = 12


class _Late:
    """A message that leaves later than it was handed over; one after another, as on a wire."""

    wire = ThreadPoolExecutor(max_workers=1)

    def __init__(self, operation: dist.P2POp) -> None:
        self._sent = self.wire.submit(self._send, operation)

    def _send(self, operation: dist.P2POp) -> None:
        time.sleep(LATE_S)
        operation.op(operation.tensor, operation.peer, operation.group).wait()

    def wait(self) -> None:
        self._sent.result()


def train(folder: str, overlap_steps: int) -> None:
    """Train on a one-way ring whose link from worker 2 to worker 3 is slow."""
    rank, post = dist.get_rank(), PointToPoint.post

    def slow_link(
        messages: PointToPoint, receives: list[dist.P2POp], sends: list[dist.P2POp], *others: Any
    ) -> tuple[list[Any], list[Any]]:
        slow = [rank == 2 and send.peer == 3 for send in sends]
        at_once = [send for send, is_slow in zip(sends, slow, strict=True) if not is_slow]
        arrivals, departures = post(messages, receives, at_once, *others)
        works = iter(departures)
        return arrivals, [_Late(send) if is_slow else next(works) for send, is_slow in zip(sends, slow, strict=True)]

    model = nn.Linear(20, 20)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    algorithm = sgp_core.build_algorithm("sgp", overlap_steps=overlap_steps)
    topology = sgp_core.build_topology("directed_ring", world_size=4)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport="p2p")
    timeline = Timeline(Path(folder, "timeline", f"rank-{rank}.json"), rank, STEPS)
    gossip.record(timeline)
    PointToPoint.post = slow_link  # type: ignore[assignment]
    try:
        for step in range(SETTLING + STEPS):
            timeline.begin_step(step)
            began = now()
            model(torch.ones(1, 20)).sum().backward()
            optimizer.step()
            timeline.end_step(began)
        gossip.finish()
    finally:
        PointToPoint.post = post  # type: ignore[method-assign]
    gossip.close()


@pytest.mark.parametrize("overlap_steps", [0, 1])
def test_a_slow_link_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], overlap_steps: int) -> None:
    run = make_run(tmp_path / "runs", "0000000001", rows=make_rows())
    run_workers(4, train, str(run), overlap_steps)
    timeline = read_timeline(run)
    assert timeline is not None
    assert (timeline.steps, len(timeline.workers)) == (STEPS, 4)
    slowest = timeline.links[0]
    assert (slowest.sender, slowest.receiver) == (2, 3)
    assert slowest.ms >= 0.8 * 1e3 * LATE_S
    assert main(["report", "0000000001", "--runs-dir", str(run.parent), "--format", "html"]) == 0
    assert "Slowest link: worker 2 to worker 3" in capsys.readouterr().out
    page = (run / "report" / "report.html").read_text()
    assert "Slowest link: worker 2 to worker 3" in page
    assert "Where the step goes" in page

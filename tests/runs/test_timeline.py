"""What is read off recorded steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.timeline import read_timeline


def span(name: str, at_ms: float, length_ms: float, **about: Any) -> dict[str, Any]:
    return {"ph": "X", "name": name, "ts": 1e3 * at_ms, "dur": 1e3 * length_ms, "args": about}


def write(folder: Path, rank: int, compute: float, links: dict[int, float]) -> None:
    """Five steps of 100 ms: data 1 ms, ``compute`` ms, then an exchange handed over at 50 ms."""
    events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name"}]
    for step in range(5):
        at = 100.0 * step
        wait = max(links.values())
        events += [span("step", at, 1 + compute + wait + 2, step=step), span("data", at, 1)]
        events += [span("mix", at + 1 + compute, wait + 2, step=step, wait_ms=wait, posted=1e3 * (at + 50))]
        events += [
            span(f"{peer} to {rank}", at + 50, ms, step=step, **{"from": peer, "to": rank})
            for peer, ms in links.items()
        ]
    (folder / "timeline").mkdir(parents=True, exist_ok=True)
    (folder / "timeline" / f"rank-{rank}.json").write_text(json.dumps({"traceEvents": events}))


def test_times_are_parted_and_what_stands_out_is_named(tmp_path: Path) -> None:
    for rank in range(4):
        write(tmp_path, rank, 30 if rank == 1 else 10, {(rank - 1) % 4: 20 if rank == 3 else 4})
    timeline = read_timeline(tmp_path)
    assert timeline is not None
    assert timeline.steps == 5
    worker = timeline.workers[1]
    assert (worker.step, worker.data, worker.compute, worker.wait, worker.gossip) == pytest.approx((37, 1, 30, 4, 2))
    assert next((link.sender, link.receiver, link.messages) for link in timeline.links) == (2, 3, 5)
    assert timeline.remarks() == [
        "Slowest worker: 1, which computes 30 ms a step; the others 10 ms.",
        "Slowest link: worker 2 to worker 3, 20 ms a message and 20 ms a step; the others 4 ms a step.",
    ]


def test_where_all_are_alike_nothing_is_named(tmp_path: Path) -> None:
    for rank in range(3):
        write(tmp_path, rank, 10, {(rank - 1) % 3: 4})
    timeline = read_timeline(tmp_path)
    assert timeline is not None
    assert timeline.remarks() == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"traceEvents": 3}', '{"traceEvents": [3, {"name": "step", "ts": "x", "dur": 1e999}]}'],
)
def test_what_cannot_be_read_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "timeline").mkdir()
    (tmp_path / "timeline" / "rank-0.json").write_text(text)
    (tmp_path / "timeline" / "rank-x.json").write_text("{}")
    assert read_timeline(tmp_path) is None
    write(tmp_path, 1, 10, {0: 4})
    timeline = read_timeline(tmp_path)
    assert timeline is not None
    assert [worker.rank for worker in timeline.workers] == [1]

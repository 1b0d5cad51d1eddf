"""An elastic run on this machine: workers die or are stopped, others take their places, and training goes on."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launcher.runs.line_tail import LineTail
from launcher.runs.membership import MembershipFiles
from launcher.runs.run_folder import RunFolder
from tests.support.launched import Launched, read
from tests.support.waiting import wait_until

PLUGIN = Path(__file__).parents[1] / "plugins" / "until_told.py"
ELASTIC = ("cluster.elastic=true", "cluster.workers_per_node=3", "cluster.threads_per_worker=1", "tracker=none")
LONG = ("training.epochs=100000", "checkpoint.every_epochs=0", "evaluation.every_epochs=3")


def until_told(file: Path) -> tuple[str, ...]:
    return (f"plugins=[{PLUGIN}]", f"callbacks=[{{name: until_told, file: {file}}}]")


def events(run: Path, event: str) -> list[dict[str, Any]]:
    found = LineTail(MembershipFiles(RunFolder(run).attempt(1)).members).objects()
    return [line for line in found if line["event"] == event]


def strike(run: Path, rank: int, number: int) -> int:
    """Send a signal to a worker, and return the process."""
    pid = int(read(run / f"rank-{rank}.json")["pid"])
    os.kill(pid, number)
    return pid


def until_joined(started: Launched, run: Path, *ranks: int) -> None:
    """Wait until these ranks have been filled again, in this order."""

    def what() -> str:
        logs = "\n".join(path.read_text()[-1500:] for path in run.glob("logs/attempt-1/*_log.out"))
        return f"replacements of {ranks}: {events(run, 'joined')}\n{logs}"

    joined = lambda: [line["rank"] for line in events(run, "joined")] == list(ranks)  # noqa: E731
    wait_until(joined, what, works=lambda: started.process.poll() is None)


def until_evaluated_again(started: Launched, run: Path) -> None:
    """Wait until there are three more evaluations, so that whoever joined takes part."""
    count = lambda: sum(row["split"] == "val" for row in LineTail(run / "metrics.jsonl").objects())  # noqa: E731
    before = count()
    wait_until(lambda: count() >= before + 3, "evaluations", works=lambda: started.process.poll() is None)


def test_dead_and_stopped_workers_are_replaced_while_the_others_go_on(
    launch: Callable[..., Launched], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    started = launch(*ELASTIC, *LONG, *until_told(told))
    run = started.until_training(3)
    killed = strike(run, 1, signal.SIGKILL)
    until_joined(started, run, 1)
    until_evaluated_again(started, run)
    stopped = strike(run, 0, signal.SIGSTOP)  # the worker that writes the rows of the run
    until_joined(started, run, 1, 0)
    until_evaluated_again(started, run)
    told.touch()
    said = started.finish()
    assert said.code == 0, said.err
    assert re.search(r"^rank 1 was killed \(SIGKILL\) at step \d+; replaced in \d+\.\d s$", said.out, re.MULTILINE)
    assert re.search(r"^rank 0 was left out \(.*\), and killed at step \d+; replaced in", said.out, re.MULTILINE)
    left = [(line["rank"], line["pid"]) for line in events(run, "left")]
    assert left == [(1, killed), (0, stopped)]  # and no worker that ended with the run
    summary = read(run / "summary.json")
    assert (summary["status"], summary["replacements"]) == ("completed", 2)
    assert list(run.glob("logs/attempt-*")) == [run / "logs" / "attempt-1"]
    steps = [row["step"] for row in LineTail(run / "metrics.jsonl").objects() if row["split"] == "train"]
    assert steps == sorted(set(steps))
    assert steps[-1] == summary["steps"]
    assert not started.left()

"""What goodput counts, and which failures there are; the runs themselves take minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import goodput
from sgp_core.training.callbacks import CALLBACKS
from suite import failures, steps, tables
from suite.launches import Launches
from suite.pulse import Pulse
from suite.steps import Steps
from suite.survivors import Elastic, Restarted, TorchFT, torchft_version

CALLBACKS.remove("pulse")  # it is registered as a plug-in is, and no choice of the tests that follow


def test_failures_are_the_same_for_all_and_one_in_each_interval() -> None:
    planned = failures.every(15.0, 120.0, 8, seed=3, hows=["kill", "stop"])
    assert planned == failures.every(15.0, 120.0, 8, seed=3, hows=["kill", "stop"])
    assert planned != failures.every(15.0, 120.0, 8, seed=4, hows=["kill", "stop"])
    assert [failure.at_s // 15 for failure in planned] == list(range(8))
    assert Counter(failure.how for failure in planned) == {"kill": 4, "stop": 4}
    assert {failure.rank for failure in planned} <= set(range(8))
    assert len(failures.every(60.0, 119.0, 8, seed=3, hows=["kill"])) == 1
    assert failures.every(None, 120.0, 8, seed=3, hows=["kill"]) == []


def test_a_failure_befalls_a_process_from_outside() -> None:
    victim = subprocess.Popen(["sleep", "60"])
    assert failures.Failure(0.0, 0, "stop").inflict(victim.pid)
    assert os.waitid(os.P_PID, victim.pid, os.WSTOPPED) is not None
    assert failures.Failure(0.0, 0, "kill").inflict(victim.pid)
    assert victim.wait() == -9
    assert not failures.Failure(0.0, 0, "kill").inflict(victim.pid)
    assert not failures.Failure(0.0, 0, "kill").inflict(None)


def process(rank: int, pid: int, *ends: tuple[float, int]) -> Steps:
    return Steps(rank, pid, list(ends))


def test_batches_of_survivors_count_and_the_last_of_who_died_does_not() -> None:
    lived = process(0, 10, *((float(k), k) for k in range(1, 11)))
    died = process(1, 11, *((float(k), k) for k in range(1, 6)))
    joined = process(1, 12, (8.0, 8), (9.0, 9))
    assert steps.kept_batches([lived, died, joined], 0.0, 10.0, set()) == 17
    assert steps.kept_batches([lived, died, joined], 0.0, 10.0, {11}) == 16
    assert steps.kept_batches([lived, died, joined], 5.0, 10.0, {11}) == 7  # all of its own were before


def test_steps_that_a_restart_took_back_do_not_count() -> None:
    first = process(0, 10, *((float(k), k) for k in range(1, 8)))  # a checkpoint at step 5, killed at 7
    second = process(0, 20, (15.0, 6), (16.0, 7), (17.0, 8))
    assert steps.restarted_batches([first, second], 2.0, 17.5, workers=4) == 4 * (8 - 2)
    assert steps.restarted_batches([first, second], 2.0, 15.5, workers=4) == 4 * (6 - 2)


def test_pauses_are_between_two_steps_of_one_process() -> None:
    of = process(0, 10, (1.0, 1), (2.0, 2), (2.5, 3), (7.5, 4), (8.5, 5))
    assert steps.longest_pause(of, 0.0, 9.0) == 5.0
    assert steps.longest_pause(of, 0.0, 3.0) == 1.0
    assert steps.longest_pause(of, 3.0, 8.0) == 0.0
    assert steps.usual_step(of) == 1.0


def test_workers_note_their_steps_and_half_a_line_is_left_out(tmp_path: Path) -> None:
    class Progress:
        rank, step = 3, 10

        class gossip:
            member = (3, 2)
            push_sum_weight = 1.25
            ledger = {(2, 1): [0.5, 0.75]}  # noqa: RUF012

    pulse = Pulse(str(tmp_path))
    before = time.time()
    pulse.on_start(Progress)  # type: ignore[arg-type]
    pulse.after_step(Progress)  # type: ignore[arg-type]
    [path] = tmp_path.glob("pulse-*")
    with open(path, "a") as file:
        file.write("[12345.6")
    [noted] = steps.read_steps(tmp_path)
    assert (noted.rank, noted.pid) == (3, os.getpid())
    [(at, step)] = noted.ends
    assert step == 10
    assert before - 1e-3 <= at <= time.time()
    account = json.loads((tmp_path / f"ledger-3-{os.getpid()}.json").read_text())
    assert account == {"member": [3, 2], "step": 10, "began": 1.25, "weight": 1.25, "peers": [[2, 1, 0.5, 0.75]]}


def test_torchft_counts_what_it_has_committed(tmp_path: Path) -> None:
    survivor = TorchFT(Launches(tmp_path / "l"), tmp_path / "it", [], 2, Path(sys.executable))
    (survivor.folder / "batches-0-7.jsonl").write_text("[1.0, 2]\n[2.0, 4]\n[3.0, 5]\n")
    (survivor.folder / "batches-1-8.jsonl").write_text("[1.1, 2]\n[4.0, 7]\n[5")
    assert survivor.batches(1.5, 4.5, set()) == 5
    version, reason = torchft_version(Path(sys.executable))
    assert "torchft" in (version or reason)


def test_goodput_is_relative_to_the_best_undisturbed_run_of_the_same_contender() -> None:
    def measured(name: str, every_s: float | None, batches: int) -> dict[str, object]:
        more = {"failures": 0 if every_s is None else 2, "restarts": 0, "longest_pause_s": None}
        return {"name": name, "every_s": every_s, "seconds": 10.0, "batches": batches, **more}

    rows = goodput.rows_of(
        [
            measured("elastic sgp", None, 100),
            measured("allreduce, checkpoint every 10 steps", None, 80),
            measured("allreduce, checkpoint every 50 steps", None, 90),
            measured("elastic sgp", 15.0, 95),
            measured("allreduce, checkpoint every 10 steps", 15.0, 45),
            measured("torchft", 15.0, 1),
        ],
        examples=32,
    )
    shares = [row["goodput"] for row in rows]
    assert shares == [1.0, pytest.approx(8 / 9), 1.0, 0.95, 0.5, None]
    assert rows[0]["rate"] == 320.0
    assert tables.goodput(rows).splitlines()[6] == (
        "| allreduce, checkpoint every 10 steps | 15 s | 2 | 0 | 144 | 50% | - |"
    )


def test_contenders_start_the_runs_they_say(tmp_path: Path) -> None:
    options, words = goodput.options_parser().parse_known_args(["--workers", "3", "model=mlp"])
    builders = goodput.contestants(["elastic sgp", "allreduce", "torchft"], options, words)
    assert list(builders) == [
        "elastic sgp",
        "allreduce, checkpoint every 10 steps",
        "allreduce, checkpoint every 50 steps",
        "torchft",
    ]
    launches = Launches(tmp_path / "launches")
    built = [build(launches, tmp_path / f"{number}") for number, build in enumerate(builders.values())]
    elastic, often, seldom, _ = built
    assert isinstance(elastic, Elastic)
    assert {"cluster.elastic=true", "cluster.workers_per_node=3", "model=mlp"} <= set(elastic.line())
    assert isinstance(often, Restarted)
    assert isinstance(seldom, Restarted)
    assert "checkpoint.every_steps=10" in often.line()
    assert "checkpoint.every_steps=50" in seldom.line()

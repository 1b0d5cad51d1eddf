"""``sgp logs``: the right worker's, and what comes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cli.commands import logs
from sgp_core.atomic_files import write_json
from tests.support.run_states import completed_run, failed_run, queued_run, running_run, slurm_run
from tests.support.sgp_command import Said

RUN = "a000000001"


def test_rank_0_by_default_and_the_culprit_of_a_failure(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    completed_run(tmp_path, RUN)
    failed_run(tmp_path, "f000000000")
    said = sgp("logs", RUN, "--runs-dir", tmp_path)
    assert (said.code, said.out.splitlines()) == (0, [f"line {number} of 0" for number in range(1, 21)])
    assert sgp("logs", "f0", "-n", "2", "--runs-dir", tmp_path).out == "line 19 of 2\nline 20 of 2\n"
    assert sgp("logs", RUN, "--rank", "3", "-n", "1", "--runs-dir", tmp_path).out == "line 20 of 3\n"


def test_all_ranks_are_told_apart(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    completed_run(tmp_path, RUN)
    said = sgp("logs", RUN, "--rank", "all", "--lines", "1", "--runs-dir", tmp_path)
    assert said.out.splitlines() == [f"[{rank}] line 20 of {rank}" for rank in range(4)]
    told = sgp("logs", RUN, "--rank", "all", "--lines", "1", "--json", "--runs-dir", tmp_path).json
    assert [(log["rank"], log["lines"]) for log in told["logs"]] == [
        (rank, [f"line 20 of {rank}"]) for rank in range(4)
    ]


def test_an_earlier_attempt(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    folder = completed_run(tmp_path, RUN)
    second = folder / "logs" / "attempt-2"
    second.mkdir()
    (second / "7_0_log.out").write_text("again\n")
    assert sgp("logs", RUN, "--runs-dir", tmp_path).out == "again\n"
    assert sgp("logs", RUN, "--attempt", "1", "-n", "1", "--runs-dir", tmp_path).out == "line 20 of 0\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--rank", "4"], "has ranks 0 to 3; or all"),
        (["--rank", "first"], "has ranks 0 to 3; or all"),
        (["--attempt", "2"], "has attempts 1"),
        (["--follow", "--json"], "--follow"),
    ],
)
def test_what_is_not_there(options: list[str], told: str, tmp_path: Path, sgp: Callable[..., Said]) -> None:
    completed_run(tmp_path, RUN)
    said = sgp("logs", RUN, *options, "--runs-dir", tmp_path)
    assert said.code == 2
    assert told in said.err


def test_a_run_that_waits_has_no_log(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    queued_run(tmp_path, RUN)
    said = sgp("logs", RUN, "--runs-dir", tmp_path)
    assert (said.code, said.err) == (2, f"sgp: {RUN} has not been started\n")


def test_following_ends_with_the_run(tmp_path: Path, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LOOK_S", 0.02)
    folder = running_run(tmp_path, RUN)
    log = folder / "logs" / "attempt-1" / "1_0_log.out"

    def go_on() -> None:
        with open(log, "a") as file:
            for part in ("more", " of 0\n", "the e"):
                time.sleep(0.2)
                file.write(part)
                file.flush()
            write_json(folder / "summary.json", {"run_id": RUN, "status": "completed"})
            file.write("nd")

    later = threading.Thread(target=go_on)
    later.start()
    said = sgp("logs", RUN, "--follow", "--lines", "1", "--runs-dir", tmp_path)
    later.join()
    assert said.out == "line 20 of 0\nmore of 0\nthe end\n"


def test_following_goes_on_when_slurm_starts_the_job_again(
    tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_LOOK_S", 0.02)
    slurm("answers")
    folder = slurm_run(tmp_path, RUN, "1003", "preempted")  # back in the queue
    first = folder / "logs" / "attempt-1"

    def go_on() -> None:
        time.sleep(0.3)
        (folder / "logs" / "attempt-2").mkdir()
        with open(first / "1003_0_log.out", "a") as file:
            file.write("second attempt\n")
        summary = folder / "summary.json"
        write_json(summary, {**json.loads(summary.read_text()), "status": "completed"})

    later = threading.Thread(target=go_on)
    later.start()
    said = sgp("logs", RUN, "--follow", "-n", "0", "--runs-dir", tmp_path)
    later.join()
    assert said.out == "second attempt\n"


def test_a_log_commands_no_terminal(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    folder = completed_run(tmp_path, RUN)
    [log] = folder.glob("logs/attempt-1/*_0_log.out")
    log.write_bytes(b"a\tb \x1b]0;title\x07\x1b[2J\xc2\x9b31m red\rover\n\xff\n")
    said = sgp("logs", RUN, "--runs-dir", tmp_path)
    assert said.out == "a\tb \\x1b]0;title\\x07\\x1b[2J\\x9b31m red\\rover\n\N{REPLACEMENT CHARACTER}\n"

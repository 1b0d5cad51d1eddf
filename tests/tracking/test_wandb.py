"""Weights & Biases mirrors the record, each step once, and its troubles are not the run's."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sgp_core.tasks.kinds import task_kind_of
from sgp_core.tracking import JsonlTracker, Row, WandbTracker, mirror, read_rows
from sgp_core.tracking import wandb as module
from sgp_core.tracking.fragments import Fragments
from sgp_core.tracking.names import dashboard_numbers, dashboard_numbers_of_rank
from tests.support.wandb_files import stored
from tests.support.wandb_server import wandb_server
from tests.support.workers import _CONTEXT, run_workers


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """No account: no keys in the environment, an empty home."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def server(monkeypatch):
    """A server on which we have an account; wandb reads where it is when it starts."""
    import wandb

    wandb.teardown()
    with wandb_server() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        yield running
        wandb.teardown()


def row(step: int, split: str = "train") -> Row:
    times = {"step_time_ms": 5.0, "compute_time_ms": 3.0, "comm_time_ms": 1.5}
    scores = {"accuracy": 1 - 1 / step, "consensus_distance": 0.1} if split == "val" else {"consensus_distance": None}
    return {"step": step, "epoch": step / 4, "split": split, "loss": 1 / step, "lr": 0.1, **times, **scores}


def log(trackers: list[Any], steps: range) -> None:
    """Log training rows, and a validation row every fourth step."""
    for step in steps:
        for split in ("train", "val") if step % 4 == 0 else ("train",):
            for tracker in trackers:
                tracker.log(row(step, split))


def attempt(directory: Path, after: int, upto: int, status: str, **options: Any) -> WandbTracker:
    """Train from one step to another, in a run that has been trained up to at least the first."""
    mirror = WandbTracker("run7", directory, scores=task_kind_of("digits").metrics, **options)
    trackers = [JsonlTracker(directory / "metrics.jsonl"), mirror]
    for tracker in trackers:
        tracker.resume(after)
    log(trackers, range(after + 1, upto + 1))
    best = row(4, "val") if upto >= 4 else None
    for tracker in trackers:
        tracker.finish(status, {"final": row(upto, "val"), "best": best})
    return mirror


def expected(record: Path, names: Callable[[Row], dict[str, float]] = dashboard_numbers) -> list[dict[str, float]]:
    """Return the lines that a mirror of ``record`` has: one a step."""
    lines: dict[int, dict[str, float]] = {}
    for one in read_rows(record):
        lines.setdefault(one["step"], {}).update(names(one))
    return [line for _, line in sorted(lines.items())]


def own(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line without what W&B adds."""
    return {name: value for name, value in line.items() if not name.startswith("_")}


# -- real offline runs ------------------------------------------------------------------------------------------------
def test_a_run_requeued_twice_has_every_step_once(tmp_path):
    for name in ("model.safetensors", "model.json"):
        (tmp_path / name).write_text("{}")
    config = {
        "experiment": {"algorithm": {"name": "sgp", "overlap_steps": 1}, "seed": 3, "world_size": 2},
        "provenance": {"git": {"sha": "abc"}},
    }
    options = {"config": config, "group": "sweep", "tags": ["a"], "name": "nice", "notes": "why", "artifact": True}
    for after, upto, status in ((0, 7, "preempted"), (4, 10, "preempted"), (8, 13, "completed")):
        mirror = attempt(tmp_path, after, upto, status, **options)
        assert mirror.sync_command == f"wandb sync {tmp_path}/wandb/offline-run-*"
        assert len(Fragments(tmp_path, "run7").current()) == 1
    assert not (tmp_path / "wandb" / "replaced").exists()
    assert Fragments(tmp_path, "run7").state() == {"rows": len(read_rows(tmp_path / "metrics.jsonl")), "url": None}

    seen = stored(tmp_path)
    assert [line["_step"] for line in seen["lines"]] == list(range(1, 14))
    assert [own(line) for line in seen["lines"]] == expected(tmp_path / "metrics.jsonl")
    run = seen["run"]
    assert (run["display_name"], run["run_group"], run["tags"], run["notes"]) == ("nice", "sweep", ["a"], "why")
    shown = run["config"]["update"]
    assert (shown["algorithm"], shown["workers"], shown["seed"]) == ("sgp", 2, 3)
    assert shown["experiment"]["algorithm"]["overlap_steps"] == 1
    assert shown["provenance"]["git"]["sha"] == "abc"
    summary = seen["summary"]
    assert (summary["best/step"], summary["best/accuracy"], summary["final/step"]) == (4, 0.75, 13)
    assert summary["val/accuracy"] == {"last": 1 - 1 / 12, "max": 1 - 1 / 12}
    assert summary["val/loss"] == {"last": 1 / 12, "min": 1 / 12}
    assert (summary["status"], seen["exit"]) == ("completed", 0)
    assert {name for name, metric in seen["metrics"].items() if metric["options"].get("hidden")} == {"step", "epoch"}
    [artifact] = seen["artifacts"]
    assert (artifact["type"], artifact["name"]) == ("model", "model-run7")
    assert set(artifact["aliases"]) == {"latest", "step-13"}
    assert {one["path"] for one in artifact["manifest"]["contents"]} == {"model.safetensors", "model.json"}


def train_for_ever(directory: str, after: int, service: str | None = None) -> None:
    if service is not None:
        os.environ["WANDB_SERVICE"] = service
    trackers = [JsonlTracker(Path(directory) / "metrics.jsonl"), WandbTracker("run7", Path(directory), mode="offline")]
    for tracker in trackers:
        tracker.resume(after)
    for step in range(after + 1, 1_000_000):
        log(trackers, range(step, step + 1))
        time.sleep(0.01)


def test_killed_at_any_moment_and_resumed_it_has_every_step_once(tmp_path):
    record, fragments, checkpoint = tmp_path / "metrics.jsonl", Fragments(tmp_path, "run7"), 0
    for moment, more in (("before W&B is there", 0.0), ("while it writes", 0.7)):
        before = fragments.current()
        process = _CONTEXT.Process(target=train_for_ever, args=(str(tmp_path), checkpoint))
        process.start()
        while moment.startswith("before") and not (record.exists() and len(read_rows(record)) > 20):
            time.sleep(0.01)
        while not moment.startswith("before") and fragments.current() in ([], before):
            time.sleep(0.01)
        time.sleep(more)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert fragments.state() == {}
        checkpoint = read_rows(record)[-1]["step"] * 2 // 3
    attempt(tmp_path, checkpoint, checkpoint + 5, "completed")
    lines = stored(tmp_path)["lines"]
    assert [line["_step"] for line in lines] == list(range(1, checkpoint + 6))
    assert [own(line) for line in lines] == expected(record)


def test_a_killed_run_can_go_on_though_its_process_was_started_by_one_that_uses_wandb(tmp_path):
    import wandb

    wandb.teardown()
    with wandb.init(mode="offline", dir=str(tmp_path), id="other", settings={"silent": True}):
        inherited = os.environ["WANDB_SERVICE"]
        process = _CONTEXT.Process(target=train_for_ever, args=(str(tmp_path), 0, inherited))
        process.start()
        while not Fragments(tmp_path, "run7").current():
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    attempt(tmp_path, 0, 5, "completed")
    assert [line["_step"] for line in stored(tmp_path)["lines"]] == [1, 2, 3, 4, 5]


def test_the_record_of_a_run_that_is_over_can_be_mirrored_whole(tmp_path):
    log([JsonlTracker(tmp_path / "metrics.jsonl")], range(1, 10))
    WandbTracker("run7", tmp_path).replay("failed", {"final": None, "best": row(8, "val")})
    seen = stored(tmp_path)
    assert [own(line) for line in seen["lines"]] == expected(tmp_path / "metrics.jsonl")
    assert (seen["summary"]["status"], seen["exit"], seen["summary"]["best/step"]) == ("failed", 1, 8)


def train_mirrored(rank: int, directory: str) -> None:
    import torch
    import torch.distributed as dist

    from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment
    from sgp_core.training.loop import train

    rank = dist.get_rank()
    record = Path(directory) / ("metrics.jsonl" if rank == 0 else f"metrics-rank-{rank}.jsonl")
    mirror = WandbTracker("run7", Path(directory), record=record, rank=rank, mode="offline", group="g", name="n")
    trackers = [JsonlTracker(record), mirror]
    summary = train(
        Experiment.from_dict(
            {
                "model": {"name": "mlp"},
                "dataset": {"name": "digits"},
                "topology": {"name": "ring"},
                "algorithm": {"name": "sgp"},
                "optimizer": {"name": "sgd", "lr": 0.05},
                "schedule": {"name": "constant"},
                "training": {"epochs": 1, "max_steps": 12},
                "world_size": 2,
            }
        ),
        directory=Path(directory),
        device=torch.device("cpu"),
        evaluation=EvaluationConfig(),
        checkpoint=CheckpointConfig(),
        log_every=4,
        trackers=trackers,
    )
    for tracker in trackers:
        tracker.finish("completed", summary)


def test_every_worker_can_have_a_run_of_its_own(tmp_path):
    run_workers(2, train_mirrored, 0, str(tmp_path))
    main, other = stored(tmp_path), stored(tmp_path, "run7-rank1")
    assert [own(line) for line in main["lines"]] == expected(tmp_path / "metrics.jsonl")
    assert [own(line) for line in other["lines"]] == expected(
        tmp_path / "metrics-rank-1.jsonl", dashboard_numbers_of_rank
    )
    assert [line["_step"] for line in other["lines"]] == [4, 8, 12]
    assert all(line["train/loss"] != its["train/loss"] for line, its in zip(main["lines"], other["lines"], strict=True))
    assert all(line["gossip/push_sum_weight"] == 1.0 for line in other["lines"])
    assert (main["run"]["job_type"], other["run"]["job_type"]) == ("train", "rank")
    assert (other["run"]["display_name"], other["run"]["run_group"]) == ("n-rank1", "g")
    assert main["run"]["run_group"] == "g"
    assert "best/accuracy" not in other["summary"]


# -- a server ---------------------------------------------------------------------------------------------------------
def test_online_a_resumed_run_sends_what_the_server_lacks(tmp_path, monkeypatch, server):
    mirror = attempt(tmp_path, 0, 7, "preempted")
    assert mirror.sync_command is None
    attempt(tmp_path, 4, 10, "preempted")  # steps 5 to 7 are there already
    attempt(tmp_path, 9, 12, "preempted", mode="offline")  # a time without network
    attempt(tmp_path, 11, 14, "completed")
    run = server.runs["run7"]
    assert [line["_step"] for line in run.rows()] == list(range(1, 15))
    assert [own(line) for line in run.rows()] == expected(tmp_path / "metrics.jsonl")
    assert run.exit_code == 0
    assert Fragments(tmp_path, "run7").state()["url"].startswith(server.url)
    assert Fragments(tmp_path, "run7").current() == []


def test_without_network_the_whole_run_is_offline(tmp_path, monkeypatch, server, caplog):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(module, "_INIT_SECONDS", 1)
    mirror = attempt(tmp_path, 0, 5, "completed")
    [said] = [one.getMessage() for one in caplog.records if one.name == module.__name__]
    assert said.endswith("this run is written offline")
    assert mirror.sync_command is not None
    assert [own(line) for line in stored(tmp_path)["lines"]] == expected(tmp_path / "metrics.jsonl")


def test_the_private_flush_interval_still_exists():
    import wandb

    settings = module._settings(wandb, finish_timeout=7)
    assert settings.x_transaction_log_flush_interval == 1.0
    assert (settings.init_timeout, settings.finish_timeout, settings.console) == (20, 7, "off")
    assert settings.finish_timeout_raises


def log_to(url: str, directory: str) -> None:
    os.environ |= {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": url}
    mirror = attempt(Path(directory), 0, 5, "completed", finish_timeout_s=4)
    (Path(directory) / "said").write_text(f"{mirror.trouble}, {mirror.sync_command}")


def test_a_server_that_never_answers_holds_neither_the_end_nor_the_exit(tmp_path):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = _CONTEXT.Process(target=log_to, args=(url, str(tmp_path)))
        process.start()
        process.join(25)  # W&B alone takes 45 s
        assert process.exitcode == 0
    assert (tmp_path / "said").read_text() == "not finished after 4 s, None"
    assert Fragments(tmp_path, "run7").state() == {}


def test_a_server_that_dies_leaves_a_mirror_that_does_not_claim_to_be_whole(tmp_path, monkeypatch):
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        mirror = WandbTracker("run7", tmp_path, finish_timeout_s=2)
        trackers = [JsonlTracker(tmp_path / "metrics.jsonl"), mirror]
        for tracker in trackers:
            tracker.resume(0)
        log(trackers, range(1, 4))
        while mirror.url is None:
            time.sleep(0.01)
    log(trackers, range(4, 9))
    for tracker in trackers:
        tracker.finish("completed", {"final": None, "best": None})
    assert mirror.trouble is not None
    assert mirror.sync_command is None
    assert Fragments(tmp_path, "run7").state() == {}


# -- troubles ---------------------------------------------------------------------------------------------------------
class Run:
    """What the tracker uses of a run; ``trouble`` names the calls that fail."""

    starting_step = 0
    offline = True

    def __init__(self, directory: Path, trouble: str = "") -> None:
        self.dir = str(directory / "files")
        self.trouble = trouble
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.exit_code: int | None = None

    def define_metric(self, *_: object, **__: object) -> None:
        pass

    def mark_preempting(self) -> None:
        pass

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.trouble == "log":
            raise BrokenPipeError("service gone")
        self.logged.append({**values, "_step": step})

    def finish(self, exit_code: int) -> None:
        if self.trouble == "finish":
            raise TimeoutError("no answer")
        if self.trouble == "hang":
            threading.Event().wait(30)
        self.exit_code = exit_code


def fake(monkeypatch: pytest.MonkeyPatch, *outcomes: Run | Exception, delay: float = 0.0) -> list[dict[str, Any]]:
    """Put a stand-in in the place of wandb whose ``init`` has these outcomes; returns the arguments it got."""
    calls: list[dict[str, Any]] = []

    def init(**arguments: Any) -> Run:
        time.sleep(delay)
        outcome = outcomes[len(calls)]
        calls.append({**arguments, "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, [])})
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(init=init, Settings=SimpleNamespace, teardown=lambda: None)
    )
    return calls


def test_a_missing_package_costs_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker = WandbTracker("id", tmp_path)
    tracker.resume(0)
    tracker.log(row(1))
    tracker.finish("completed", {})
    assert not tracker.active
    assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 1


def test_no_network_means_offline_after_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    run = Run(tmp_path)
    calls = fake(monkeypatch, ConnectionError("timed out\nlong story"), run)
    tracker = WandbTracker("id", tmp_path)
    tracker.log(row(1))
    tracker.finish("completed", {})
    assert [call.get("mode") for call in calls] == [None, "offline"]
    assert [one["_step"] for one in run.logged] == [1]
    assert [one.getMessage() for one in caplog.records] == [
        "Weights & Biases cannot be reached (timed out); this run is written offline"
    ]


@pytest.mark.parametrize("trouble", ["log", "finish", "hang"])
def test_trouble_later_switches_the_mirror_off_after_one_warning(tmp_path, monkeypatch, caplog, trouble):
    fake(monkeypatch, Run(tmp_path, trouble))
    tracker = WandbTracker("id", tmp_path, finish_timeout_s=0.3)
    for step in (1, 2):
        tracker.log(row(step))
    tracker.finish("completed", {})
    tracker.finish("completed", {})
    assert not tracker.active
    assert len(caplog.records) == 1
    assert Fragments(tmp_path, "id").state() == {}
    assert tracker.trouble in ("service gone", "no answer", "not finished after 0.3 s")
    assert tracker.sync_command is None


def test_rows_do_not_wait_for_a_slow_start_and_keep_their_order(tmp_path, monkeypatch):
    run = Run(tmp_path)
    calls = fake(monkeypatch, run, delay=0.5)
    tracker = WandbTracker("id", tmp_path)
    tracker.resume(0)
    for step in range(1, 1001):
        tracker.log(row(step))
    assert calls == []  # all is logged, and nothing has started
    tracker.finish("completed", {})
    assert [one["_step"] for one in run.logged] == list(range(1, 1001))
    assert run.exit_code == 0
    assert {signal.SIGUSR1, signal.SIGUSR2} <= calls[0]["blocked"]


def test_nothing_starts_before_there_is_something_to_show(tmp_path, monkeypatch):
    calls = fake(monkeypatch)
    tracker = WandbTracker("id", tmp_path)
    tracker.resume(0)
    tracker.finish("failed", {})
    assert calls == []
    assert not tracker.active


def test_a_run_whose_first_row_takes_long_is_shown_before(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "_PATIENCE_SECONDS", 0.01)
    run = Run(tmp_path)
    calls = fake(monkeypatch, run)
    tracker = WandbTracker("id", tmp_path)
    tracker.resume(0)
    while not calls:
        time.sleep(0.01)
    tracker.finish("preempted", {})
    assert (run.logged, run.exit_code) == ([], 1)


def test_a_model_that_cannot_be_uploaded_is_no_reason_to_lose_the_rest(tmp_path, monkeypatch, caplog):
    run = Run(tmp_path)
    fake(monkeypatch, run)  # a stand-in without artifacts
    tracker = WandbTracker("id", tmp_path, artifact=True)
    tracker.log(row(1))
    tracker.finish("completed", {})
    assert run.exit_code == 0
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("mode", "environment"), [("disabled", None), (None, "disabled")])
def test_disabled_means_that_wandb_is_not_even_imported(tmp_path, monkeypatch, mode, environment):
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    calls = fake(monkeypatch)
    tracker = WandbTracker("id", tmp_path, mode=mode)
    tracker.resume(0)
    tracker.log(row(1))
    tracker.finish("completed", {})
    assert calls == []
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize(
    ("environment", "netrc", "mode", "passed"),
    [
        ({}, "", None, "offline"),
        ({}, "machine api.github.com login a password b\n", None, "offline"),
        ({}, "machine api.wandb.ai login user password secret\n", None, None),
        ({"WANDB_BASE_URL": "https://my.host"}, "machine my.host login user password secret\n", None, None),
        ({"WANDB_API_KEY": "k"}, "", None, None),
        ({"WANDB_MODE": "online"}, "", None, None),
        ({"WANDB_MODE": "online"}, "", "offline", "offline"),
        ({"WANDB_API_KEY": "k"}, "", "offline", "offline"),
    ],
)
def test_the_mode_is_the_users_else_the_environments_else_offline(
    tmp_path, monkeypatch, environment, netrc, mode, passed
):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".netrc").write_text(netrc)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    calls = fake(monkeypatch, Run(tmp_path))
    tracker = WandbTracker("id", tmp_path, mode=mode)
    tracker.log(row(1))
    tracker.finish("completed", {})
    assert calls[0].get("mode") == passed


def test_a_server_of_ones_own_is_known_from_wandb_login(tmp_path, monkeypatch):
    from sgp_core.tracking.account import has_account

    home = tmp_path / "home"
    (home / ".config" / "wandb").mkdir(parents=True)
    (home / ".netrc").write_text("machine my.host login user password secret\n")
    assert not has_account()
    (home / ".config" / "wandb" / "settings").write_text("[default]\nbase_url = https://my.host\n")
    assert has_account()

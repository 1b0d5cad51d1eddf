"""Weights & Biases mirrors every number, and its troubles are not the run's."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sgp_core.tracking import JsonlTracker, WandbTracker, read_rows
from sgp_core.tracking import wandb as module


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No account: no keys in the environment, an empty home."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


class Run:
    """What the tracker uses of a run; ``trouble`` names the calls that fail."""

    def __init__(self, trouble: str = "") -> None:
        self.trouble = trouble
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.exit_code: int | None = None
        self.offline = True

    def define_metric(self, *_: object, **__: object) -> None:
        pass

    def log(self, values: dict[str, Any]) -> None:
        if self.trouble == "log":
            raise BrokenPipeError("service gone")
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        if self.trouble == "finish":
            raise TimeoutError("no answer")
        if self.trouble == "hang":
            threading.Event().wait(60)
        self.exit_code = exit_code


def fake(monkeypatch: pytest.MonkeyPatch, *outcomes: Run | Exception) -> list[dict[str, Any]]:
    """Put a stand-in in the place of wandb whose ``init`` has these outcomes; returns the arguments it got."""
    calls: list[dict[str, Any]] = []

    def init(**arguments: Any) -> Run:
        outcome = outcomes[len(calls)]
        calls.append(arguments)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=SimpleNamespace))
    return calls


def stored(directory: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Read a run's offline files with W&B's own inspector: rows in the order logged, config, summary."""
    rows, config, summary = [], {}, {}
    for path in sorted(directory.glob("wandb/offline-run-*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        for line in subprocess.check_output(command, text=True).splitlines():
            record = json.loads(line)
            if record["type"] == "history":
                rows.append(record["history"]["item"])
            elif record["type"] == "run":
                config |= record["run"]["config"]["update"]
            elif record["type"] == "summary":
                summary |= record["summary"]["update"]
    return rows, config, summary


def test_every_number_of_metrics_jsonl_is_in_the_offline_file(tmp_path):
    import wandb

    record = JsonlTracker(tmp_path / "metrics.jsonl")
    config = {"model": {"name": "mlp"}, "provenance": {"git_sha": "abc"}}
    rows = [{"step": step, "epoch": step / 4, "split": "train", "loss": 1 / step, "lr": 0.1} for step in range(1, 9)]
    rows[3]["consensus_distance"] = None
    rows[5]["loss"] = math.nan
    rows.insert(4, {"step": 4, "epoch": 1.0, "split": "val", "loss": 0.3, "accuracy": 0.75})
    for part in (rows[:6], rows[6:]):  # the second is a resumed run: another fragment of the same id
        mirror = WandbTracker("run7", tmp_path, config=config, group="sweep", tags=["a"], name="nice")
        assert mirror.active
        for row in part:
            record.log(row)
            mirror.log(row)
        mirror.finish("completed", {"final": {"accuracy": 0.75}, "best": {"accuracy": 0.8}})
        assert not mirror.active
    wandb.teardown()

    mirrored, stored_config, summary = stored(tmp_path)
    for row, seen in zip(read_rows(tmp_path / "metrics.jsonl"), mirrored, strict=True):
        expected = {f"{row['split']}/{name}": row[name] for name in row if name not in ("step", "epoch", "split")}
        expected = {name: value for name, value in expected.items() if value is not None}
        assert {name: seen[name] for name in ("step", "epoch")} == {name: row[name] for name in ("step", "epoch")}
        assert {name: value for name, value in seen.items() if "/" in name} == expected
    assert stored_config["model.name"] == "mlp"
    assert stored_config["provenance.git_sha"] == "abc"
    assert (summary["best/accuracy"], summary["final/accuracy"], summary["status"]) == (0.8, 0.75, "completed")
    fragments = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in fragments] == ["run-run7.wandb"] * 2
    assert mirror.sync_command == f"wandb sync {tmp_path}/wandb/offline-run-*"


def test_the_private_flush_interval_still_exists():
    import wandb

    settings = module._settings(wandb)
    assert settings.x_transaction_log_flush_interval == 1.0
    assert (settings.init_timeout, settings.finish_timeout, settings.console) == (20, 30, "off")


def test_a_missing_package_costs_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker = WandbTracker("id", tmp_path)
    tracker.resume(0)
    tracker.log({"step": 1, "loss": 1.0})
    tracker.finish("completed", {})
    assert not tracker.active
    assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 1


def test_no_network_means_offline_after_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    calls = fake(monkeypatch, ConnectionError("timed out\nlong story"), Run())
    tracker = WandbTracker("id", tmp_path)
    assert tracker.active
    assert [call.get("mode") for call in calls] == [None, "offline"]
    assert [one.getMessage() for one in caplog.records] == [
        "Weights & Biases cannot be reached (timed out); this run is written offline"
    ]


@pytest.mark.parametrize("trouble", ["log", "finish", "hang"])
def test_trouble_later_switches_the_mirror_off_after_one_warning(tmp_path, monkeypatch, caplog, trouble):
    monkeypatch.setattr(module, "_FINISH_SECONDS", -9.9)
    fake(monkeypatch, Run(trouble))
    tracker = WandbTracker("id", tmp_path)
    for step in (1, 2):
        tracker.log({"step": step, "split": "train", "loss": 1.0})
    tracker.finish("completed", {})
    tracker.finish("completed", {})
    assert not tracker.active
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("environment", "netrc", "mode", "passed"),
    [
        ({}, "", None, "offline"),
        ({}, "machine api.github.com login a password b\n", None, "offline"),
        ({}, "machine api.wandb.ai login user password secret\n", None, None),
        ({"WANDB_BASE_URL": "https://my.host"}, "machine my.host login user password secret\n", None, None),
        ({"WANDB_API_KEY": "k"}, "", None, None),
        ({"WANDB_MODE": "online"}, "", None, None),
        ({"WANDB_MODE": "online"}, "", "disabled", "disabled"),
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
    calls = fake(monkeypatch, Run())
    WandbTracker("id", tmp_path, mode=mode)
    assert calls[0].get("mode") == passed


def test_a_run_is_described_once_and_marked_by_how_it_ended(tmp_path, monkeypatch):
    run = Run()
    calls = fake(monkeypatch, run)
    tracker = WandbTracker("id", tmp_path, config={"a": {"b": 1}}, group="g", tags=("x",), name="n", project="p")
    tracker.log({"step": 3, "epoch": 0.5, "split": "val", "accuracy": 0.5, "loss": None, "top5_accuracy": math.inf})
    tracker.finish("failed", {"final": None, "best": {"accuracy": 0.5}})
    wanted = {"id": "id", "resume": "allow", "group": "g", "tags": ["x"], "job_type": "train", "config": {"a.b": 1}}
    assert {name: calls[0][name] for name in wanted} == wanted
    assert run.logged == [{"step": 3, "epoch": 0.5, "val/accuracy": 0.5}]
    assert run.summary == {"best/accuracy": 0.5, "status": "failed"}
    assert run.exit_code == 1

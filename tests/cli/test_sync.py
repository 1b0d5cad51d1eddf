"""``sgp sync`` brings the record of runs to Weights & Biases: all of it, once, however they ended."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import typer

from launcher.cli.commands.sync import sync
from launcher.cli.sgp import CommandGroup
from launcher.config.schema import WandbOptions
from launcher.system.processes import this_process
from launcher.wandb.run import wandb_tracker
from sgp_core.tracking import read_rows
from sgp_core.tracking.names import dashboard_numbers, dashboard_numbers_of_rank
from tests.support.run_folders import make_rows, make_run, make_sweep
from tests.support.wandb_server import WandbServer, wandb_server

Sgp = Callable[..., tuple[int, str, str]]
ONE, TWO, SWEEP = "aa00000001", "bb00000002", "cc000003"


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account, an empty home, and the runs in the working directory."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server on which we have an account."""
    with wandb_server() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        yield running


@pytest.fixture
def sgp_sync(capsys: pytest.CaptureFixture[str]) -> Sgp:
    """Call ``sgp sync`` in this process."""
    app = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)
    app.command()(sync)
    app.callback()(lambda: None)

    def call(*arguments: str) -> tuple[int, str, str]:
        given = ["sync", *arguments]
        code = typer.main.get_command(app).main(args=given, prog_name="sgp", obj=given, standalone_mode=False)
        said = capsys.readouterr()
        return code or 0, said.out, said.err

    return call


def run(run_id: str, rows: int, status: str = "completed", *, tracker: str = "wandb", **options: Any) -> Path:
    """Write the folder of a run of two workers whose mirror never came to be."""
    folder = make_run(Path("runs"), run_id, rows=make_rows(rows), status=status, world_size=2)
    spec = json.loads((folder / "spec.json").read_text())
    spec["tracker"] = {"name": tracker, **asdict(WandbOptions(**options))}
    me = this_process()
    spec["attempt"] = {"number": 1, "launcher": {"pid": me.pid, "started": me.started, "host": os.uname().nodename}}
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def go_on(folder: Path, after: int, upto: int) -> None:
    """Train further, offline, as a worker does."""
    rows = make_rows(upto)
    kept = [row for row in rows if row["step"] <= after]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    mirror = wandb_tracker(json.loads((folder / "spec.json").read_text()), folder.absolute(), mode="offline")
    mirror.resume(after)
    for row in rows[len(kept) :]:
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        mirror.log(row)
    mirror.finish("completed", {"final": rows[-1], "best": None})


def check(
    server: WandbServer, run_id: str, record: Path, names: Callable[..., dict[str, float]] = dashboard_numbers
) -> None:
    """Check that the server has the record, each step once."""
    lines: dict[int, dict[str, float]] = {}
    for row in read_rows(record):
        lines.setdefault(row["step"], {}).update(names(row))
    seen = [{name: value for name, value in line.items() if name[0] != "_"} for line in server.runs[run_id].rows()]
    assert seen == [line for _, line in sorted(lines.items()) if line]


def test_a_sweep_is_uploaded_once_and_again_when_it_has_gone_on(server: WandbServer, sgp_sync: Sgp) -> None:
    whole, killed = run(ONE, 10), run(TWO, 20, "failed", per_rank=True)
    go_on(whole, 0, 12)
    (killed / "metrics-rank-1.jsonl").write_text((killed / "metrics.jsonl").read_text())
    make_sweep(Path("runs"), SWEEP, [ONE, TWO])

    code, out, _ = sgp_sync(SWEEP)
    assert code == 0
    page = f"{server.url}/me/stochastic-gradient-push/runs"
    assert out.splitlines() == [
        f"{ONE}  sgp-ring-4w-seed0: uploaded, {page}/{ONE}",
        f"{TWO}  sgp-ring-4w-seed0: uploaded, {page}/{TWO}",
        f"{TWO}  sgp-ring-4w-seed0 (rank 1): uploaded, {page}/{TWO}-rank1",
    ]
    check(server, ONE, whole / "metrics.jsonl")
    check(server, TWO, killed / "metrics.jsonl")
    check(server, f"{TWO}-rank1", killed / "metrics-rank-1.jsonl", dashboard_numbers_of_rank)
    assert [server.runs[one].exit_code for one in (ONE, TWO)] == [0, 1]
    assert server.runs[TWO].settings["groupName"] == TWO

    before = len(server.operations)
    code, out, _ = sgp_sync("--all", "--json")
    assert [(answer["result"], answer["reason"]) for answer in json.loads(out)["runs"]] == [
        ("nothing", "up to date"),
        ("nothing", "up to date"),
    ]
    assert len(server.operations) == before

    go_on(whole, 8, 16)
    code, out, _ = sgp_sync(ONE[:3])
    assert "uploaded" in out
    check(server, ONE, whole / "metrics.jsonl")


def test_a_run_that_is_going_on_is_uploaded_as_far_as_it_is(server: WandbServer, sgp_sync: Sgp) -> None:
    folder = run(ONE, 12, "running")
    assert sgp_sync(ONE)[1] == f"{ONE}  sgp-ring-4w-seed0: nothing, running, and nothing is offline\n"
    go_on(folder, 0, 12)
    for _ in range(2):
        assert "uploaded" in sgp_sync(ONE)[1]
    check(server, ONE, folder / "metrics.jsonl")


def test_without_an_account_one_sentence_says_so(sgp_sync: Sgp) -> None:
    run(ONE, 4, "failed")
    code, out, err = sgp_sync("--all")
    assert (code, out) == (2, "")
    assert err == "sgp: there is no Weights & Biases account here: set WANDB_API_KEY or run `wandb login`\n"
    code, out, _ = sgp_sync("--all", "--dry-run")
    assert (code, out) == (0, f"{ONE}  sgp-ring-4w-seed0: due, rebuilt first\n")
    assert not Path(f"runs/{ONE}/wandb").exists()


def test_what_there_is_no_need_to_upload_needs_no_account(sgp_sync: Sgp) -> None:
    run(ONE, 4, tracker="none")
    run(TWO, 4, mode="disabled")
    damaged = make_run(Path("runs"), "dd00000004")
    (damaged / "spec.json").write_text('{"experiment": {"world_size": 2}, "tracker": 3')
    code, out, _ = sgp_sync("--all", "--json")
    assert code == 0
    reasons = {answer["run_id"]: answer["reason"] for answer in json.loads(out)["runs"]}
    assert reasons == {ONE: "not mirrored", TWO: "not mirrored", "dd00000004": "its spec.json cannot be read"}


def test_a_refusal_is_a_failure(server: WandbServer, sgp_sync: Sgp) -> None:
    run(ONE, 4, "failed")
    server.refuses = True
    code, out, _ = sgp_sync(ONE)
    assert code == 1
    assert out.startswith(f"{ONE}  sgp-ring-4w-seed0: failed, wandb sync: ")
    server.refuses = False
    assert sgp_sync(ONE)[0] == 0


def test_one_says_which_runs_are_meant(sgp_sync: Sgp) -> None:
    run(ONE, 4)
    for arguments, part in (([], "give --all"), ([ONE, "--all"], "--all"), (["zz"], "no run or sweep 'zz'")):
        code, _, err = sgp_sync(*arguments)
        assert code == 2
        assert part in err

"""``sgp resume``: runs go on as they were asked for, and only those that can."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.train import main as sgp_train
from launcher.config.make_plan import make_plan
from launcher.config.run_plan import RunPlan
from launcher.config.trust import sign
from launcher.runs.find import read_runs
from launcher.runs.resumption import plan_to_resume
from launcher.runs.run_folder import RunFolder
from launcher.runs.sweep import as_sweep, record_sweep
from sgp_core.atomic_files import read_json, write_json
from tests.support.command_line import composed
from tests.support.run_states import completed_run, elsewhere_run, failed_run, queued_run, running_run
from tests.support.sgp_command import Said

Sgp = Callable[..., Said]

TRAINED = ("tracker=none", "topology=complete", "training.max_steps=5", "checkpoint.every_steps=2", "log_every=1")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def planned(*overrides: str, status: str = "failed") -> RunPlan:
    """Write the folder of a run of two steps that has ended before the first, and return its plan."""
    plan = make_plan(composed("cluster=inline", *TRAINED, "training.max_steps=2", *overrides))
    write(plan, status)
    return plan


def write(plan: RunPlan, status: str) -> None:
    folder = RunFolder(plan.run_dir)
    folder.path.mkdir(parents=True, exist_ok=True)
    attempt = {"number": 1, "launcher": None, "cuda_visible_devices": None}
    write_json(folder.spec, sign({**plan.spec(), "attempt": attempt}))
    write_json(folder.summary, {"run_id": plan.run_id, "name": plan.name, "status": status, "steps": 0})


def damage(plan: RunPlan, **values: Any) -> None:
    spec = RunFolder(plan.run_dir).spec
    write_json(spec, sign({**(read_json(spec) or {}), **values}))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- on this machine --------------------------------------------------------------------------------------------------
def test_a_sweep_that_failed_goes_on_from_its_checkpoints(work: Path, sgp: Sgp) -> None:
    failing = ("debug.fail_rank=0", "debug.fail_step=4", "debug.anomaly=true")
    assert sgp_train(["-m", "cluster=inline", "seed=1,2", *TRAINED, *failing]) == 1
    os.rename("runs", "moved")
    [sweep] = os.listdir("moved/sweeps")
    asked = contents(work / "moved" / "sweeps")

    said = sgp("resume", sweep, "--runs-dir", "moved")
    assert said.code == 0, said.err
    assert said.out.startswith("2 runs, 2 failed; 2 to resume\n")
    assert said.out.endswith("\n2 of 2 runs ok\n")
    assert contents(work / "moved" / "sweeps") == asked
    assert not (work / "runs").exists()
    for run in read_runs(work / "moved", [point["run_id"] for point in json.loads(*asked.values())["points"]]):
        assert (run.state, run.step, run.attempts, run.sweep) == ("completed", 5, [1, 2], sweep)
        kept = {"anomaly": True, "timeline_steps": 0}
        assert run.spec["debug"] == {**kept, "fail_rank": None, "fail_step": 1, "fail_how": "raise"}
        assert run.spec["provenance"]["command"] == f"sgp resume {sweep} --runs-dir moved"
        rows = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
        assert [row["step"] for row in rows if row["split"] == "train"] == [1, 2, 3, 4, 5]

    before = contents(work)
    again = sgp("resume", sweep, "--runs-dir", "moved")
    assert (again.code, again.out) == (0, "nothing to resume: 2 runs, 2 completed\n")
    assert contents(work) == before


def test_as_json_there_is_nothing_but_json(work: Path, sgp: Sgp) -> None:
    plan = planned()
    said = sgp("resume", plan.run_id, "--json")
    told = {"run_id": plan.run_id, "name": plan.name, "state": "completed", "result": "resumed"}
    assert (said.code, said.json) == (0, {"exit_code": 0, "runs": [told]})
    assert f"{plan.name} ({plan.run_id}): completed, 2 steps" in said.err


def test_what_can_be_resumed_is_when_something_else_cannot(work: Path, sgp: Sgp) -> None:
    plans = as_sweep([planned(f"seed={seed}") for seed in range(4)])
    for plan, status in zip(plans, ("failed", "cancelled", "preempted", "failed"), strict=True):
        write(plan, status)
    record_sweep(plans, ["sgp-train", "-m"])
    RunFolder(plans[0].run_dir).spec.write_text("{")
    damage(plans[3], cluster=3)
    said = sgp("resume", str(plans[0].sweep), "--state", "failed,cancelled", "--json")
    assert said.code == 1
    assert [answer["state"] for answer in said.json["runs"]] == ["failed", "completed", "failed"]
    assert [answer["result"] for answer in said.json["runs"]][:2] == ["its spec.json cannot be read", "resumed"]
    assert f"sgp: {plans[0].run_id} cannot be resumed: its spec.json cannot be read\n" in said.err
    assert RunFolder(plans[2].run_dir).status() == "preempted"


def test_a_run_that_fails_again_says_so_with_its_exit_code(work: Path, sgp: Sgp) -> None:
    plan = planned()
    (plan.run_dir / "checkpoints").write_text("in the way")
    said = sgp("resume", plan.run_id)
    assert (said.code, RunFolder(plan.run_dir).status()) == (1, "failed")


def test_complete_and_live_runs_are_left_alone(tmp_path: Path, sgp: Sgp) -> None:
    made = [make(tmp_path, f"{n}000000000") for n, make in enumerate((completed_run, running_run, queued_run))]
    before = contents(tmp_path)
    said = sgp("resume", *(path.name for path in made), "--runs-dir", tmp_path)
    assert (said.code, said.err) == (0, "")
    assert said.out == "nothing to resume: 3 runs, 1 queued, 1 running, 1 completed\n"
    assert contents(tmp_path) == before


# -- what cannot be resumed -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"schema_version": 0}, "its spec.json is of version 0, not 1"),
        ({"experiment": [1]}, "its spec.json is damaged: "),
        ({"cluster": {"name": "cloud"}}, "unknown cluster 'cloud'; known: inline, local, simulator, slurm"),
        ({"cluster": {"name": "inline", "nodes": 2}}, "its spec.json is damaged: 2 workers are not 1"),
        ({"cluster": {"name": "inline", "slots": 2}}, "cluster has no option 'slots'"),
        ({"log_every": 0}, "log_every=0: must be at least 1"),
        ({"snapshot": "snapshots/0123456789"}, "its copy of the code, snapshots/0123456789, is gone; "),
    ],
)
def test_a_folder_that_does_not_say_what_to_do(values: dict[str, Any], why: str, work: Path, sgp: Sgp) -> None:
    plan = planned()
    damage(plan, **values)
    before = contents(work)
    said = sgp("resume", plan.run_id)
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert said.err.startswith(f"sgp: {plan.run_id} cannot be resumed: {why}")
    assert contents(work) == before


def test_settings_that_were_changed_are_another_run(work: Path, sgp: Sgp) -> None:
    plan, other = planned(), planned("seed=7")
    damage(plan, experiment=other.experiment.to_dict())
    said = sgp("resume", plan.run_id)
    assert (said.code, f"its settings make run {other.run_id} now" in said.err) == (2, True)


def test_runs_that_nobody_can_check_or_find(tmp_path: Path, sgp: Sgp) -> None:
    elsewhere = elsewhere_run(tmp_path, "a000000000")
    said = sgp("resume", elsewhere.name, "--runs-dir", tmp_path)
    assert (said.code, "cannot be resumed: it is watched on elsewhere, so it was not checked" in said.err) == (2, True)
    (tmp_path / "sweeps" / "abcd0000").mkdir(parents=True)
    points = [{"run_id": "b000000000", "name": "gone"}, {"run_id": failed_run(tmp_path, "c000000000").name}]
    write_json(tmp_path / "sweeps" / "abcd0000" / "sweep.json", {"points": points})
    said = sgp("resume", "abcd0000", "--runs-dir", tmp_path)
    assert said.code == 2
    assert said.err.startswith("sgp: b000000000 cannot be resumed (nor can 1 more): it has no folder: ")


# -- where it goes on -------------------------------------------------------------------------------------------------
def test_a_run_goes_on_where_its_folder_and_its_code_are_now(work: Path) -> None:
    plan = dataclasses.replace(planned(), snapshot=str(work / "runs" / "snapshots" / "0123456789"))
    damage(plan, snapshot=plan.snapshot)
    (work / "runs" / "snapshots" / "0123456789").mkdir(parents=True)
    os.rename("runs", "moved")
    [run] = read_runs(Path("moved"), [plan.run_id])
    found = plan_to_resume(run)
    assert found.run_dir == work / "moved" / plan.run_id
    assert found.snapshot == str(work / "moved" / "snapshots" / "0123456789")
    assert dataclasses.replace(found, run_dir=plan.run_dir, snapshot=plan.snapshot) == plan


def test_options_that_did_not_exist_then_have_their_defaults(work: Path) -> None:
    plan = planned("cluster=local", "cluster.workers_per_node=1")
    damage(
        plan, cluster={key: value for key, value in plan.cluster.to_dict().items() if key != "process_group_timeout_s"}
    )
    [run] = read_runs(work / "runs", [plan.run_id])
    assert plan_to_resume(run) == plan


SBATCH = """#!/bin/sh
echo "$(grep -c '^#SBATCH --array=0-1' "$1") $(grep '^#SBATCH --output' "$1")" >> "{asked}"
echo "Submitted batch job $((2000 + $(wc -l < "{asked}")))"
"""


@pytest.fixture
def sbatch(slurm: Callable[[str], Path]) -> Path:
    """Put a SLURM on PATH that takes jobs; return the file that says which."""
    commands = slurm("answers").parent
    (commands / "sbatch").write_text(SBATCH.format(asked=commands / "submitted"))
    (commands / "srun").write_text("#!/bin/sh\nexit 1\n")  # submitit wants to see it
    for name in ("sbatch", "srun"):
        (commands / name).chmod(0o755)
    return commands / "submitted"


def test_on_slurm_a_sweep_is_one_array_and_others_are_jobs_of_their_own(work: Path, sgp: Sgp, sbatch: Path) -> None:
    on_slurm = ("cluster=slurm", "cluster.workers_per_node=1")
    swept = as_sweep([planned(*on_slurm, f"seed={seed}") for seed in (1, 2)])
    record_sweep(swept, ["sgp-train", "-m"])
    for plan in swept:
        write(plan, "preempted")
    alone, waits = planned(*on_slurm, "seed=3"), planned(*on_slurm, "seed=4", status="preempted")
    write_json(RunFolder(waits.run_dir).job, {"job_id": "1003", "attempt": 1})
    said = sgp("resume", str(swept[0].sweep), alone.run_id, waits.run_id)
    assert said.code == 0, said.err
    assert (
        f"submitted job 2001 (array of 2): sgp status {swept[0].sweep}\n  2001_0  seed=1\n  2001_1  seed=2\n"
        in said.out
    )
    assert f"submitted job 2002 ({alone.name}): sgp status {alone.run_id}\n" in said.out
    array, single = sbatch.read_text().splitlines()
    assert (array[0], f"/sweeps/{swept[0].sweep}/slurm/" in array) == ("1", True)
    assert (single[0], f"/{alone.run_id}/logs/attempt-1/" in single) == ("0", True)
    jobs = [(read_json(RunFolder(plan.run_dir).job) or {})["job_id"] for plan in (*swept, alone, waits)]
    assert jobs == ["2001_0", "2001_1", "2002", "1003"]
    assert RunFolder(alone.run_dir).status() == "queued"


def test_slurm_refuses(work: Path, sgp: Sgp, sbatch: Path) -> None:
    plan = planned("cluster=slurm", "cluster.workers_per_node=1")
    (sbatch.parent / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    said = sgp("resume", plan.run_id)
    assert (said.code, "sbatch refused: invalid partition" in said.err) == (3, True)

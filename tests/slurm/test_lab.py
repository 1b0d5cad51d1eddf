"""The cluster of these tests behaves as SLURM does where it matters to a training job."""

from __future__ import annotations

from pathlib import Path

from tests.slurm.lab import Lab

_LIVE_ON = "trap : TERM; srun sleep 600"


def test_four_nodes_can_be_used_and_a_task_runs_on_each(lab: Lab) -> None:
    said = lab.run("srun", "-N4", "-n4", "sh", "-c", "echo $SLURMD_NODENAME $SLURM_PROCID")
    assert sorted(said.splitlines()) == ["127.0.0.1 0", "127.0.0.2 1", "127.0.0.3 2", "127.0.0.4 3"]


def test_elements_of_an_array_are_jobs_of_their_own(lab: Lab, tmp_path: Path) -> None:
    script = f"echo $SLURM_ARRAY_TASK_ID >{tmp_path}/$SLURM_ARRAY_TASK_ID; exit $SLURM_ARRAY_TASK_ID"
    job = lab.submit(script, "--array=0-2")
    assert lab.wait(f"{job}_0", "COMPLETED").exit_code == "0:0"
    assert lab.wait(f"{job}_2", "FAILED").exit_code == "2:0"
    lab.wait(f"{job}_1", "FAILED")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1", "2"]


def test_a_requeued_job_comes_back_and_knows_it(lab: Lab, tmp_path: Path) -> None:
    script = f'echo started >>{tmp_path}/starts; [ -n "$SLURM_RESTART_COUNT" ] && exit 7; sleep 600'
    job = lab.submit(script)
    lab.wait(job, "RUNNING")
    lab.run("scontrol", "requeue", job)
    assert lab.wait(job, "FAILED").exit_code == "7:0"
    assert lab.job(job).restarts == 1

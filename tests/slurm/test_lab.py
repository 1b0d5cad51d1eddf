"""The cluster of these tests behaves as SLURM does where it matters to a training job, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from launcher.system import processes
from tests.slurm.cluster import REPOSITORY
from tests.slurm.configuration import Settings
from tests.slurm.daemons import by_environment
from tests.slurm.lab import Lab
from tests.support.waiting import wait_until

_RAISE = """
import sys, time
from pathlib import Path
from launcher.system.processes import this_process
from tests.slurm.configuration import Settings
from tests.slurm.lab import Lab
from tests.support.waiting import wait_until
lab = Lab(Path(sys.argv[1]), Settings(nodes=1))
lab.up(watch=this_process())
lab.submit("sleep 600 & srun sleep 600", "--output=/dev/null")
while lab.run("squeue", "-h", "-o", "%T").strip() != "RUNNING":
    time.sleep(0.1)
print("up", flush=True)
time.sleep(600)
"""


def test_a_task_runs_on_each_of_four_nodes(lab: Lab) -> None:
    said = lab.run("srun", "-N4", "-n4", "sh", "-c", "echo $SLURMD_NODENAME $SLURM_PROCID")
    assert sorted(said.splitlines()) == ["127.0.0.1 0", "127.0.0.2 1", "127.0.0.3 2", "127.0.0.4 3"]


def test_elements_of_an_array_are_jobs_of_their_own(lab: Lab, tmp_path: Path) -> None:
    script = f"echo $SLURM_ARRAY_TASK_ID >{tmp_path}/$SLURM_ARRAY_TASK_ID; exit $SLURM_ARRAY_TASK_ID"
    job = lab.submit(script, "--array=0-2", "--output=/dev/null")
    assert lab.wait(f"{job}_0", "COMPLETED").exit_code == "0:0"
    assert lab.wait(f"{job}_2", "FAILED").exit_code == "2:0"
    assert lab.wait(f"{job}_1", "FAILED").exit_code == "1:0"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1", "2"]


@pytest.mark.parametrize("happening", ["requeue", "node_down"])
def test_a_job_comes_back_and_knows_it(lab: Lab, happening: str) -> None:
    job = lab.submit('[ "$SLURM_RESTART_COUNT" = 1 ] && exit 7; srun sleep 600', "-N4", "--output=/dev/null")
    wait_until(lambda: len(lab.tasks(job)) == 4)
    if happening == "requeue":
        lab.run("scontrol", "requeue", job)
    else:
        lab.node_down("127.0.0.3")
    ended = lab.wait(job, "FAILED")
    assert (ended.exit_code, ended.restarts) == ("7:0", 1)


def test_a_job_that_lost_a_task_ends_at_once(lab: Lab, tmp_path: Path) -> None:
    job = lab.submit(f"srun -K1 sleep 600; echo $? >{tmp_path}/code", "-N4", "--output=/dev/null")
    wait_until(lambda: len(lab.tasks(job)) == 4)
    lab.kill_task(job, 2)
    lab.wait(job, "COMPLETED")
    assert int((tmp_path / "code").read_text()) > 128


def test_nobody_notices_that_a_step_lost_its_keeper(lab: Lab) -> None:
    job = lab.submit("srun sleep 600", "-N4", "--output=/dev/null")
    wait_until(lambda: len(lab.tasks(job)) == 4)
    orphan = lab.tasks(job)[2]
    lab.kill_step(job, "127.0.0.3")
    assert lab.job(job).state == "RUNNING"
    assert processes.is_alive(orphan)
    lab.clear()
    assert not processes.is_alive(orphan)


def test_what_was_killed_is_repaired(lab: Lab) -> None:
    lab.kill_node("127.0.0.2")
    lab.kill_daemon("127.0.0.4")
    lab.repair()
    assert len(lab.run("srun", "-N4", "-n4", "hostname").splitlines()) == 4


def test_nothing_is_left_when_the_session_is_killed() -> None:
    folder = Path(tempfile.mkdtemp(prefix="sgp-slurm-", dir="/tmp"))
    with subprocess.Popen(
        [sys.executable, "-c", _RAISE, str(folder)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "up\n"
        mine = Lab(folder, Settings(nodes=1)).environment
        assert len(by_environment(**mine)) >= 5
        session.kill()
    wait_until(lambda: not by_environment(**mine) and not folder.exists())

"""A real SLURM of several nodes, for tests and by hand: ``python -m tests.slurm.lab up|down|status``.

Controller, node daemons, their key, state, spool and logs live in one private folder; nothing outside it is read or
written. It needs no root (but to install the packages), no cgroups and no names of hosts.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.system import processes
from launcher.system.processes import Process
from tests.slurm.cluster import REPOSITORY, Cluster
from tests.slurm.configuration import Settings
from tests.support.install import install
from tests.support.packages import ACCOUNTING, SLURM, Unavailable
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Job:
    """What SLURM knows of a job or of an element of an array."""

    state: str
    restarts: int
    exit_code: str
    """As SLURM writes it: ``exit code:signal``."""
    fields: Mapping[str, str]
    """Everything ``scontrol show job`` says."""


class Lab(Cluster):
    """A cluster with commands to submit jobs, and to kill tasks, daemons and nodes."""

    def submit(self, script: str, *options: str) -> str:
        """Submit a job script and return the job's id."""
        answer = self.run("sbatch", "--parsable", *options, stdin=f"#!/bin/bash\n{script}\n")
        return answer.strip().partition(";")[0]

    def job(self, job_id: str) -> Job:
        """Return what SLURM knows of a job, also of one that has ended."""
        line = self.run("scontrol", "show", "job", "-o", job_id).splitlines()[0]
        fields = dict(re.findall(r"(?:^| )([A-Z][\w/:]*)=(\S*)", line))
        return Job(fields["JobState"], int(fields["Restarts"]), fields["ExitCode"], fields)

    def wait(self, job_id: str, *states: str) -> Job:
        """Wait until a job is in one of the states."""
        job = self.job(job_id)

        def reached() -> bool:
            nonlocal job
            job = self.job(job_id)
            return job.state in states

        wait_until(reached, lambda: f"job {job_id} {' or '.join(states)} (it is {job.state}: {dict(job.fields)})")
        return job

    def script_of(self, job_id: str) -> str:
        """Return the script of a job as SLURM got it."""
        return self.run("scontrol", "write", "batch_script", job_id, "-")

    def tasks(self, job_id: str) -> dict[int, Process]:
        """Return the first process of every task (rank) of a job that lives."""
        found: dict[int, Process] = {}
        for process, environment in self._job_processes(SLURM_JOB_ID=self._number(job_id)):
            if "SLURM_STEP_ID" in environment:
                rank = int(environment["SLURM_PROCID"])
                found[rank] = min(process, found.get(rank, process))
        return found

    def kill_task(self, job_id: str, rank: int) -> None:
        """Kill a task of a job, as running out of memory would."""
        processes.send_signal(self.tasks(job_id)[rank], signal.SIGKILL)

    def kill_step(self, job_id: str, node: str, step: str = "0") -> None:
        """Kill the slurmstepd process of a job's step on a node; ``batch`` is the step of the script."""
        keepers = self._step_daemons(node, f"{self._number(job_id)}.{step}]")
        processes.kill(lambda: keepers)

    def kill_daemon(self, node: str) -> None:
        """Kill a node's daemon. Processes of jobs on the node go on."""
        self._daemons.stop([f"slurmd-{node}"], signal.SIGKILL)

    def kill_node(self, node: str) -> None:
        """Simulate a power failure of a node: end its daemon and all its processes at once, without notice."""
        self.kill_daemon(node)
        keepers = self._step_daemons(node)
        processes.kill(lambda: keepers)
        processes.kill(lambda: [process for process, _ in self._job_processes(SLURMD_NODENAME=node)])

    def _number(self, job_id: str) -> str:
        """Return the number of a job; an element of an array has one of its own."""
        return self.job(job_id).fields["JobId"]


def main() -> None:
    """Start a cluster for use by hand, or stop it."""
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.lab", description="SLURM on this machine.")
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("--folder", type=Path, default=REPOSITORY / ".slurm")
    parser.add_argument("--nodes", type=int, default=Settings.nodes)
    parser.add_argument("--cpus", type=int, default=Settings.cpus, help="of each node, as declared")
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd and mariadb, for sacct")
    parser.add_argument("--after", type=int, metavar="PID", help="first wait until this process has ended")
    given = parser.parse_args()
    try:
        _act(given)
    except Unavailable as reason:
        sys.exit(str(reason))


def _act(given: argparse.Namespace) -> None:
    lab = Lab(given.folder, Settings(nodes=given.nodes, cpus=given.cpus, accounting=given.accounting))
    watched = processes.find_process(given.after) if given.after is not None else None
    while watched is not None and processes.is_alive(watched):
        time.sleep(0.3)
    if given.action == "up":
        install(SLURM)
        if given.accounting:
            install(ACCOUNTING)
        _raise(lab)
        print(f"{given.nodes} nodes are ready. Tell SLURM's commands where:\n")
        print(f"  export SLURM_CONF={lab.environment['SLURM_CONF']}")
    elif given.action == "down":
        lab.down()
        shutil.rmtree(lab.folder, ignore_errors=True)
    else:
        print(lab.status())


def _raise(lab: Lab) -> None:
    fresh = not lab.runs
    try:
        lab.up()
    except Unavailable:
        if fresh:  # what is left is logs
            lab.down()
        raise


if __name__ == "__main__":
    main()

"""A real SLURM of several nodes on this machine: ``python -m tests.slurm.lab up|down|status``.

Controller, node daemons, their key, state, spool and logs live in one private folder; nothing outside it is read or
written. It needs no root (but to install the packages), no cgroups and no names of hosts.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import processes
from launcher.processes import Process
from tests.slurm.configuration import Settings, free_ports, node_names, slurm_conf, slurmdbd_conf
from tests.slurm.daemons import Daemons, by_environment
from tests.slurm.packages import Unavailable, install, program

_REPOSITORY = Path(__file__).resolve().parents[2]
_PATIENCE_S = 150.0
"""Long, because a busy machine has been seen to let daemons freeze for a minute."""
_LONGEST_FOLDER = 60
"""The sockets in it must have paths of less than 108 characters."""


@dataclass(frozen=True)
class Job:
    """What SLURM knows of a job or of an element of an array."""

    state: str
    restarts: int
    exit_code: str
    """As SLURM writes it: ``exit code:signal``."""
    fields: Mapping[str, str]
    """Everything ``scontrol show job`` says."""


class Lab:
    """A cluster in a folder. Objects on the same folder are the same cluster."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder.resolve()
        self.settings = settings or Settings()
        self._daemons = Daemons(self.folder / "run")
        if len(str(self.folder)) > _LONGEST_FOLDER:
            raise Unavailable(f"the folder's path must not be longer than {_LONGEST_FOLDER} characters: {self.folder}")

    @property
    def environment(self) -> dict[str, str]:
        """What tells SLURM's commands, and jobs, which cluster is meant."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return node_names(self.settings.nodes)

    # ---- the cluster as a whole

    def up(self, watch: Process | None = None) -> None:
        """Start what does not run and wait until every node can be used.

        Args:
            watch: take the cluster down, with its folder, when this process has ended, however it ended.
        """
        if not self._daemons.living():
            self._configure()
        if watch is not None:
            arguments = ["--folder", str(self.folder), "--watch", str(watch.pid)]
            self._start("watch", [sys.executable, "-m", "tests.slurm.lab", "down", *arguments])
        socket = self.folder / "munge.sock"
        self._start(
            "munged",
            [_program("munged"), "--foreground", "--force", "--num-threads=2", f"--key-file={self.folder}/munge.key"]
            + [f"--{name}-file={self.folder}/state/munged.{name}" for name in ("pid", "log", "seed")]
            + [f"--socket={socket}"],
        )
        self._until(socket.exists, "munged")
        if self.settings.accounting:
            self._start_accounting()
        self._start("slurmctld", [_program("slurmctld"), "-D"])
        for node in self.nodes:
            self._start_node(node)
        self._until(self._usable, "slurmctld", *map(_daemon, self.nodes))

    def repair(self) -> None:
        """Start what was killed, and use again what was declared broken."""
        for node in set(self.nodes) - set(self._usable_nodes()):
            self.node_up(node)
        self.up()

    def down(self) -> None:
        """End every job and every daemon."""
        watch = self._daemons.alive("watch")
        if watch is not None and watch.pid != os.getpid():
            self._daemons.stop(["watch"])
        if self._daemons.alive("slurmctld"):
            with contextlib.suppress(subprocess.SubprocessError):
                self.clear()
        order = [name for name in self._daemons.living() if name.startswith("slurmd-")]
        for names in (order, ["slurmctld"], ["slurmdbd"], ["mariadbd"], ["munged"]):
            self._daemons.stop(names)
        self._kill_jobs()

    def clear(self, patience_s: float = 60.0) -> None:
        """End every job at once, without the time to save."""
        end = time.monotonic() + patience_s
        while self.run("squeue", "-h").strip():
            if time.monotonic() > end:
                raise TimeoutError(f"jobs do not end: {self.run('squeue')}")
            self.run("scancel", "--user", getpass.getuser(), check=False)
            time.sleep(0.1)
            self._kill_jobs()

    def run(self, *command: str, check: bool = True, timeout: float = 60.0, stdin: str | None = None) -> str:
        """Run a command, such as ``squeue``, on this cluster and return what it printed."""
        done = subprocess.run(
            command, env=self._env(), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def status(self) -> str:
        """Return what a person wants to know: nodes and jobs, or that there is none."""
        if not self._daemons.alive("slurmctld"):
            return f"no SLURM runs in {self.folder}"
        return f"{self.run('sinfo', '-N', '-p', 'main', '-o', '%N %T')}\n{self.run('squeue')}".strip()

    # ---- jobs

    def submit(self, script: str, *options: str) -> str:
        """Submit a job script and return the job's id."""
        answer = self.run("sbatch", "--parsable", *options, stdin=f"#!/bin/bash\n{script}\n")
        return answer.strip().partition(";")[0]

    def job(self, job_id: str) -> Job:
        """Return what SLURM knows of a job, also of one that has ended."""
        line = self.run("scontrol", "show", "job", "-o", job_id).splitlines()[0]
        fields = dict(re.findall(r"(?:^| )([A-Z][\w/:]*)=(\S*)", line))
        return Job(fields["JobState"], int(fields["Restarts"]), fields["ExitCode"], fields)

    def wait(self, job_id: str, *states: str, timeout: float = 60.0) -> Job:
        """Wait until a job is in one of the states."""
        end = time.monotonic() + timeout
        while (job := self.job(job_id)).state not in states:
            if time.monotonic() > end:
                raise TimeoutError(f"job {job_id} is {job.state}, not {' or '.join(states)}: {dict(job.fields)}")
            time.sleep(0.1)
        return job

    def script_of(self, job_id: str) -> str:
        """Return the script of a job as SLURM got it."""
        return self.run("scontrol", "write", "batch_script", job_id, "-")

    # ---- what may happen to a job

    def tasks(self, job_id: str, node: str | None = None) -> dict[int, Process]:
        """Return the first process of every task (rank) of a job that lives."""
        found: dict[int, Process] = {}
        for process, environment in self._job_processes(job_id, node):
            if "SLURM_PROCID" in environment and "SLURM_STEP_ID" in environment:
                rank = int(environment["SLURM_PROCID"])
                found[rank] = min(process, found.get(rank, process))
        return found

    def kill_task(self, job_id: str, rank: int) -> None:
        """Kill a task of a job, as running out of memory would."""
        processes.send(self.tasks(job_id)[rank], signal.SIGKILL)

    def kill_step(self, job_id: str, node: str, step: str = "0") -> None:
        """Kill SLURM's own process that looks after a job's step on a node; ``batch`` is the step of the script."""
        for process in self._step_daemons(node, f"{self.job(job_id).fields['JobId']}.{step}]"):
            processes.send(process, signal.SIGKILL)

    def kill_node(self, node: str) -> None:
        """Let a node lose its power: its daemon and everything on it are gone at once, and nobody is told."""
        self._daemons.stop([_daemon(node)], signal.SIGKILL)
        steps = self._step_daemons(node)
        processes.kill(lambda: steps)
        processes.kill(lambda: [process for process, _ in self._job_processes(node=node)])

    def kill_daemon(self, node: str) -> None:
        """Kill a node's daemon; what runs on the node runs on."""
        self._daemons.stop([_daemon(node)], signal.SIGKILL)

    def node_down(self, node: str) -> None:
        """Declare a node broken: its jobs are queued again, without a signal to save."""
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def node_up(self, node: str) -> None:
        """Start a node's daemon if it was killed, and let the node be used again."""
        self._start_node(node)
        self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self._until(lambda: node in self._usable_nodes(), _daemon(node))

    # ---- inner workings

    def _env(self) -> dict[str, str]:
        """Return an environment that says nothing of another SLURM."""
        foreign = ("SLURM", "SBATCH_", "SQUEUE_", "SCANCEL_", "SINFO_", "SRUN_", "SALLOC_", "SACCT_", "SCONTROL_")
        mine = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**mine, **self.environment}

    def _configure(self) -> None:
        for name in ("state", "spool", "log", "run"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir()
        port = free_ports(self.settings.nodes + 2)
        files = {"slurm.conf": slurm_conf(self.folder, self.settings, port).encode(), "munge.key": os.urandom(1024)}
        if self.settings.accounting:
            files["slurmdbd.conf"] = slurmdbd_conf(self.folder, port).encode()
        for name, content in files.items():
            (self.folder / name).unlink(missing_ok=True)
            with open(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)

    def _start_accounting(self) -> None:
        database, socket = self.folder / "database", self.folder / "database.sock"
        plain = ["--no-defaults", f"--user={getpass.getuser()}", f"--datadir={database}"]
        if not (database / "mysql").is_dir():
            private = ["--auth-root-authentication-method=socket", f"--auth-root-socket-user={getpass.getuser()}"]
            self.run("mariadb-install-db", *plain, *private, "--skip-test-db", timeout=_PATIENCE_S)
        self._start("mariadbd", [_program("mariadbd"), *plain, f"--socket={socket}", "--skip-networking"])
        self._until(lambda: self._answers("mariadb", "--no-defaults", "-S", str(socket), "-e", "select 1"), "mariadbd")
        self._start("slurmdbd", [_program("slurmdbd"), "-D"])
        self._until(lambda: self._answers("sacctmgr", "-n", "list", "cluster"), "slurmdbd")
        if not self.run("sacctmgr", "-n", "list", "cluster", "format=cluster").strip():
            self.run("sacctmgr", "-i", "add", "cluster", "lab")

    def _start(self, name: str, command: list[str]) -> None:
        environment = {
            **self._env(),
            "MYSQL_UNIX_PORT": str(self.folder / "database.sock"),
            "PYTHONPATH": str(_REPOSITORY),
        }
        self._daemons.start(name, command, environment)

    def _start_node(self, node: str) -> None:
        self._start(_daemon(node), [_program("slurmd"), "-D", "-N", node])

    def _answers(self, *command: str) -> bool:
        with contextlib.suppress(subprocess.SubprocessError):
            self.run(*command)
            return True
        return False

    def _usable(self) -> bool:
        return set(self._usable_nodes()) == set(self.nodes)

    def _usable_nodes(self) -> list[str]:
        with contextlib.suppress(subprocess.SubprocessError):
            return self.run("sinfo", "-h", "-N", "-p", "main", "-t", "idle,mix,alloc", "-o", "%N").split()
        return []

    def _until(self, condition: Callable[[], bool], *daemons: str) -> None:
        """Wait for what these daemons have to bring about, as long as they live."""
        end = time.monotonic() + _PATIENCE_S
        while not condition():
            ended = [name for name in daemons if not self._daemons.alive(name)]
            if ended or time.monotonic() > end:
                what = f"{', '.join(ended)} ended" if ended else f"not ready after {_PATIENCE_S:.0f} s"
                raise Unavailable("\n".join([f"SLURM in {self.folder}: {what}", *map(self._tail, ended or daemons)]))
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return f"{name}: {(self.folder / 'log' / f'{name}.log').read_text(errors='replace')[-1500:]}"
        return f"{name}: {self._daemons.said(name)}"

    def _job_processes(
        self, job_id: str | None = None, node: str | None = None
    ) -> list[tuple[Process, dict[str, str]]]:
        """Return processes of jobs of this cluster."""
        wanted = dict(self.environment)
        if job_id is not None:
            wanted["SLURM_JOB_ID"] = self.job(job_id).fields["JobId"]  # of an element of an array too, its own number
        if node is not None:
            wanted["SLURMD_NODENAME"] = node
        return [found for found in by_environment(**wanted) if "SLURMD_NODENAME" in found[1]]

    def _step_daemons(self, node: str = "*", step: str = "") -> list[Process]:
        """Return the processes that look after a step (all steps) on a node: they write to the log of the node."""
        logs = {str(log) for log in (self.folder / "log").glob(f"slurmd-{node}.log")}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                title = (entry / "cmdline").read_bytes().decode(errors="replace").strip("\0 ")
                mine = title.startswith(f"slurmstepd: [{step}") and any(
                    os.readlink(fd) in logs for fd in (entry / "fd").iterdir()
                )
                process = processes.process(int(entry.name)) if mine else None
                found += [process] if process is not None else []
        return found

    def _kill_jobs(self) -> None:
        steps = self._step_daemons()
        processes.kill(lambda: [process for process, _ in self._job_processes()])
        processes.kill(lambda: steps)


def _daemon(node: str) -> str:
    return f"slurmd-{node}"


def _program(name: str) -> str:
    return program(name) or name


def main() -> None:
    """Raise a cluster for use by hand, or take it down."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.slurm.lab", description="A SLURM of several nodes on this machine."
    )
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("--folder", type=Path, default=_REPOSITORY / ".slurm")
    parser.add_argument("--nodes", type=int, default=Settings.nodes)
    parser.add_argument("--cpus", type=int, default=Settings.cpus, help="of each node, as declared")
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd and mariadb, for sacct")
    parser.add_argument("--watch", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    try:
        _act(given)
    except Unavailable as reason:
        sys.exit(str(reason))


def _act(given: argparse.Namespace) -> None:
    settings = Settings(nodes=given.nodes, cpus=given.cpus, accounting=given.accounting)
    lab = Lab(given.folder, settings)
    if given.watch is not None:
        session = processes.process(given.watch)
        while session is not None and processes.is_alive(session):
            time.sleep(0.3)
    if given.action == "up":
        install(accounting=given.accounting)
        lab.up()
        print(f"{given.nodes} nodes are ready. To use them:\n\nexport SLURM_CONF={lab.environment['SLURM_CONF']}")
    elif given.action == "down":
        lab.down()
        shutil.rmtree(lab.folder, ignore_errors=True)
    else:
        print(lab.status())


if __name__ == "__main__":
    main()

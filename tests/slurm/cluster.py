"""Starts, repairs and stops the daemons of a SLURM cluster of several nodes on this machine."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from launcher.system import processes
from launcher.system.processes import Process
from tests.slurm.configuration import Settings, free_ports, node_names, slurm_conf, slurmdbd_conf
from tests.slurm.daemons import Daemons, by_environment
from tests.support.packages import Unavailable, program
from tests.support.waiting import PATIENCE_S

REPOSITORY = Path(__file__).resolve().parents[2]
_LONGEST_FOLDER = 60
"""The sockets in it must have paths of less than 108 characters."""
_FOREIGN = ("SLURM", "SBATCH_", "SQUEUE_", "SCANCEL_", "SINFO_", "SRUN_", "SALLOC_", "SACCT_", "SCONTROL_")


def is_foreign(variable: str) -> bool:
    """Return whether an environment variable points SLURM's commands to another cluster or to a job in it."""
    return variable.startswith(_FOREIGN)


class Cluster:
    """A SLURM cluster whose files are all in one folder. Two objects with the same folder control the same cluster."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder.resolve()
        self.settings = settings or Settings()
        self._daemons = Daemons(self.folder / "run")
        if len(str(self.folder)) > _LONGEST_FOLDER or " " in str(self.folder):
            raise Unavailable(f"SLURM needs a path of at most {_LONGEST_FOLDER} characters, no spaces: {self.folder}")

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables by which SLURM's commands and jobs find this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return node_names(self.settings.nodes)

    @property
    def runs(self) -> bool:
        """Whether any daemon of the cluster runs."""
        return bool(self._daemons.living())

    def up(self, watch: Process | None = None) -> None:
        """Start what does not run and wait until every node can be used.

        Args:
            watch: take the cluster down, with its folder, when this process has ended, however it ended.

        Raises:
            Unavailable: it does not come up; the message ends with what the daemons said.
        """
        wanted = json.dumps(asdict(self.settings))
        if not self.runs:
            self._configure()
            (self.folder / "settings.json").write_text(wanted)
        elif (self.folder / "settings.json").read_text() != wanted:
            raise Unavailable(f"a SLURM with other settings runs in {self.folder}; take it down first")
        if watch is not None:
            command = ["-m", "tests.slurm.lab", "down", "--folder", str(self.folder), "--after", str(watch.pid)]
            self._start("watch", [sys.executable, *command], PYTHONPATH=str(REPOSITORY))
        self._start_munge()
        if self.settings.accounting:
            self._start_accounting()
        self._start("slurmctld", ["slurmctld", "-D"])
        for node in self.nodes:
            self._start_node(node)
        self._until(lambda: set(self._usable()) == set(self.nodes), "slurmctld", *map(_daemon, self.nodes))

    def down(self) -> None:
        """End every job and every daemon."""
        watch = self._daemons.alive("watch")
        if watch is not None and watch.pid != os.getpid():
            self._daemons.stop(["watch"])
        if self._daemons.alive("slurmctld"):
            with contextlib.suppress(subprocess.SubprocessError, TimeoutError):
                self.clear(patience_s=20.0)
        nodes = [name for name in self._daemons.living() if name.startswith("slurmd-")]
        for names in (nodes, ["slurmctld"], ["slurmdbd"], ["mariadbd"], ["munged"]):
            self._daemons.stop(names)
        self._kill_jobs()

    def clear(self, patience_s: float = PATIENCE_S) -> None:
        """End every job at once, without the time to save."""
        end = time.monotonic() + patience_s
        while self.run("squeue", "-h").strip():
            if time.monotonic() > end:
                raise TimeoutError(f"jobs do not end: {self.run('squeue')}")
            self.run("scancel", "--user", getpass.getuser(), check=False)
            time.sleep(0.1)
            self._kill_jobs()
        self._kill_jobs()  # orphans that SLURM has forgotten

    def repair(self) -> None:
        """Restart daemons that were killed, and resume nodes that were declared down."""
        self._start("slurmctld", ["slurmctld", "-D"])
        for node in set(self.nodes) - set(self._usable()):
            self.node_up(node)
        self.up()

    def run(self, *command: str, check: bool = True, timeout: float = PATIENCE_S, stdin: str | None = None) -> str:
        """Run a command, such as ``squeue``, on this cluster and return what it printed."""
        done = subprocess.run(
            command, env=self._env(), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def status(self) -> str:
        """Return the nodes and the queue as text, or a sentence if the cluster is down."""
        if not self._daemons.alive("slurmctld"):
            return f"no SLURM runs in {self.folder}"
        return f"{self.run('sinfo', '-N', '-p', 'main', '-o', '%N %T')}\n{self.run('squeue')}".strip()

    def node_down(self, node: str) -> None:
        """Declare a node down. SLURM sends its jobs SIGTERM on all nodes, lets them save, and requeues them."""
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def node_up(self, node: str) -> None:
        """Start a node's daemon if it was killed, and let the node be used again."""
        self._start_node(node)
        self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self._until(lambda: node in self._usable(), _daemon(node))

    # ---- parts

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

    def _start_munge(self) -> None:
        socket = self.folder / "munge.sock"
        files = [f"--{name}-file={self.folder}/state/munged.{name}" for name in ("pid", "log", "seed")]
        places = [f"--key-file={self.folder}/munge.key", f"--socket={socket}", *files]
        self._start("munged", ["munged", "--foreground", "--force", "--num-threads=2", *places])
        self._until(socket.exists, "munged")

    def _start_accounting(self) -> None:
        database, socket = self.folder / "database", self.folder / "database.sock"
        plain = ["--no-defaults", f"--user={getpass.getuser()}", f"--datadir={database}"]
        if not (database / "mysql").is_dir():
            private = ["--auth-root-authentication-method=socket", f"--auth-root-socket-user={getpass.getuser()}"]
            self.run("mariadb-install-db", *plain, *private, "--skip-test-db", timeout=PATIENCE_S)
        self._start("mariadbd", ["mariadbd", *plain, f"--socket={socket}", "--skip-networking"])
        self._until(lambda: self._answers("mariadb", "--no-defaults", "-S", str(socket), "-e", "select 1"), "mariadbd")
        self._start("slurmdbd", ["slurmdbd", "-D"], MYSQL_UNIX_PORT=str(socket))
        self._until(lambda: self._answers("sacctmgr", "-n", "list", "cluster"), "slurmdbd")
        if not self.run("sacctmgr", "-n", "list", "cluster", "format=cluster").strip():
            self.run("sacctmgr", "-i", "add", "cluster", "lab")

    def _start_node(self, node: str) -> None:
        self._start(_daemon(node), ["slurmd", "-D", "-N", node])

    def _start(self, name: str, command: list[str], **environment: str) -> None:
        command = [program(command[0]) or command[0], *command[1:]]
        self._daemons.start(name, command, {**self._env(), **environment})

    def _env(self) -> dict[str, str]:
        return {**{name: value for name, value in os.environ.items() if not is_foreign(name)}, **self.environment}

    def _answers(self, *command: str) -> bool:
        with contextlib.suppress(subprocess.SubprocessError):
            self.run(*command)
            return True
        return False

    def _usable(self) -> list[str]:
        with contextlib.suppress(subprocess.SubprocessError):
            return self.run("sinfo", "-h", "-N", "-p", "main", "-t", "idle,mix,alloc", "-o", "%N").split()
        return []

    def _until(self, condition: Callable[[], bool], *daemons: str) -> None:
        """Wait for what these daemons have to bring about, as long as they live."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            ended = [name for name in daemons if not self._daemons.alive(name)]
            if ended or time.monotonic() > end:
                what = f"{', '.join(ended)} ended" if ended else f"not ready after {PATIENCE_S:.0f} s"
                raise Unavailable("\n".join([f"SLURM in {self.folder}: {what}", *map(self._tail, ended or daemons)]))
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return f"{name}: {(self.folder / 'log' / f'{name}.log').read_text(errors='replace')[-1500:]}"
        return f"{name}: {self._daemons.said(name)}"

    def _kill_jobs(self) -> None:
        keepers = self._step_daemons()
        processes.kill(lambda: [process for process, _ in self._job_processes()])
        processes.kill(lambda: keepers)

    def _job_processes(self, **wanted: str) -> list[tuple[Process, dict[str, str]]]:
        """Return processes of jobs of this cluster, and what they were started with."""
        found = by_environment(**self.environment, **wanted)
        return [(process, environment) for process, environment in found if "SLURMD_NODENAME" in environment]

    def _step_daemons(self, node: str = "*", step: str = "") -> list[Process]:
        """Return the processes that look after a step (all steps) on a node: they write to the log of the node."""
        logs = {str(log) for log in (self.folder / "log").glob(f"slurmd-{node}.log")}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                title = (entry / "cmdline").read_bytes().decode(errors="replace")
                if title.startswith(f"slurmstepd: [{step}") and logs & {os.readlink(fd) for fd in entry.glob("fd/*")}:
                    process = processes.find_process(int(entry.name))
                    found += [process] if process is not None else []
        return found


def _daemon(node: str) -> str:
    return f"slurmd-{node}"

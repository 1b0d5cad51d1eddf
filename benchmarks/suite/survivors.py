"""Ways to go on when workers fail: restart the whole run, elastic gossip, torchft. One interface for the benchmark."""

from __future__ import annotations

import json
import os
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from sgp_core.atomic_files import write_json
from suite import steps
from suite.launches import Launch, Launches, Unexpected, looks, run_folders, workers

_START_S = 300.0
_PULSE = Path(__file__).with_name("pulse.py")
_SETTLED = 3
"""Steps of every worker after which the clock starts."""


class Survivor(ABC):
    """One run that goes on, in a folder of its own."""

    def __init__(self, launches: Launches, folder: Path, words: list[str], count: int) -> None:
        self.launches, self.folder, self.words, self.count = launches, folder, words, count
        self.restarts = 0
        """Of the run, or of single workers."""
        folder.mkdir(parents=True)

    @abstractmethod
    def start(self) -> None:
        """Start all workers."""

    @abstractmethod
    def pid(self, rank: int) -> int | None:
        """Return the process of a worker, None if it has none now."""

    @abstractmethod
    def tend(self) -> None:
        """Do what whoever watches the run would do: called often."""

    @abstractmethod
    def progress(self) -> dict[int, int]:
        """Return the last step of each worker."""

    @abstractmethod
    def batches(self, begin: float, end: float, died: set[int]) -> int:
        """Return how many of the batches computed between two moments are in the model at the second.

        Args:
            died: the processes that were killed or stopped.
        """

    def wait_until_settled(self) -> None:
        """Wait until every worker has taken a few steps.

        Raises:
            Unexpected: it does not come to that.
        """
        for _ in looks(_START_S, every_s=0.25):
            self.tend()
            if sum(step >= _SETTLED for step in self.progress().values()) == self.count:
                return
        raise Unexpected(f"{self.folder.name}: not all workers train after {_START_S:.0f} s")

    def stop(self) -> None:
        """End all processes."""
        self.launches.kill()


class _Launched(Survivor):
    """A run of ``sgp-train``."""

    extra: tuple[str, ...] = ()

    def start(self) -> None:
        """Start, or start again: the same command."""
        self.launch: Launch = self.launches.start("train", self.line())

    def line(self) -> list[str]:
        """Return the words of the command."""
        pulses = [f"plugins=[{_PULSE}]", f"callbacks=[{{name: pulse, folder: {self.folder}}}]"]
        size = [f"cluster.workers_per_node={self.count}", "cluster.threads_per_worker=1"]
        never = ["training.epochs=100000000", "evaluation.every_epochs=0", "checkpoint.every_epochs=0"]
        return [*size, *never, "tracker=none", *pulses, *self.extra, *self.words, f"runs_dir={self.folder / 'runs'}"]

    def pid(self, rank: int) -> int | None:
        """Return the process that the worker's report names."""
        for folder in run_folders(self.folder / "runs"):
            report = workers(folder, self.count).get(rank, {})
            if report.get("status") in ("starting", "training"):
                return int(report["pid"])
        return None

    def progress(self) -> dict[int, int]:
        """Return the last step of each worker."""
        return {of.rank: of.ends[-1][1] for of in steps.read_steps(self.folder)}

    def said(self) -> str:
        """Return the end of what the command printed."""
        return self.launch.said.read_text(errors="replace")[-1500:]


class Elastic(_Launched):
    """Elastic SGP: survivors go on, the launcher replaces who died."""

    extra = ("algorithm=sgp", "cluster.elastic=true")

    def tend(self) -> None:
        """See that the run goes on.

        Raises:
            Unexpected: it has ended.
        """
        if (code := self.launch.process.poll()) is not None:
            raise Unexpected(f"the elastic run ended with {code}: {self.said()}")

    def batches(self, begin: float, end: float, died: set[int]) -> int:
        """Count the steps of all workers."""
        found = steps.read_steps(self.folder)
        self.restarts = len(found) - self.count
        return steps.kept_batches(found, begin, end, died)


class Restarted(_Launched):
    """AllReduce: when the run fails, the same command starts it again from its newest checkpoint."""

    def __init__(self, launches: Launches, folder: Path, words: list[str], count: int, checkpoint_every: int) -> None:
        super().__init__(launches, folder, words, count)
        self.extra = (
            *("algorithm=allreduce", f"checkpoint.every_steps={checkpoint_every}", "checkpoint.keep_best=false"),
            "cluster.process_group_timeout_s=10",
        )

    def tend(self) -> None:
        """Start the run again if it has failed.

        Raises:
            Unexpected: it ended otherwise.
        """
        code = self.launch.process.poll()
        if code == 1:
            self.restarts += 1
            self.start()
        elif code is not None:
            raise Unexpected(f"the AllReduce run ended with {code}: {self.said()}")

    def batches(self, begin: float, end: float, died: set[int]) -> int:
        """Count how far the run came."""
        return steps.restarted_batches(steps.read_steps(self.folder), begin, end, self.count)


class TorchFT(Survivor):
    """torchft: a lighthouse, and a replica group for each worker; a dead or silent one is started again."""

    def __init__(self, launches: Launches, folder: Path, words: list[str], count: int, python: Path) -> None:
        super().__init__(launches, folder, words, count)
        self.python = python
        self.replicas: dict[int, subprocess.Popen[bytes]] = {}
        self.quiet_s = 5.0
        """As long as its lighthouse waits for a heartbeat."""

    def start(self) -> None:
        """Write the settings of an ``sgp-train`` run, and start the lighthouse and all replicas."""
        from launcher.config.compose import compose
        from launcher.config.make_plan import make_plans

        size = [f"cluster.workers_per_node={self.count}", "algorithm=allreduce", f"runs_dir={self.folder}"]
        write_json(self.folder / "spec.json", make_plans(compose([*size, *self.words]))[0].spec())
        self.address = f"http://localhost:{_free_port()}"
        lighthouse = self.python.parent / "torchft_lighthouse"
        options = ["--bind", f"[::]:{self.address.rpartition(':')[2]}", "--min_replicas", "1"]
        self._run([str(lighthouse), *options, "--join_timeout_ms", "1000", "--heartbeat_timeout_ms", "5000"])
        for rank in range(self.count):
            self._start(rank)

    def _start(self, rank: int) -> None:
        words = [str(self.folder), str(rank), self.address, f"{self.quiet_s:g}"]
        self.replicas[rank] = self._run([str(self.python), "-m", "suite.torchft_worker", *words])

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join([str(_PULSE.parents[1]), str(_PULSE.parents[2])])
        return self.launches.start_program("replica", command, {"PYTHONPATH": paths})

    def pid(self, rank: int) -> int | None:
        """Return the replica's process."""
        process = self.replicas[rank]
        return process.pid if process.poll() is None else None

    def tend(self) -> None:
        """Start a replica again that has ended, or has been silent while another has not."""
        latest = {path.stem.rpartition("-")[2]: path.stat().st_mtime for path in self.folder.glob("pulse-*.jsonl")}
        for rank, process in list(self.replicas.items()):
            silent = max(latest.values(), default=0.0) - latest.get(str(process.pid), float("inf")) > self.quiet_s
            if process.poll() is not None or silent:
                process.kill()
                process.wait()
                self.restarts += 1
                self._start(rank)

    def progress(self) -> dict[int, int]:
        """Return the last step of each worker."""
        return {of.rank: of.ends[-1][1] for of in steps.read_steps(self.folder)}

    def batches(self, begin: float, end: float, died: set[int]) -> int:
        """Return what torchft itself counts: batches of all replicas that were committed."""
        lines = [line for path in self.folder.glob("batches-*.jsonl") for line in path.read_text().splitlines(True)]
        counts = [tuple(json.loads(line)) for line in lines if line.endswith("]\n")]

        def committed(moment: float) -> int:
            return int(max((count for at, count in counts if at <= moment), default=0))

        return committed(end) - committed(begin)


def torchft_version(python: Path) -> tuple[str | None, str]:
    """Return the version of torchft that a Python has, or None and why it has none."""
    ask = "import torchft; from importlib.metadata import packages_distributions as found, version"
    say = "name = found()['torchft'][0]; print(name, version(name))"
    asked = subprocess.run([str(python), "-c", f"{ask}; {say}"], capture_output=True, text=True)
    if asked.returncode == 0:
        return asked.stdout.strip(), ""
    return None, (asked.stderr.strip().splitlines() or ["it ended"])[-1]


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port

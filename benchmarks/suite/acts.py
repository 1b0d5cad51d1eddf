"""What the soak does to runs: each act starts runs of its own, disturbs them, and sees them end well."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from suite.launches import Launch, Launches, Unexpected, looks, read, run_folders, wait_for_training, workers

ROLE = "act"
WORKERS = 2
MEMBERS = 4
"""Of the long run, which is elastic."""
MORTALS = (2, 3)
"""Ranks of it that are killed and stopped. The others live as long as the soak."""
_LONG = 100_000_000
_SMALL = [
    *("dataset=digits", f"cluster.workers_per_node={WORKERS}", "cluster.threads_per_worker=1"),
    *("tracker=wandb", "tracker.mode=offline", "checkpoint.every_steps=50", "evaluation.every_epochs=1"),
]


def words(runs: Path, steps: int, *more: str) -> list[str]:
    """Return the words of a small run: digits, two workers, Weights & Biases offline, a checkpoint now and then."""
    ends = [f"training.max_steps={steps}", f"training.epochs={_LONG}"]
    return [*_SMALL, *ends, f"runs_dir={runs}", *more]


class Act:
    """One iteration of the soak, in a folder of runs of its own."""

    def __init__(self, launches: Launches, runs: Path, long_runs: Path, seed: int) -> None:
        self.launches, self.runs, self.long_runs, self.seed = launches, runs, long_runs, seed
        self.chance = random.Random(seed)

    def train(self, *more: str, steps: int = 400) -> Launch:
        """Start a small run; the same command again continues it."""
        return self.launches.start(ROLE, words(self.runs, steps, f"seed={self.seed}", *more))

    def sgp(self, *arguments: str) -> None:
        """Run a command of ``sgp`` to its end."""
        self.launches.start(ROLE, [*arguments, "--runs-dir", str(self.runs)], program="sgp").finish()

    def worker(self, folder: Path) -> int:
        """Return the process of a worker by chance."""
        pid: int = workers(folder, WORKERS)[self.chance.randrange(WORKERS)]["pid"]
        return pid

    def expect_completed(self) -> None:
        """Check that every run has completed.

        Raises:
            Unexpected: one has not.
        """
        states = {folder.name: read(folder / "summary.json").get("status") for folder in run_folders(self.runs)}
        if not states or set(states.values()) != {"completed"}:
            raise Unexpected(f"not all runs have completed: {states}")


def sweep(act: Act) -> None:
    """A small sweep, with a loader process a worker."""
    small = words(act.runs, 60, "seed=1,2", "loader.processes=0,1")
    act.launches.start(ROLE, ["-m", *small]).finish()
    act.expect_completed()


def kill_a_worker(act: Act) -> None:
    """A worker is killed: the run fails, and the same command completes it."""
    launch = act.train()
    os.kill(act.worker(wait_for_training(launch, act.runs, WORKERS)), signal.SIGKILL)
    launch.finish(codes=(1,))
    act.train().finish()
    act.expect_completed()


def stop_a_worker(act: Act) -> None:
    """A worker is stopped for a moment: the others wait for it."""
    launch = act.train()
    pid = act.worker(wait_for_training(launch, act.runs, WORKERS))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(act.chance.uniform(0.2, 2.0))
    os.kill(pid, signal.SIGCONT)
    launch.finish()
    act.expect_completed()


def preempt(act: Act) -> None:
    """The launcher is asked to end: the run is saved, and resumed."""
    launch = act.train()
    wait_for_training(launch, act.runs, WORKERS)
    launch.process.terminate()
    launch.finish(codes=(0, 1, 130, 143))
    act.sgp("resume", *(folder.name for folder in run_folders(act.runs)))
    act.expect_completed()


def kill_the_launcher(act: Act) -> None:
    """The launcher is killed: its workers end too, and the run is resumed."""
    launch = act.train()
    folder = wait_for_training(launch, act.runs, WORKERS)
    launch.process.kill()
    launch.finish(codes=(-signal.SIGKILL,))
    if left := act.launches.wait_for_none(ROLE, 60.0):
        raise Unexpected(f"the launcher was killed, and these go on: {left}")
    act.sgp("resume", folder.name)
    act.expect_completed()


def cancel(act: Act) -> None:
    """A run is cancelled from outside, and resumed."""
    launch = act.train()
    folder = wait_for_training(launch, act.runs, WORKERS)
    act.sgp("cancel", folder.name)
    launch.finish(codes=(0, 1, 130, 143))
    act.sgp("resume", folder.name)
    act.expect_completed()


def report(act: Act) -> None:
    """Two runs, and every command that reads them."""
    act.launches.start(ROLE, ["-m", *words(act.runs, 60, "seed=1,2", "debug=timeline")]).finish()
    names = [folder.name for folder in run_folders(act.runs)]
    for command in (
        ["runs"],
        ["status", names[0]],
        ["table"],
        ["report", *names, "--out", str(act.runs / names[0] / "report")],
        ["logs", names[0]],
        ["export", names[0]],
    ):
        act.sgp(*command)
    act.expect_completed()


def lose_a_member(act: Act) -> None:
    """A member of the long run is killed or stopped: the launcher replaces it, and no other one changes."""
    [folder] = run_folders(act.long_runs)
    before = workers(folder, MEMBERS)
    rank = act.chance.choice(MORTALS)
    os.kill(before[rank]["pid"], act.chance.choice([signal.SIGKILL, signal.SIGSTOP]))
    for _ in looks(300.0):
        now = workers(folder, MEMBERS)
        if now[rank]["pid"] != before[rank]["pid"] and now[rank]["status"] == "training":
            break
    else:
        raise Unexpected(f"worker {rank} was not replaced: {now[rank]}")
    changed = [other for other in range(MEMBERS) if now[other]["pid"] != before[other]["pid"]]
    if changed != [rank]:
        raise Unexpected(f"worker {rank} was hit, and these changed: {changed}")


ACTS: dict[str, Callable[[Act], None]] = {
    "sweep": sweep,
    "kill a worker": kill_a_worker,
    "stop a worker": stop_a_worker,
    "preempt": preempt,
    "kill the launcher": kill_the_launcher,
    "cancel": cancel,
    "report": report,
    "lose a member": lose_a_member,
}
"""A new act is a line here."""


def perform(act: Act, name: str, patience_s: float = 60.0) -> int:
    """Perform an act and remove its runs; return how many of its processes live on.

    Raises:
        Unexpected: it did not go as it should.
    """
    ACTS[name](act)
    left = len(act.launches.wait_for_none(ROLE, patience_s))
    if names := [folder.name for folder in run_folders(act.runs)]:
        act.sgp("clean", "--yes", *names)
    return left

"""Hours of mixed load: whether memory, descriptors, threads, processes, shared memory or files grow.

    make soak                                                   # an hour; SOAK_MINUTES=10 make soak
    python benchmarks/soak.py --minutes 5 --json runs/benchmarks/soak.json
    python benchmarks/soak.py --minutes 5 --acts preempt report

Three loads share the machine. One long, elastic run trains until the end. One launcher works through a sweep of tiny
runs. And acts follow each other, each with runs of its own (benchmarks/suite/acts.py): a sweep; a worker killed, and
the run started again; a worker stopped for a moment; preempted and resumed; the launcher killed, and the run resumed;
cancelled and resumed; reports; and a member of the long run that dies, or stops for good, and is replaced. All write to
Weights & Biases offline. Acts are chosen by a seed.

Every few seconds it is noted what each process holds, and after each act what is left of it. Printed is how each
figure grows in the second half of its time, and the noise of that: the median slope a minute for the long run, a
finished run for the sweep's launcher, an act for what acts leave. A figure that grows by more than its noise and its
limit ends the soak with exit code 1. So does an act that goes wrong, a process that an act leaves, and, at the end,
any process or entry of /dev/shm.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from suite import acts, tables, usage
from suite.growth import Limit, Sample, judge
from suite.launches import Launch, Launches, Unexpected, run_folders, wait_for_training
from suite.private_memory import hide_shared_memory
from suite.workers import as_program, machine

_MB = 1e6
LONG, SWEEP = "long run", "sweep"
A_MINUTE = {
    "rss": Limit(0.2 * _MB, 8 * _MB, warm_up=1.0),
    "anonymous": Limit(0.2 * _MB, 8 * _MB, warm_up=1.0),
    "pss": Limit(math.inf, 0.0, warm_up=1.0),  # falls and rises with those who share: no sign of a leak
    "descriptors": Limit(0.1, 4, warm_up=1.0),
    "threads": Limit(0.1, 3, warm_up=1.0),
}
"""Of each process of the long run."""
A_RUN = {name: Limit(limit.slope / 4, limit.least) for name, limit in A_MINUTE.items()}
"""Of the launcher of the sweep, which starts a run every few seconds."""
AN_ACT = {
    "processes left": Limit(0.0, 0.0),
    "/dev/shm entries": Limit(0.0, 0.0),
    "temporary files": Limit(0.02, 1),
    "files of removed runs": Limit(0.02, 1),
}
FILES = Limit(0.05 * _MB, 2 * _MB, warm_up=1.0)
"""Bytes a minute of the long run's folder beside its record: metrics, logs and Weights & Biases grow with every row."""
RECORD = ("metrics.jsonl", "logs", "wandb")
THEIRS = ("wandb-core", "wandb-symon")
"""Programs of Weights & Biases: their memory is noted, but not judged."""
KINDS: dict[str, tuple[str, ...]] = {
    "memory": ("rss", "anonymous"),
    "descriptors": ("descriptors",),
    "threads": ("threads",),
    "processes": ("processes left",),
    "disk": ("disk", "temporary files", "files of removed runs", "/dev/shm entries"),
}
"""What the verdicts at the end are about, each with its figures."""
_RUNS_A_MINUTE = 2
"""Of the sweep, which begins anew once it is through: its launcher composes the settings of all of its runs first."""
SHARED_MEMORY = Path("/dev/shm")


class Soak:
    """The loads, and what is noted of them."""

    def __init__(self, folder: Path, minutes: float, every_s: float, seed: int, *, own_shm: bool) -> None:
        self.launches = Launches(folder)
        self.runs = {name: folder / name.replace(" ", "-") for name in (LONG, SWEEP, acts.ROLE)}
        self.minutes, self.every_s, self.seed = minutes, every_s, seed
        self.held: dict[tuple[str, str, str], list[Sample]] = defaultdict(list)
        """By role, part (with its process id) and figure."""
        self.left: dict[str, list[Sample]] = defaultdict(list)
        self.performed: list[str] = []
        self.wrong: list[str] = []
        self._begin = time.monotonic()
        self._over = threading.Event()
        self._own_shm = own_shm
        self._before = set(os.listdir(SHARED_MEMORY))

    def run(self, names: list[str]) -> None:
        """Perform acts until the time is over."""
        watch = threading.Thread(target=self._watch, name="watch")
        background = [self._start_long(), self._start_sweep()]
        watch.start()
        try:
            wait_for_training(background[0], self.runs[LONG], acts.MEMBERS)
            for number, name in enumerate(self._choose(names)):
                if background[1].process.poll() is not None:
                    background[1] = self._start_sweep(number)
                self.attempt(number, name)
                if (code := background[0].process.poll()) is not None:
                    raise Unexpected(f"the long run has ended with {code}: {background[0].said.read_text()[-2000:]}")
            self._end(background)
        except Unexpected as error:
            self.wrong.append(str(error))
        finally:
            self._over.set()
            watch.join()

    def _end(self, background: list[Launch]) -> None:
        for launch in background:
            launch.process.terminate()
        for launch in background:
            launch.finish(codes=(0, 1, 130, 143))
        if left := [*self.launches.wait_for_none(LONG, 60.0), *self.launches.wait_for_none(SWEEP, 60.0)]:
            raise Unexpected(f"the loads have ended, and these go on: {left}")
        if self._own_shm and (segments := sorted(self._new_shared_memory())):
            raise Unexpected(f"the loads have ended, and these are left in {SHARED_MEMORY}: {segments}")

    def rows(self) -> list[tables.Row]:
        """Return a row for each figure that was seen often enough."""
        found: list[tables.Row] = []
        for (role, part, figure), samples in sorted(self.held.items()):
            limit = FILES if figure == "disk" else (A_RUN if role == SWEEP else A_MINUTE)[figure]
            if figure in KINDS["memory"] and any(name in part for name in THEIRS):
                limit = A_MINUTE["pss"]
            unit = "run" if role == SWEEP else "minute"
            row = {"of": role, "part": part, "figure": figure, "unit": unit}
            found.append({**row, **(judge(samples, limit) or {})})
        for figure, samples in self.left.items():
            row = {"of": "acts", "part": "what is left", "figure": figure, "unit": "act"}
            found.append({**row, **(judge(samples, AN_ACT[figure]) or {})})
        return [row for row in found if "slope" in row]

    # -- loads ------------------------------------------------------------------------------------------------------
    def _start_long(self) -> Launch:
        words = acts.words(self.runs[LONG], 10**9, "checkpoint.every_steps=500", "evaluation.every_epochs=50")
        words += [f"cluster.workers_per_node={acts.MEMBERS}", "cluster.elastic=true"]
        return self.launches.start(LONG, [*words, "log_every=200"], nice=10)

    def _start_sweep(self, number: int = 0) -> Launch:
        runs = max(10, int(self.minutes * _RUNS_A_MINUTE))
        seeds = f"seed=range({number * runs},{(number + 1) * runs})"
        words = acts.words(self.runs[SWEEP], 10, seeds, "cluster.workers_per_node=1")
        return self.launches.start(SWEEP, ["-m", *words], nice=10)

    def _choose(self, names: list[str]) -> Iterator[str]:
        number = 0
        while time.monotonic() < self._begin + 60 * self.minutes:
            turn = (self.seed + number // len(names)) % len(names)  # each as often, each after each other one
            yield [*names[turn:], *names[:turn]][number % len(names)]
            number += 1

    def attempt(self, number: int, name: str) -> None:
        """Perform an act. One that goes wrong is noted, and what it leaves is removed: the loads go on."""
        try:
            self._perform(number, name)
        except Unexpected as error:
            self.wrong.append(f"act {number}, {name}: {error}")
            print(self.wrong[-1], flush=True)
            self.launches.kill(acts.ROLE)
            shutil.rmtree(self.runs[acts.ROLE], ignore_errors=True)

    def _perform(self, number: int, name: str) -> None:
        runs = self.runs[acts.ROLE]
        left = acts.perform(acts.Act(self.launches, runs, self.runs[LONG], self.seed + number), name)
        self.performed.append(name)
        if left:
            self.wrong.append(f"act {number}, {name}: {left} processes live on")
        print(f"{(time.monotonic() - self._begin) / 60:6.1f} min  {name}", flush=True)
        self.left["processes left"].append((number, left))
        self.left["/dev/shm entries"].append((number, len(self._new_shared_memory())))
        self.left["temporary files"].append((number, usage.count_files(self.launches.temporary(acts.ROLE))[0]))
        self.left["files of removed runs"].append((number, usage.count_files(runs)[0]))

    # -- looking ----------------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        while not self._over.wait(self.every_s):
            minutes = (time.monotonic() - self._begin) / 60
            finished = sum((folder / "model.safetensors").exists() for folder in run_folders(self.runs[SWEEP]))
            for process in self.launches.processes():
                stays = process.role == LONG or (process.role, process.part) == (SWEEP, "launcher")
                now = usage.measure(process.pid) if stays else None
                for figure, value in (vars(now) if now else {}).items():
                    unit = finished if process.role == SWEEP else minutes
                    self.held[process.role, f"{process.part} ({process.pid})", figure].append((unit, value))
            self.held[LONG, "run folder", "disk"].append((minutes, _beside_record(self.runs[LONG])))

    def _new_shared_memory(self) -> set[str]:
        return set(os.listdir(SHARED_MEMORY)) - self._before


def _beside_record(runs: Path) -> int:
    """Return the bytes of run folders that do not hold a row, or a line, for each step."""
    entries = [entry for folder in run_folders(runs) for entry in folder.iterdir() if entry.name not in RECORD]
    return sum(entry.lstat().st_blocks * 512 + usage.count_files(entry)[1] for entry in entries)


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; the act under way then is finished")
    parser.add_argument("--acts", nargs="+", default=list(acts.ACTS), choices=acts.ACTS, metavar="ACT")
    parser.add_argument("--every-s", type=float, default=5.0, help="seconds between looks")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the acts, and of which worker suffers")
    parser.add_argument("--keep", type=Path, help="work in this folder and keep it; else in a temporary one")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Soak, print, and say by the exit code whether anything grew."""
    options = options_parser().parse_args()
    own = hide_shared_memory()
    about = {"benchmark": "soak", **machine(), "minutes": options.minutes, "seed": options.seed, "own_shm": own}
    print(f"torch {about['torch']}, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="sgp-soak-"))
    soak = Soak(folder, options.minutes, options.every_s, options.seed, own_shm=own)
    try:
        soak.run(options.acts)
        rows = soak.rows()
    finally:
        soak.launches.kill()
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(tables.soak(rows), end="\n\n")
    counts = {name: soak.performed.count(name) for name in options.acts}
    print(f"{len(soak.performed)} acts: {', '.join(f'{name} {count}' for name, count in counts.items())}")
    print("\n".join(verdicts := tables.soak_verdicts(rows, KINDS)))
    grown = [
        f"{row['of']}, {row['part']}: {row['figure']} grows by {row['slope']:g} a {row['unit']}"
        for row in rows
        if row["grows"]
    ]
    wrong = [*soak.wrong, *grown]
    if options.json:
        found = {"rounds": 1, "acts": counts, "verdicts": verdicts, "wrong": wrong}
        tables.save(options.json, {**about, **found}, rows)
    print("\n".join(wrong) or "nothing grew, and nothing was left")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    as_program()
    main()

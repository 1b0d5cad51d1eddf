"""``sgp logs``: the logs of a run's workers."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunArgument, RunsDirOption
from launcher.cli.watch import goes_on
from launcher.runs.find import Run, find_run, reread
from launcher.runs.liveness import Observer
from launcher.runs.plain_text import clean_line
from sgp_core.atomic_files import open_file
from sgp_core.errors import ConfigurationError

_LOOK_S = 0.3
_MOST_AT_ONCE = 1 << 20


def logs(
    run: RunArgument,
    rank: Annotated[
        str | None,
        typer.Option(metavar="K|all", help="Worker; by default the one that failed first, else 0."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="By default the latest.")] = None,
    count: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, metavar="N", help="Only the last so many.")
    ] = None,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Print the logs of a run's workers."""
    if follow and (as_json or attempt is not None):
        raise ConfigurationError("--follow goes with neither --json nor --attempt")
    found = find_run(run, runs_dir, Observer(patience_s=1.5))
    if attempt is not None and attempt not in found.attempts:
        there = ", ".join(map(str, found.attempts)) or "none yet"
        raise ConfigurationError(f"--attempt {attempt}: {found.run_id} has attempts {there}")
    ranks = _ranks(found, rank)
    if follow:
        _follow(found, ranks, count, prefixed=rank == "all")
        return
    attempt = found.attempt if attempt is None else attempt
    paths = {each: path for each in ranks if (path := found.log(each, attempt)) is not None}
    if not paths:
        raise ConfigurationError(_no_log(found, ranks, attempt))
    if as_json:
        content = [
            {"rank": each, "file": str(path), "lines": list(_lines(path, count))} for each, path in paths.items()
        ]
        print_json({"run_id": found.run_id, "attempt": attempt, "logs": content})
        return
    for each, path in paths.items():
        prefix = f"[{each}] " if rank == "all" else ""
        for line in _lines(path, count):
            print(f"{prefix}{clean_line(line)}")


def _ranks(run: Run, given: str | None) -> Sequence[int]:
    """Return the ranks whose logs to print."""
    there = range(run.processes or 1)
    if given == "all":
        return there
    if given is None:
        culprit = (run.error or {}).get("rank")
        return [culprit if culprit is not None and culprit in there else 0]
    if not given.isdecimal() or int(given) not in there:
        raise ConfigurationError(f"--rank {given}: {run.run_id} has ranks 0 to {len(there) - 1}; or all")
    return [int(given)]


def _no_log(run: Run, ranks: Sequence[int], attempt: int) -> str:
    """Return why there is no log."""
    if run.cluster == "inline":
        return f"{run.run_id} ran inline: its output went to the terminal"
    if not attempt:
        return f"{run.run_id} has not been started"
    whose = f"worker {ranks[0]}" if len(ranks) == 1 else "any worker"
    return f"{run.run_id} is {run.state} and has no log of {whose} in attempt {attempt}"


def _lines(path: Path, count: int | None) -> Iterator[str]:
    """Yield the lines of a log, or its last ``count`` lines."""
    try:
        with open_file(path) as file:
            lines = (line.decode(errors="replace").rstrip("\n") for line in file)
            yield from lines if count is None else deque(lines, maxlen=count)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error


# -- following --------------------------------------------------------------------------------------------------------
def _follow(run: Run, ranks: Sequence[int], count: int | None, *, prefixed: bool) -> None:
    """Print the logs as they grow, through all further attempts, until the run has ended."""
    observer = Observer(patience_s=1.5, max_age_s=5.0)
    tails = [_Tail(rank, f"[{rank}] " if prefixed else "") for rank in ranks]
    for tail in tails:
        tail.begin(run, count)
    while True:
        over = not goes_on(run)
        if over:
            time.sleep(_LOOK_S)  # workers may still print after the run has been declared ended
        for tail in tails:
            tail.print_new(run, last=over)
        sys.stdout.flush()
        if over:
            return
        time.sleep(_LOOK_S)
        run = reread(run, observer)


@dataclass
class _Tail:
    """A worker's log, and how far it is printed. ``rest`` is the beginning of a line without its end."""

    rank: int
    prefix: str
    path: Path | None = None
    offset: int = 0
    rest: bytes = field(default=b"")

    def begin(self, run: Run, count: int | None) -> None:
        """Start at the last ``count`` lines, by default at the beginning."""
        self.path = run.log(self.rank)
        if self.path is None or count is None:
            return
        try:
            with open_file(self.path) as file:
                last = deque((len(line) for line in file), maxlen=count)
                self.offset = file.tell() - sum(last)
        except OSError:
            self.path = None

    def print_new(self, run: Run, *, last: bool) -> None:
        """Print the complete lines that are new; with ``last`` also an incomplete one."""
        path = run.log(self.rank)
        if path is not None and path != self.path:
            self._print_from(self.path, last=True)
            self.path, self.offset = path, 0
        self._print_from(self.path, last=last)

    def _print_from(self, path: Path | None, *, last: bool) -> None:
        if path is None:
            return
        while new := self._read(path):
            *lines, self.rest = (self.rest + new).split(b"\n")
            for line in lines:
                self._print(line)
        if last and self.rest:
            self._print(self.rest)
            self.rest = b""

    def _read(self, path: Path) -> bytes:
        try:
            with open_file(path) as file:
                file.seek(self.offset)
                new = file.read(_MOST_AT_ONCE)
        except OSError:
            return b""
        self.offset += len(new)
        return new

    def _print(self, line: bytes) -> None:
        print(f"{self.prefix}{clean_line(line.decode(errors='replace'))}")

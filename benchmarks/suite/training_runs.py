"""Runs of ``sgp-train`` behind a table: each is started once, and read off its run folder."""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

Words = tuple[str, ...]
"""What ``sgp-train`` is told of a run."""
Final = dict[str, Any]
"""The last evaluation of a run, as in its ``summary.json``."""
_PLACES = ("--runs", "--json")
"""Options of every benchmark that say where runs and tables go, and nothing of what is found."""
TUNING_SEED = 1000
"""Far from those that are reported."""


@cache
def folder_of(words: Words) -> Path:
    """Return where the run of these words is, or will be.

    Raises:
        ConfigurationError: they are not valid, or the data are not there.
    """
    from launcher.config.compose import compose
    from launcher.config.make_plan import make_plans

    [plan] = make_plans(compose(list(words)))
    return plan.run_dir


def final_of(folder: Path) -> Final | None:
    """Return the last evaluation of the run in a folder; None if the run has not completed."""
    summary = folder / "summary.json"
    if not summary.exists():
        return None
    found = json.loads(summary.read_text(encoding="utf-8"))
    return dict(found["final"]) if found["status"] == "completed" else None


def run_all(runs: Sequence[Words], at_once: int) -> list[Final]:
    """Return the last evaluation of every run, in order. Those that have completed before are not repeated.

    Args:
        at_once: how many are trained at a time.

    Raises:
        SystemExit: one of them fails; with what ``sgp-train`` said of it.
    """
    folders = {words: folder_of(words) for words in dict.fromkeys(runs)}
    missing = [words for words, folder in folders.items() if final_of(folder) is None]
    print(f"{len(folders)} runs, {len(missing)} of them to be trained", flush=True)
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for number, (words, said) in enumerate(zip(missing, pool.map(_train, missing), strict=True), start=1):
                if said is not None:
                    raise SystemExit(f"sgp-train {' '.join(words)}\n{said}")
                print(f"{number}/{len(missing)}, {time.perf_counter() - began:.0f} s: {' '.join(words)}", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else those that wait would be trained first
            raise
    found = {words: final_of(folder) for words, folder in folders.items()}
    return [final for words in runs if (final := found[words]) is not None]


def _train(words: Words) -> str | None:
    """Train a run; return what was said if it failed."""
    command = [sys.executable, "-m", "launcher.cli.train", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{done.stdout}{done.stderr}"


def best_rates(
    cells: Sequence[Any], rates: Callable[[Any], Sequence[float]], words: Callable[..., Words], at_once: int
) -> dict[Any, float]:
    """Return the learning rate of each cell of a table that has the lowest score, in one run of another seed.

    Args:
        rates: those to try for a cell.
        words: of the run of a cell, a learning rate and a seed.
    """
    tried = [(cell, rate) for cell in cells for rate in rates(cell)]
    found = run_all([words(cell, rate, TUNING_SEED) for cell, rate in tried], at_once)
    scores = {key: final["bits_per_byte"] for key, final in zip(tried, found, strict=True)}
    return {cell: min(rates(cell), key=lambda rate: scores[cell, rate]) for cell in cells}


def over_seeds(finals: Sequence[Final], keys: Sequence[str]) -> dict[str, Any]:
    """Return the mean of each of ``keys`` over the runs of a line, and their bits per byte one by one."""
    means = {key: statistics.fmean(final[key] for final in finals) for key in keys}
    return {**means, "of_seeds": [final["bits_per_byte"] for final in finals]}


def span(row: dict[str, Any]) -> str:
    """Return the range of the bits per byte of a row's seeds."""
    return f"{min(row['of_seeds']):.4f} to {max(row['of_seeds']):.4f}"


def write_page(path: Path, benchmark: str, found: str) -> None:
    """Write a table to a page, below the command that makes it, and print both."""
    words, given = list[str](), iter(sys.argv[1:])
    for word in given:
        if word in _PLACES:
            next(given)
        else:
            words.append(word)
    page = f"`{shlex.join(['python', f'benchmarks/{benchmark}.py', *words])}`\n\n{found}\n"
    path.write_text(page, encoding="utf-8")
    print(page)

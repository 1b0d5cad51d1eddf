"""Processes that run checks: a check that fails, hangs or takes its GPU down with it does not stop the others."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sgp_core.errors import ConfigurationError
from suite.device.check import Check, Found, Place

PATIENCE_S = 60.0
"""A check that is not done after so long has failed."""

Row = dict[str, Any]


def run(checks: list[Check], load: Callable[[str, int], list[Check]], kind: str, deadline: float) -> Iterator[Row]:
    """Run checks and yield a row for each as it is done.

    Args:
        load: given ``kind`` and the number of GPUs, returns the list from which the processes take checks by name.
        kind: ``cuda`` or ``cpu``.
        deadline: of ``time.monotonic``; what has not begun by then fails.
    """
    for (workers, backend), some in groupby(checks, lambda check: (check.workers, check.group)):
        left = list(some)
        while left:
            if time.monotonic() > deadline:
                yield from (_row(check, 0.0, "not begun: the time is over") for check in left)
                break
            done = 0
            for row in _together(left, workers, backend, load, kind, deadline):
                yield row
                done += 1
            left = left[done:]


def _together(
    checks: list[Check],
    workers: int,
    backend: str,
    load: Callable[[str, int], list[Check]],
    kind: str,
    deadline: float,
) -> Iterator[Row]:
    """Run checks one after another in the same processes, until one ends in an exception or hangs."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        names = [check.name for check in checks]
        crew = [
            spawn.Process(target=_work, args=(rank, workers, backend, folder, names, load, kind), daemon=True)
            for rank in range(workers)
        ]
        for process in crew:
            process.start()
        try:
            for number, check in enumerate(checks):
                began = time.monotonic()
                files = [Path(folder, f"{number}-{rank}.json") for rank in range(workers)]
                limit = min(began + PATIENCE_S, deadline + PATIENCE_S / 2)
                while not all(file.exists() for file in files) and time.monotonic() < limit:
                    if not any(process.is_alive() for process in crew):
                        break
                    if any(file.exists() and json.loads(file.read_text())["error"] for file in files):
                        limit = min(limit, time.monotonic() + 2.0)  # the others may have more to say, or wait in vain
                    time.sleep(0.01)
                found = [json.loads(file.read_text()) for file in files if file.exists()]
                yield _judged(check, found, workers, time.monotonic() - began)
                if len(found) < workers or any(one["error"] for one in found):
                    return
        finally:
            for process in crew:
                process.join(5.0 if number == len(checks) - 1 else 0.0)
                process.kill()


def _judged(check: Check, found: list[Row], workers: int, seconds: float) -> Row:
    errors = [one["error"] for one in found if one["error"]]
    problems = [one["problem"] for one in found if one["problem"]]
    if errors:
        problem = errors[0]
    elif len(found) < workers:
        problem = f"{workers - len(found)} of {workers} processes died or were not done after {seconds:.0f} s"
    else:
        problem = problems[0] if problems else ""
        seconds = max(one["seconds"] for one in found)
    first: Row = found[0] if found else {"said": "", "figures": {}}
    return _row(check, seconds, problem, first["said"], first["figures"])


def _row(check: Check, seconds: float, problem: str, said: str = "", figures: Row | None = None) -> Row:
    return {
        "name": check.name,
        "ok": not problem,
        "seconds": seconds,
        "problem": problem,
        "said": said,
        "figures": figures or {},
    }


def _work(
    rank: int,
    size: int,
    backend: str,
    folder: str,
    names: list[str],
    load: Callable[[str, int], list[Check]],
    kind: str,
) -> None:
    gpus = torch.cuda.device_count() if kind == "cuda" else 0
    if size > gpus > 0:
        os.environ["TORCH_SYMM_MEM_ALLOW_OVERLAPPING_DEVICES"] = "1"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    device = torch.device("cpu")
    if gpus:
        device = torch.device("cuda", rank % gpus)
        torch.cuda.set_device(device)
    if backend:
        store = dist.FileStore(str(Path(folder, "store")), size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=40))
    known = {check.name: check for check in load(kind, gpus)}
    for number, name in enumerate(names):
        began, error, found = time.monotonic(), "", Found()
        try:
            found = known[name].act(Place(rank, size, device, gpus))
            if gpus:
                torch.cuda.synchronize()  # what went wrong on the GPU shows here, not in the next check
        except ConfigurationError as error_:  # on all workers alike: they can go on
            found = Found(str(error_))
        except Exception:  # any at all is this check's result, and the end of this process
            error = f"rank {rank}: {traceback.format_exc()}"
        seconds = time.monotonic() - began
        row = {"seconds": seconds, "error": error, **vars(found)}
        path = Path(folder, f"{number}-{rank}.json")
        path.with_suffix(".tmp").write_text(json.dumps(row))
        os.replace(path.with_suffix(".tmp"), path)
        if error:
            os._exit(1)  # without waiting for a GPU or for peers
    if backend:
        dist.barrier()
        dist.destroy_process_group()

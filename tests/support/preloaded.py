"""Workers of tests that need a heavy package: forked from a process of their own, which imports it once for all."""

from __future__ import annotations

import importlib
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.support.workers import run_workers


def run_preloaded(packages: Sequence[str], world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Do what :func:`tests.support.workers.run_workers` does, with ``packages`` imported before workers are forked."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result")
        job = (packages, world_size, function, args, result)
        parent = multiprocessing.get_context("spawn").Process(target=_run, args=job)
        parent.start()
        parent.join()
        found = torch.load(result, weights_only=False)
    if isinstance(found, str):
        raise AssertionError(found)
    return found  # type: ignore[no-any-return]


def _run(packages: Sequence[str], world_size: int, function: Callable[..., Any], args: Any, result: Path) -> None:
    torch.set_num_threads(1)  # threads would not be forked
    for package in packages:
        importlib.import_module(package)
    try:
        found: Any = run_workers(world_size, function, *args, context=multiprocessing.get_context("fork"))
    except AssertionError as error:
        found = str(error)
    torch.save(found, result)

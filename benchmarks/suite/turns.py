"""Contenders take turns in the same workers: seconds and CPU seconds of every turn, bytes, memory."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from sgp_core.errors import ConfigurationError
from suite.contender import Contender, Loss
from suite.contenders import Entry
from suite.rivals import BareExchange

T = TypeVar("T")

WARM_UP = 4
"""Steps before anything is measured: all peers of eight workers have been met, by osgp too, which sends nothing in its
first; DDP has cut its buckets anew."""

Series = dict[str, dict[str, Any]]
"""By contender: ``seconds`` and ``cpu_seconds`` per step of each turn, ``bytes_per_step``, ``memory_bytes``; or only
``refused``, why there cannot be such a contender here."""


def take_turns(
    entries: dict[str, Entry], make_model: Callable[[], nn.Module], loss: Loss, rounds: int, steps: int
) -> Series:
    """Build all contenders, let them take turns of ``steps`` steps in rotating order, and return what they took.

    A turn ends when nothing of it is under way any more. Seconds are the slowest worker's; CPU seconds (user and
    system, all threads), bytes and memory are means over workers.
    """
    found: Series = {}
    built: dict[str, Contender] = {}
    warm = BareExchange(make_model())  # what the first of all would pay for: connections, kernels, buffers
    for _ in range(WARM_UP):
        warm.step(loss)
    del warm
    for name, entry in entries.items():
        before = resident()
        try:
            built[name] = entry.build(make_model())
        except ConfigurationError as reason:  # the same on all workers
            found[name] = {"refused": str(reason)}
            continue
        for _ in range(WARM_UP):
            built[name].step(loss)
        built[name].settle()
        held = resident()
        peak = peak_while(lambda name=name: _turn(built[name], loss, 1))  # type: ignore[misc]
        found[name] = {"seconds": [], "cpu_seconds": [], "memory_bytes": _mean(held - before + peak)}
    sent = {name: (contender.bytes_sent, contender.steps) for name, contender in built.items()}
    for number in range(rounds):
        for name in rotated(list(built), number):
            seconds, cpu = _turn(built[name], loss, steps)
            found[name]["seconds"].append(seconds)
            found[name]["cpu_seconds"].append(cpu)
    for name, contender in built.items():
        bytes_before, steps_before = sent[name]
        found[name]["bytes_per_step"] = (contender.bytes_sent - bytes_before) / (contender.steps - steps_before)
    return found


def rotated(names: list[T], number: int) -> list[T]:
    """Return the order of round ``number``."""
    turn = number % len(names)
    return names[turn:] + names[:turn]


def _turn(contender: Contender, loss: Loss, steps: int) -> tuple[float, float]:
    dist.barrier()
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(steps):
        contender.step(loss)
    contender.settle()
    seconds = torch.tensor([(time.perf_counter() - start) / steps], dtype=torch.float64)
    spent = (time.process_time() - cpu) / steps
    dist.all_reduce(seconds, op=dist.ReduceOp.MAX)
    return float(seconds), _mean(spent)


def _mean(value: float) -> float:
    total = torch.tensor([value], dtype=torch.float64)
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


# -- memory: Linux tells; elsewhere it is 0 --------------------------------------------------------------------------
def resident() -> float:
    """Return the bytes this worker occupies once what it does not use is given back; shared pages count by parts."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    dist.barrier()  # peers map or unmap what is shared meanwhile
    return _kilobytes("/proc/self/smaps_rollup", "Pss")


def peak_while(run: Callable[[], object]) -> float:
    """Return by how many bytes this worker grows, at most, while ``run`` runs."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    except OSError:
        run()
        return 0.0
    before = _kilobytes("/proc/self/status", "VmRSS")
    run()
    return max(0.0, _kilobytes("/proc/self/status", "VmHWM") - before)


def _kilobytes(file: str, what: str) -> float:
    try:
        found = re.search(rf"^{what}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return 1024.0 * int(found[1]) if found else 0.0


def available_bytes() -> float:
    """Return the memory that is free for use; a large number where the system does not say."""
    return _kilobytes("/proc/meminfo", "MemAvailable") or 1e12


def in_batches(
    entries: dict[str, Entry], references: Iterable[str], one_vector: float, room: float
) -> list[dict[str, Entry]]:
    """Split contenders so that each batch, the references always among it, fits into ``room`` bytes.

    Args:
        entries: all of them.
        references: those that others are compared with in the same round.
        one_vector: bytes that a vector of the model's size takes, in all workers together.
        room: bytes.
    """
    always = {name: entries[name] for name in references if name in entries}
    base = 1.0 + sum(entry.vectors for entry in always.values())  # one more for gradients
    batches, used = [dict(always)], base
    for name, entry in entries.items():
        if name in always:
            continue
        if (used + entry.vectors) * one_vector > room and len(batches[-1]) > len(always):
            batches.append(dict(always))
            used = base
        batches[-1][name] = entry
        used += entry.vectors
    return batches

"""Worker processes of one gloo group, on this machine or each in a network namespace of its own."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000
_CONTEXT = multiprocessing.get_context("forkserver")


def in_workers(world_size: int, task: Callable[..., Any], *arguments: Any, namespaces: Sequence[str] = ()) -> Any:
    """Run ``task(*arguments)`` in ``world_size`` gloo workers and return what rank 0's returned, by way of JSON.

    No worker outlives the call, whatever ends it.

    Args:
        world_size: number of workers.
        task: importable.
        arguments: can be pickled.
        namespaces: the network namespace of each worker, reached at its ``eth0``; none: all talk over loopback.

    Raises:
        RuntimeError: a worker failed or was killed; the message has its traceback.
    """
    with tempfile.TemporaryDirectory(prefix="sgp-bench-") as folder:
        started = [
            _CONTEXT.Process(
                target=_worker,
                args=(rank, world_size, folder, namespaces[rank] if namespaces else None, task, arguments),
            )
            for rank in range(world_size)
        ]
        try:
            for process in started:
                process.start()
            running = {process.sentinel: process for process in started}
            failed: list[int] = []
            while running and not failed:
                for sentinel in wait(list(running)):
                    running.pop(sentinel).join()  # type: ignore[arg-type]
                failed = [rank for rank, process in enumerate(started) if process.exitcode]
        finally:
            for process in started:
                if process.pid is not None:
                    process.kill()
                    process.join()
        if failed:
            said = sorted(Path(folder).glob("error-*"), key=os.path.getmtime)
            raise RuntimeError(said[0].read_text() if said else f"worker {failed[0]} was killed")
        return json.loads(Path(folder, "result.json").read_text())


def as_program() -> None:
    """Prepare a process that is a benchmark and nothing else.

    SIGTERM unwinds it as Ctrl-C does, so that it leaves nothing behind; workers are forked from a server that has torch
    loaded, so that a start costs little.
    """
    _CONTEXT.set_forkserver_preload(["torch", "torch._dynamo", "sgp_core.gossip"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def machine() -> dict[str, Any]:
    """Return what a figure depends on: library, cores, and what else this machine is doing."""
    import torch

    return {"torch": torch.__version__, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}


def _worker(
    rank: int, world_size: int, folder: str, namespace: str | None, task: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        if namespace is not None:
            _enter(namespace)
            os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        store = dist.FileStore(str(Path(folder, "store")), world_size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=timedelta(minutes=5))
        result = task(*arguments)
        if rank == 0:
            Path(folder, "result.json").write_text(json.dumps(result))
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        Path(folder, f"error-{rank}").write_text(f"worker {rank}: {traceback.format_exc()}")
        raise


def _enter(namespace: str) -> None:
    """Move this thread, and all it will start, into a network namespace (``os.setns`` is there from Python 3.12)."""
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"cannot enter network namespace {namespace}")
    os.close(handle)

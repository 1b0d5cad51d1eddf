"""Real gloo workers for tests: forked from a server that has torch loaded, so that a start costs little."""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.support.waiting import LONG_PATIENCE_S, PATIENCE_S

GROUP_TIMEOUT = timedelta(seconds=PATIENCE_S)
"""How long workers wait for each other."""

_CONTEXT = multiprocessing.get_context("forkserver")
# The first optimizer of a process imports torch._dynamo, the problem that workers solve is scikit-learn's, and their
# graphs are networkx's: each import takes longer than most of these runs.
_CONTEXT.set_forkserver_preload(
    ["torch", "torch._dynamo", "networkx", "sklearn.datasets", "sgp_core.gossip", "sgp_core.training.loop"]
)


def run_workers(
    world_size: int,
    function: Callable[..., Any],
    *args: Any,
    killed: Collection[int] = (),
    context: Any = _CONTEXT,
) -> list[Any]:
    """Run ``function(*args)`` in ``world_size`` workers of one gloo group and return what each returned.

    ``function`` must be importable. A failure in any worker fails the test with that worker's traceback. Ranks in
    ``killed`` do not live to return anything. ``context`` is how processes start.
    """
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_main, args=(rank, world_size, folder, function, args, not killed), daemon=True)
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        try:
            end = time.monotonic() + LONG_PATIENCE_S
            for process in processes:
                process.join(max(0.0, end - time.monotonic()))
        finally:
            hung = [rank for rank, process in enumerate(processes) if process.is_alive()]
            for process in processes:
                process.kill()
        errors = [path.read_text() for path in sorted(Path(folder).glob("error-*"), key=os.path.getmtime)]
        assert not errors, "\n".join(errors)
        assert not hung, f"ranks {hung} did not finish in {LONG_PATIENCE_S:.0f} s"
        found = [Path(folder, f"result-{rank}") for rank in range(world_size) if rank not in killed]
        return [torch.load(path, weights_only=False) for path in found]


def _main(
    rank: int, world_size: int, folder: str, function: Callable[..., Any], args: tuple[Any, ...], together: bool
) -> None:
    gc.freeze()  # what the server had loaded need not be looked through, nor copied
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    try:
        store = dist.FileStore(str(Path(folder, "store")), world_size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=GROUP_TIMEOUT)
        result = function(*args)
        torch.save(result, Path(folder, f"result-{rank}"))
        if together:
            dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        Path(folder, f"error-{rank}").write_text(f"rank {rank}:\n{traceback.format_exc()}")
        raise

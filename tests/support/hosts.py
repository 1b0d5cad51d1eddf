"""Several hosts on one: workers are told where they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from sgp_core.distributed import host_memory


@contextmanager
def on_hosts(hosts: str) -> Iterator[None]:
    """Let each worker be on the host whose letter stands at its rank."""
    kept, host_memory.host_id = host_memory.host_id, lambda: hosts[dist.get_rank()]
    try:
        yield
    finally:
        host_memory.host_id = kept

"""The stores through which the workers of one attempt find each other."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.system import network_interface
from sgp_core.atomic_files import read_json, write_json
from sgp_core.errors import PeerLost

if TYPE_CHECKING:
    from torch.distributed import Store

_POLL_S = 0.05


def store_on_one_machine(folder: Path, world_size: int) -> Store:
    """Return a store in a file of this attempt. It needs no port, so it cannot collide with another run."""
    from torch.distributed import FileStore

    return FileStore(str(folder / "rendezvous"), world_size)


def store_across_machines(folder: Path, rank: int, world_size: int, interface: str | None, timeout: timedelta) -> Store:
    """Return a store that rank 0 serves on a free port, which it announces in the shared folder.

    Raises:
        PeerLost: rank 0 has not announced its address in time.
    """
    from torch.distributed import TCPStore

    note = folder / "rendezvous.json"
    if rank == 0:
        host = network_interface.find_address(interface)
        store = TCPStore(host, 0, world_size, is_master=True, timeout=timeout, wait_for_workers=False)
        write_json(note, {"host": host, "port": store.port})
        return store
    address = _wait_for(note, rank, timeout)
    host, port = str(address["host"]), int(address["port"])
    return TCPStore(host, port, world_size, is_master=False, timeout=timeout, wait_for_workers=False)


def _wait_for(note: Path, rank: int, timeout: timedelta) -> dict[str, Any]:
    end = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < end:
        if note.name in os.listdir(note.parent):  # makes NFS ask its server; opening the file may not
            address = read_json(note)
            if address is not None:
                return address
        time.sleep(_POLL_S)
    raise PeerLost(f"rank 0 has not announced its address in {note}", rank=rank, peers=[0])

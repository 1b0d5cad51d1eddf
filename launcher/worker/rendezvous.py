"""The stores through which the workers of one attempt find each other."""

from __future__ import annotations

import errno
import hmac
import json
import logging
import os
import secrets
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.system import network_interface
from sgp_core.atomic_files import read_json, replace_file
from sgp_core.errors import PeerLost

if TYPE_CHECKING:
    from torch.distributed import Store

_POLL_S = 0.05
_BACKLOG = 4096
"""Workers that may ask to be let in at one moment; the system's own limit holds besides."""
_PROOF = "secret"
"""Key under which rank 0 proves that it has the secret."""


def store_on_one_machine(folder: Path, world_size: int) -> Store:
    """Return a store in a file of this attempt. It needs no port, so it cannot collide with another run."""
    from torch.distributed import FileStore

    return FileStore(str(folder / "rendezvous"), world_size)


def store_across_machines(folder: Path, rank: int, world_size: int, interface: str | None, timeout: timedelta) -> Store:
    """Return a store that rank 0 serves on a free port, which it announces in the shared folder with a secret.

    The port is open to the network of ``interface`` alone. torch's store lets in whoever connects, so all keys lie
    under a prefix that follows from the secret, and a worker goes on only if the store proves that it has the secret.
    Who cannot read the note therefore changes and reads nothing by mistake. Nothing is encrypted: who attacks on
    purpose can list the keys, so the network must be one that only trusted machines are in.

    Raises:
        PeerLost: rank 0 has not announced its address in time, or something else answers there.
    """
    from torch.distributed import PrefixStore, TCPStore

    note = folder / "rendezvous.json"
    if rank == 0:
        host, secret = network_interface.find_address(interface), secrets.token_hex(32)
        listener = _listen(host)
        port = listener.getsockname()[1]
        opened = listener.detach()
        served = TCPStore(
            host, port, world_size, True, timeout=timeout, wait_for_workers=False, master_listen_fd=opened
        )
        store = PrefixStore(_derive(secret, "prefix"), served)
        store.set(_PROOF, _derive(secret, _PROOF))
        _write_for_owner(note, {"host": host, "port": port, "secret": secret})
        return store
    address = _wait_for(note, rank, timeout)
    host, port, secret = str(address["host"]), int(address["port"]), str(address["secret"])
    joined = TCPStore(host, port, world_size, is_master=False, timeout=timeout, wait_for_workers=False)
    store = PrefixStore(_derive(secret, "prefix"), joined)
    if not store.check([_PROOF]) or store.get(_PROOF).decode() != _derive(secret, _PROOF):
        raise PeerLost(f"the store at {host}:{port} is not that of this attempt, {note}", rank=rank, peers=[0])
    return store


def _listen(host: str) -> socket.socket:
    """Return a socket that listens at one address of this machine, or at all if its name stands for none of them."""
    try:
        return socket.create_server((host, 0), backlog=_BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        logging.getLogger(__name__).warning(
            "%s is no address of this machine, so the store of this run listens on all networks;"
            " cluster.network=<interface> would choose one",
            host,
        )
        return socket.create_server(("", 0), backlog=_BACKLOG)


def _derive(secret: str, purpose: str) -> str:
    return hmac.new(bytes.fromhex(secret), purpose.encode(), "sha256").hexdigest()


def _write_for_owner(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that only its owner may read, whatever the umask."""
    with replace_file(path) as temporary, open(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump(content, file)


def _wait_for(note: Path, rank: int, timeout: timedelta) -> dict[str, Any]:
    end = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < end:
        if note.name in os.listdir(note.parent):  # makes NFS ask its server; opening the file may not
            address = read_json(note)
            if address is not None:
                return address
        time.sleep(_POLL_S)
    raise PeerLost(f"rank 0 has not announced its address in {note}", rank=rank, peers=[0])

"""The store of workers on several machines: open to one network, and of use only to who can read the run's folder."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from torch.distributed import Store, TCPStore

from launcher.worker.rendezvous import store_across_machines
from sgp_core.errors import PeerLost

PATIENCE = timedelta(seconds=20)


def join(folder: Path, rank: int) -> Store:
    return store_across_machines(folder, rank, 2, "lo", PATIENCE)


def test_workers_share_what_a_stranger_neither_reads_nor_changes(tmp_path: Path) -> None:
    first = join(tmp_path, 0)
    note = json.loads((tmp_path / "rendezvous.json").read_text())
    assert stat.S_IMODE((tmp_path / "rendezvous.json").stat().st_mode) == 0o600
    listening = [c.laddr.ip for c in psutil.Process().net_connections("tcp") if c.laddr.port == note["port"]]
    assert set(listening) == {"127.0.0.1"}

    second = join(tmp_path, 1)
    second.set("model", "ours")
    stranger = TCPStore("127.0.0.1", note["port"], is_master=False, timeout=PATIENCE)
    assert not stranger.check(["model"])
    stranger.set("model", "theirs")
    assert first.get("model") == b"ours"
    assert not any(note["secret"] in key for key in stranger.list_keys())


def test_a_store_that_is_not_that_of_the_run_is_refused(tmp_path: Path) -> None:
    first = join(tmp_path, 0)
    note = json.loads((tmp_path / "rendezvous.json").read_text())
    (tmp_path / "rendezvous.json").write_text(json.dumps({**note, "secret": "00" * 32}))
    with pytest.raises(PeerLost, match="is not that of this attempt"):
        join(tmp_path, 1)
    assert first.num_keys() > 0

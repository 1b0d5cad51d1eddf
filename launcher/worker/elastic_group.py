"""A worker's part in an elastic run: how it finds the others, and what it records of who comes and goes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.config.clusters import SlurmCluster
from launcher.runs.membership import MembershipFiles
from launcher.runs.run_folder import RunFolder
from launcher.system import network_interface
from sgp_core.atomic_files import read_json
from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from launcher.config.run_plan import RunPlan
    from launcher.worker.device_setup import Place
    from sgp_core.elastic import Change, ElasticGroup

_SECRET = "secret"


class MembershipLog:
    """What a member knows of the others; the first of them writes it to ``members.jsonl``.

    Args:
        on_join: called once, when this worker becomes a member.
    """

    def __init__(
        self, folder: RunFolder, attempt: int, rank: int, world_size: int, on_join: Callable[[], None]
    ) -> None:
        self._folder, self._attempt, self.rank = folder, attempt, rank
        self._file = MembershipFiles(folder.attempt(attempt)).members
        self._members = dict.fromkeys(range(world_size), -1)
        """The members, each with the step that it began with."""
        self._processes: dict[int, int | None] = {}
        self._on_join = on_join
        self._lock = threading.Lock()
        self.joined = False
        """Whether this worker is, or was, a member."""

    def speaks(self, step: int | None = None) -> bool:
        """Whether this worker writes what concerns all: it has the lowest rank of the members.

        Args:
            step: the number of steps taken; a member that begins only then does not speak yet. None: at present.
        """
        members = list(self._members.items())
        there = [rank for rank, since in members if step is None or since < step]
        return self.joined and self.rank == min(there, default=self.rank)

    def begin(self) -> None:
        """Take note that this worker is one of those that began the run."""
        with self._lock:
            self._note_processes(self._members)
            self._join()

    def note(self, change: Change) -> None:
        """Take note of a change: called in every member, from a thread of the group."""
        with self._lock:
            known, gone = self._members, change.left
            since = {
                rank: change.first_step if rank in change.joined else known.get(rank, -1) for rank in change.members
            }
            self._members = {rank: step for rank, step in since.items() if rank not in gone}
            if self.rank in self._members and not self.joined:
                self._note_processes(self._members)
                self._join()
            self._note_processes(rank for rank in self._members if rank in change.joined)
            if self.speaks():
                self._write(change)
            for rank in change.left:
                self._processes.pop(rank, None)

    def _join(self) -> None:
        if not self.joined:
            self.joined = True
            self._on_join()

    def _note_processes(self, ranks: Iterable[int]) -> None:
        """Remember the processes of members: once a worker is gone, its report may be that of its replacement."""
        for rank in ranks:
            report = read_json(self._folder.rank(rank)) or {}
            self._processes[rank] = report.get("pid") if report.get("attempt") == self._attempt else None

    def _write(self, change: Change) -> None:
        whose: list[tuple[str, int, str | None]] = [("left", rank, reason) for rank, reason in change.left.items()]
        whose += [("joined", rank, None) for rank in change.joined]
        lines: list[dict[str, Any]] = [
            {"event": event, "rank": rank, "reason": reason, "pid": self._processes.get(rank)}
            for event, rank, reason in whose
        ]
        lines = lines or [{"event": "members", "rank": None, "reason": None, "pid": None}]
        common = {"time": time.time(), "step": change.step, "epoch": change.epoch}
        text = "".join(json.dumps({**common, **line, "members": sorted(self._members)}) + "\n" for line in lines)
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(text)


def form_group(plan: RunPlan, place: Place, attempt: Path, log: MembershipLog) -> ElasticGroup:
    """Return the group of this worker, once it is linked to the others.

    Args:
        attempt: the folder of the attempt, which all workers share.

    Raises:
        ConfigurationError: the file system has no locks, or this machine no such network.
    """
    from torch.distributed import FileStore

    from sgp_core.elastic import ElasticGroup

    cluster = plan.cluster
    host = "127.0.0.1"
    if isinstance(cluster, SlurmCluster):
        host = network_interface.find_address(network_interface.choose_interface(cluster.network))
    secret = share_secret(attempt)
    check_locks(attempt / _SECRET)
    store = FileStore(str(attempt / "members"), -1)  # -1: it is not removed when workers leave
    return ElasticGroup(
        store,
        place.rank,
        place.world_size,
        host=host,
        secret=secret,
        patience_s=cluster.elastic_patience_s,
        start_s=cluster.process_group_timeout_s,
        on_change=log.note,
    )


def share_secret(attempt: Path) -> str:
    """Return the secret of an attempt, by which its workers know each other. The first who asks makes it."""
    path = attempt / _SECRET
    if not path.exists():
        secret = secrets.token_hex(32)
        draft = path.with_name(f".{_SECRET}.{secret[:16]}.tmp")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secret)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename it leaves the secret of another worker, which was faster
        draft.unlink()
    return path.read_text(encoding="ascii")


def check_locks(path: Path) -> None:
    """Refuse a file system without locks: members would overwrite what others have written.

    Raises:
        ConfigurationError: there are none.
    """
    try:
        with open(path, "r+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except OSError as error:
        raise ConfigurationError(
            f"cluster.elastic=true needs a runs_dir with file locks, and {path.parent} has none ({error.strerror})"
        ) from error

"""One short text for each member of a group, which the member overwrites and all others read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import torch.distributed as dist

from sgp_core.errors import ConfigurationError

_TIMEOUT = timedelta(seconds=10)


class MemberRecords(Protocol):
    """A text for each member. RuntimeError or OSError from all methods if the store is gone."""

    def write(self, member: str, text: str) -> None:
        """Replace the text of a member."""

    def read(self, members: Iterable[str]) -> dict[str, str]:
        """Return the texts of members, without those that have written none. Asks the store in any case."""


def member_records(store: dist.Store) -> MemberRecords:
    """Return records of the members that share a store, over a connection of their own.

    Raises:
        ConfigurationError: the store has no second connection, so one blocked call would block all.
        RuntimeError: the store is gone.
    """
    try:
        connection = store.clone()
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        raise ConfigurationError(
            f"{type(store).__name__} cannot be cloned for a heartbeat; use a TCPStore or a FileStore"
        ) from error
    connection.set_timeout(_TIMEOUT)
    inner = getattr(connection, "_underlying_non_prefix_store", connection)
    if isinstance(inner, dist.FileStore):
        return _FileRecords(connection, inner.path)  # type: ignore[attr-defined]
    return _StoreRecords(connection)


class _StoreRecords:
    def __init__(self, store: dist.Store) -> None:
        self._store = store
        self._known: set[str] = set()  # keys that there are: asking for another one blocks

    def write(self, member: str, text: str) -> None:
        self._store.set(member, text)

    def read(self, members: Iterable[str]) -> dict[str, str]:
        members = list(members)
        self._known.update(member for member in members if member not in self._known and self._store.check([member]))
        known = [member for member in members if member in self._known]
        return dict(zip(known, (text.decode() for text in self._store.multi_get(known)), strict=True)) if known else {}


class _FileRecords:
    """Files beside that of a FileStore, which keeps every value that it was ever given, and is locked to be read.

    Args:
        store: says which name the files have, the same for all members.
        path: of the store's own file.
    """

    def __init__(self, store: dist.Store, path: str) -> None:
        token = secrets.token_hex(4)
        token = store.compare_set("records", "", token).decode() or token
        self._base = Path(f"{path}.{token}")

    def write(self, member: str, text: str) -> None:
        file = os.open(self._path(member), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            content = f"{text}\n".encode()
            os.pwrite(file, content, 0)  # one write of one block: a reader gets all of it, in practice
            os.ftruncate(file, len(content))
        finally:
            os.close(file)

    def read(self, members: Iterable[str]) -> dict[str, str]:
        return {member: text for member in members if (text := self._read(member)) is not None}

    def _read(self, member: str) -> str | None:
        try:
            return self._path(member).read_text().partition("\n")[0]
        except FileNotFoundError:
            return None

    def _path(self, member: str) -> Path:
        return self._base.with_name(f"{self._base.name}.{member}")

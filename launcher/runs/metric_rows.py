"""Rows of ``metrics.jsonl``, read while the file is being written: the latest of each split, and all evaluations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import open_file

Row = Mapping[str, Any]
"""One row of ``metrics.jsonl``."""

_BLOCK = 1 << 15
_FAR_ENOUGH = 1 << 20
"""How many bytes at the end of the file are searched for the latest row of a split."""


def last_rows(path: Path, splits: tuple[str, ...] = ("train", "val")) -> dict[str, Row]:
    """Return the latest row of each split; a split without a row near the end of the file is left out."""
    found: dict[str, Row] = {}
    for line in _lines_from_the_end(path):
        if any(split not in found and f'"{split}"'.encode() in line for split in splits):
            row = _row(line)
            split = row.get("split")
            if split in splits:
                found.setdefault(str(split), row)
                if len(found) == len(splits):
                    break
    return found


def validations(path: Path) -> list[Row]:
    """Return every validation row, in the order of the file; none if it cannot be read."""
    try:
        status = path.stat()
        return list(_validations(path.absolute(), status.st_mtime_ns, status.st_size))
    except OSError:
        return []


@lru_cache(maxsize=256)  # sgp status --watch looks every second, mostly at files that have not changed
def _validations(path: Path, changed_ns: int, size: int) -> tuple[Row, ...]:
    with open_file(path) as file:
        return tuple(row for line in file if b'"val"' in line and (row := _row(line)).get("split") == "val")


def _row(line: bytes) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _lines_from_the_end(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file, the last one first."""
    try:
        with open_file(path) as file:
            at = os.fstat(file.fileno()).st_size
            start = max(0, at - _FAR_ENOUGH)
            rest, torn = b"", True
            while at > start:
                size = min(_BLOCK, at - start)
                at -= size
                file.seek(at)
                first, *lines = (file.read(size) + rest).split(b"\n")
                if lines and torn:
                    lines, torn = lines[:-1], False  # the writer is still at the last line
                yield from reversed(lines)
                rest = first
            if at == 0 and rest and not torn:
                yield rest
    except OSError:
        return

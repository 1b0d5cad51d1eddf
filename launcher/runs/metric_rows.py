"""What a run has measured so far, read from the ends of its files: they may be long, and are being written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.runs.json_fields import number

Row = Mapping[str, Any]

SCORES = ("accuracy", "bleu", "perplexity")
"""What validation measures besides the loss, whichever the task has."""

_BLOCK = 1 << 15
_FAR_ENOUGH = 1 << 20
"""Bytes from the end in which the latest row of a split is looked for."""


def last_rows(path: Path, splits: tuple[str, ...] = ("train", "val")) -> dict[str, Row]:
    """Return the latest row of each split, as far as there is one near the end of the file."""
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
    """Return every validation row."""
    found = []
    try:
        with open(path, "rb") as file:
            for line in file:
                if b'"val"' in line and (row := _row(line)).get("split") == "val":
                    found.append(row)
    except OSError:
        return found
    return found


def best_of(rows: Sequence[Row], metric: str, *, smallest: bool) -> tuple[Row, float] | None:
    """Return the row that is best by a score, the earliest of equals, and that score.

    Args:
        smallest: whether small values are good ones.
    """
    scored = [(row, value) for row in rows if (value := score(row, metric)) is not None]
    if not scored:
        return None
    return (min if smallest else max)(scored, key=lambda pair: pair[1])


def usual_metric(rows: Iterable[Row]) -> str:
    """Return the score by which runs are compared unless another is named: the first of all that was measured."""
    rows = list(rows)
    return next((name for name in SCORES if any(score(row, name) is not None for row in rows)), SCORES[0])


def score(row: Row, metric: str) -> float | None:
    """Return a score of the averaged model, else of the replicas' mean where only those are evaluated."""
    value = number(row.get(metric))
    return number(row.get(f"{metric}_local_mean")) if value is None else value


def lower_is_better(metric: str) -> bool:
    """Whether small values of a score are good ones."""
    return any(word in metric for word in ("loss", "perplexity", "distance", "time", "error"))


def _row(line: bytes) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _lines_from_the_end(path: Path) -> Iterator[bytes]:
    """Yield complete lines, the last one first."""
    try:
        with open(path, "rb") as file:
            at = os.fstat(file.fileno()).st_size
            start = max(0, at - _FAR_ENOUGH)
            rest, torn = b"", True
            while at > start:
                size = min(_BLOCK, at - start)
                at -= size
                file.seek(at)
                first, *lines = (file.read(size) + rest).split(b"\n")
                if lines and torn:
                    lines, torn = lines[:-1], False  # what follows the last end of line is being written
                yield from reversed(lines)
                rest = first
            if at == 0 and rest and not torn:
                yield rest
    except OSError:
        return

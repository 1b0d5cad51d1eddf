"""What data hold, as facts that are kept and compared later: what has changed is said. Imports without torch."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import read_json, write_json

_LOGGER = logging.getLogger(__name__)


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what is different, as the end of a sentence: empty if nothing is.

    Args:
        before: facts as those of :meth:`sgp_core.tasks.base.Task.content`; what either has not is passed over.
        now: likewise.
    """
    both = [name for name in now if name in before and before[name] != now[name]]
    counts = [f"{now[name]} {name}, not {before[name]}" for name in both if name != "content"]
    return ", ".join(counts) or ("other content" if both else "")


def say_changes(folder: Path, where: str, content: Mapping[str, Any], *options: object) -> None:
    """Log a warning if the data at ``where`` are not what they were when this was called last, and keep what they are.

    Damage that leaves a valid file behind shows in no other way.

    Args:
        folder: of the cache, where facts are kept.
        where: the path of the data.
        content: the facts.
        options: what the facts depend on beside the data.
    """
    key = hashlib.sha256(repr((where, *options)).encode("utf-8", "backslashreplace")).hexdigest()[:24]
    record = folder / f"{key}.json"
    before = read_json(record) or {}
    kept = before.get("content")
    if kept == content:
        return
    if isinstance(kept, dict) and (changes := describe_changes(kept, content)):
        _LOGGER.warning("%s is not what it was when it was read on %s: %s", where, before.get("time"), changes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(record, {"path": where, "time": time.strftime("%Y-%m-%d %H:%M"), "content": content})
    except OSError as error:
        _LOGGER.info("%s cannot be written, so a change of %s may go unnoticed: %s", record, where, error)

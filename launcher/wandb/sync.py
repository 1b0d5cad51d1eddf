"""Bringing what a run recorded to Weights & Biases after the fact: exactly the record, once, whatever happened."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.wandb.run import mirrored_ranks, record_of, wandb_tracker
from sgp_core.tracking.fragments import Fragments
from sgp_core.tracking.jsonl import read_rows


@dataclass(frozen=True)
class Upload:
    """One run in Weights & Biases that is to be uploaded."""

    spec: Mapping[str, Any]
    folder: Path
    rank: int
    rebuild: bool
    """Its offline files are not the whole record: the run was killed, or the mirror failed."""

    @property
    def fragments(self) -> Fragments:
        """Its offline files."""
        return Fragments(self.folder, self.spec["run_id"] + (f"-rank{self.rank}" if self.rank else ""))


@dataclass(frozen=True)
class Uploaded:
    """How an upload ended."""

    url: str | None = None
    error: str | None = None


def uploads(spec: Mapping[str, Any], folder: Path, *, live: bool) -> list[Upload]:
    """Return what of a run the server does not have yet.

    Args:
        live: the run is waiting or going on: its files are taken as they are.
    """
    if spec["tracker"].get("mode") == "disabled":
        return []
    found = []
    for rank in mirrored_ranks(spec):
        upload = Upload(spec, folder, rank, rebuild=False)
        record = record_of(folder, rank)
        rows = len(read_rows(record)) if record.exists() else 0
        state, fragments = upload.fragments.state(), upload.fragments.current()
        if live:
            found += [upload] if fragments else []
        elif not rows:
            continue
        elif state.get("rows") != rows or not (fragments or state.get("url")):
            found.append(Upload(spec, folder, rank, rebuild=True))
        elif not state.get("url") and not upload.fragments.synced():
            found.append(upload)
    return found


def perform(upload: Upload, state: str, summary: dict[str, Any], timeout: float) -> Uploaded:
    """Upload one run, after making its offline files anew where they are not whole.

    Args:
        state: how the run ended.
    """
    if upload.rebuild:
        tracker = wandb_tracker(upload.spec, upload.folder, upload.rank, mode="offline")
        tracker.replay(state, summary)
        if not upload.fragments.state():
            return Uploaded(error="its files could not be written")
    files = upload.fragments.current()
    for file in files:
        for marker in file.glob("*.wandb.synced"):  # of a run that is still going on
            marker.unlink()
    command = [sys.executable, "-m", "wandb", "sync", *map(str, files)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=timeout, errors="replace", check=False)
    except subprocess.TimeoutExpired:
        return Uploaded(error=f"no end after {timeout:g} s; is there a network?")
    said = answer.stdout + answer.stderr
    if not upload.fragments.synced():  # its exit code does not tell
        errors = [line.partition("ERROR")[2].strip() for line in said.splitlines() if "ERROR" in line]
        return Uploaded(error=f"wandb sync: {next(filter(None, errors), 'it was refused')}")
    link = re.search(r"View run.* at (https?://\S+)", said)
    return Uploaded(url=link.group(1) if link else None)

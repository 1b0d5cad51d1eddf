"""Uploading a run's record to Weights & Biases after the fact: exactly the record, and once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config.trackers import WandbOptions, tracker_in_spec
from launcher.wandb.run import mirrored_ranks, record_of, wandb_tracker
from sgp_core.tracking.fragments import Fragments
from sgp_core.tracking.jsonl import read_rows


@dataclass(frozen=True)
class Upload:
    """A run in Weights & Biases that has to be uploaded."""

    spec: Mapping[str, Any]
    folder: Path
    rank: int
    rebuild: bool
    """Whether its offline files lack rows of the record: the run was killed, or the mirror failed."""

    @property
    def fragments(self) -> Fragments:
        """Its offline files, as W&B wrote them."""
        return Fragments(self.folder, self.spec["run_id"] + (f"-rank{self.rank}" if self.rank else ""))


@dataclass(frozen=True)
class Uploaded:
    """How an upload ended."""

    url: str | None = None
    error: str | None = None


def uploads(spec: Mapping[str, Any], folder: Path, *, live: bool) -> list[Upload]:
    """Return the parts of a run that the server does not have yet.

    Args:
        live: whether the run has not ended; its files are then uploaded as they are.
    """
    if (tracker_in_spec(spec, WandbOptions.name) or {}).get("mode") == "disabled":
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
    """Upload one run. Offline files that are incomplete are first rebuilt from the record.

    Args:
        state: status of the run.
        timeout: seconds that the upload may take.
    """
    if upload.rebuild:
        tracker = wandb_tracker(upload.spec, upload.folder, upload.rank, mode="offline")
        tracker.replay(state, summary)
        if not upload.fragments.state():
            return Uploaded(error="the offline files could not be rebuilt")
    files = upload.fragments.current()
    for file in files:
        for marker in file.glob("*.wandb.synced"):  # by an earlier upload, of a run that had not ended
            marker.unlink()
    command = [sys.executable, "-m", "wandb", "sync", *map(str, files)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=timeout, errors="replace", check=False)
    except subprocess.TimeoutExpired:
        return Uploaded(error=f"not finished after {timeout:g} s; is there a network?")
    output = answer.stdout + answer.stderr
    if not upload.fragments.synced():  # its exit code is 0 even where it failed
        errors = [line.partition("ERROR")[2].strip() for line in output.splitlines() if "ERROR" in line]
        return Uploaded(error=f"wandb sync: {next(filter(None, errors), 'the server refused it')}")
    link = re.search(r"View run.* at (https?://\S+)", output)
    return Uploaded(url=link.group(1) if link else None)

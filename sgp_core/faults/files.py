"""Disks that are full, and checkpoints that are damaged."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgp_core.errors import ConfigurationError
from sgp_core.faults.base import FAULTS, Moment, StepFault
from sgp_core.validation import positive

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@FAULTS.register("disk_full")
@dataclass(frozen=True, kw_only=True)
class FullDisk(StepFault):
    """Nothing can be written below a folder: writing fails with ENOSPC, as on a full disk.

    Files are refused where Python code opens them to write. What is open already is replaced by ``/dev/full``.

    Args:
        below: the folder; None: that of the run.
        for_: seconds until files can be opened again; None: never.
    """

    below: str | None = None
    for_: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.for_ is not None:
            positive("disk_full: for", self.for_)

    def strike(self, moment: Moment) -> None:
        folder = moment.target.folder if self.below is None else Path(self.below)
        if folder is None:
            raise ConfigurationError("fault 'disk_full': below must name a folder, as there is no run folder")
        root = os.path.join(os.path.realpath(folder), "")
        until = None if self.for_ is None else time.monotonic() + self.for_

        def refuse(event: str, arguments: tuple[Any, ...]) -> None:
            if (event == "open" and arguments[2] & _WRITES) or event == "os.mkdir":
                if until is not None and time.monotonic() > until:
                    return
                path = arguments[0]
                if isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(root):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))

        if until is None:
            _fill_open_files(root)
        sys.addaudithook(refuse)


def _fill_open_files(root: str) -> None:
    """Let further writes to files below ``root`` fail that this process has open."""
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with suppress(OSError, ValueError):
            opened = os.readlink(f"/proc/self/fd/{name}")
            flags = int(Path(f"/proc/self/fdinfo/{name}").read_text().split("flags:")[1].split()[0], 8)
            if opened.startswith(root) and flags & (os.O_WRONLY | os.O_RDWR) and int(name) > 2:
                full = os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC)
                os.dup2(full, int(name), inheritable=False)
                os.close(full)


@FAULTS.register("corrupt_checkpoint")
@dataclass(frozen=True, kw_only=True)
class CorruptCheckpoint(StepFault):
    """Bytes in the middle of the worker's part of the newest checkpoint are turned over."""

    def strike(self, moment: Moment) -> None:
        folder = moment.target.folder
        if folder is None:
            raise ConfigurationError("fault 'corrupt_checkpoint' needs a run folder")
        steps = [manifest.parent for manifest in folder.glob("checkpoints/step-*/manifest.json")]
        if not steps:
            return  # there is none yet
        newest = max(steps, key=lambda step: int(step.name.removeprefix("step-")))
        for shard in newest.glob(f"rank-{moment.target.rank}.*"):
            with open(shard, "r+b") as file:
                file.seek(shard.stat().st_size // 2)
                content = file.read(16)
                file.seek(-len(content), os.SEEK_CUR)
                file.write(bytes(byte ^ 0xFF for byte in content))

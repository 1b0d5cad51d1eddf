"""Writing tensors to a file, with its size and checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sgp_core.atomic_files import replace_file


def write_tensors(path: Path, content: Any) -> tuple[int, str]:
    """Write nested tensors with torch.save, durably and atomically; return size in bytes and SHA-256 of the file.

    Raises:
        OSError: what the file system said.
    """
    with replace_file(path, durable=True) as temporary, open(temporary, "wb") as file:
        sink = _HashingFile(file)
        try:
            torch.save(content, sink)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise sink.error or error from None  # torch hides what the file system said
        file.flush()
    return sink.bytes, sink.digest.hexdigest()


class _HashingFile:
    """A file that computes the checksum of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()

"""Files of checkpoints: tensors written whole or not at all, with a checksum that tells damage.

Imports without torch: the launcher reads and writes manifests.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sgp_core.atomic_files import replace_file

CHECKSUM = "checksum"
"""The key of a manifest under which its own checksum is."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which and why."""


@dataclass(frozen=True)
class CheckpointShard:
    """One rank's file in a checkpoint."""

    file: str
    bytes: int
    sha256: str


def write_shard(path: Path, content: Any) -> CheckpointShard:
    """Write nested tensors with torch.save, durably and atomically.

    Raises:
        OSError: what the file system said.
        RuntimeError: something cannot be saved.
    """
    with replace_file(path, durable=True) as temporary, open(temporary, "wb") as file:
        import torch

        sink = _HashingFile(file)
        try:
            torch.save(content, sink)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise sink.error or error from None  # torch hides what the file system said
        file.flush()
    return CheckpointShard(path.name, sink.bytes, sink.digest.hexdigest())


def read_shard(folder: Path, shard: CheckpointShard) -> Any:
    """Return what :func:`write_shard` wrote, tensors on the CPU.

    Raises:
        CheckpointError: the file is missing, or its size or checksum is another.
    """
    import torch

    path = folder / shard.file
    if path.exists() and not path.is_file():  # to open a pipe would wait for ever
        raise CheckpointError(f"{path} is not a file")
    try:
        with open(path, "rb") as file:
            size, digest = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
            if (size, digest) != (shard.bytes, shard.sha256):
                raise CheckpointError(f"{path} is damaged: its size or checksum is not the manifest's")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # what torch raises at a file that was made otherwise is of many types
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).strip().partition("\n")[0]
        raise CheckpointError(f"cannot read {path}: {reason}") from error


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a manifest with its checksum."""
    bare = {key: value for key, value in content.items() if key != CHECKSUM}
    return {**bare, CHECKSUM: _checksum(bare)}


def has_valid_seal(content: Mapping[str, Any]) -> bool:
    """Whether the content is what was sealed. Manifests of version 0.1 and before have no seal, which is valid, too."""
    bare = {key: value for key, value in content.items() if key != CHECKSUM}
    return CHECKSUM not in content or content[CHECKSUM] == _checksum(bare)


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


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

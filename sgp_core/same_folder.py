"""Whether a path still leads to the folder that it led to: others may remove or rename it, and make another there."""

from __future__ import annotations

import errno
from pathlib import Path


class FolderGone(OSError):
    """A folder that is being written to was removed, renamed or replaced."""

    def __str__(self) -> str:
        return f"{self.strerror}: {self.filename}"


class SameFolder:
    """Remembers which folder is at ``path`` now; one that is not there yet is remembered at the first check."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._identity = self._look()

    def is_there(self) -> bool:
        """Whether it is still there."""
        found = self._look()
        self._identity = self._identity or found
        return found == self._identity

    def check(self) -> None:
        """Refuse to go on in another folder.

        Raises:
            FolderGone: the folder is not there any more.
        """
        if not self.is_there():
            raise FolderGone(
                errno.ENOENT, "the folder was removed, renamed or replaced while a run wrote to it", str(self.path)
            )

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino

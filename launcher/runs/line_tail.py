"""Files of JSON lines that grow: what was added since the last look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import open_file


class LineTail:
    """Reads the JSON objects that were added to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def objects(self) -> Iterator[dict[str, Any]]:
        """Yield the objects of new complete lines; a line that holds none is passed over."""
        try:
            with open_file(self._path) as file:
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return
        complete = new[: new.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                yield found

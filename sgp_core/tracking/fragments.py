"""The offline files of one Weights & Biases run: always one complete fragment, never pieces.

``wandb sync`` uploads a fragment from its first line and replaces what the server has of that run. Of several pieces,
the last would replace the others. So a resumed attempt writes everything anew, from the record.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import write_json

_REPLACED = "replaced"


@dataclass(frozen=True)
class Fragments:
    """The fragments of the run ``run_id`` in ``directory/wandb``."""

    directory: Path
    run_id: str

    @property
    def folder(self) -> Path:
        """Where Weights & Biases writes."""
        return self.directory / "wandb"

    def current(self) -> list[Path]:
        """Return the folders of offline data, oldest first; more than one only while they are being replaced."""
        return self._in(self.folder)

    def synced(self) -> bool:
        """Whether the fragments that are there have been uploaded."""
        return bool(self.current()) and all(any(one.glob("*.wandb.synced")) for one in self.current())

    def set_aside(self, keep: Path | None) -> None:
        """Move all but ``keep`` where ``wandb sync`` does not look. They are kept until the new one is complete."""
        replaced = self.folder / _REPLACED
        for fragment in self.current():
            if keep is None or fragment.name != keep.name:
                replaced.mkdir(exist_ok=True)
                shutil.rmtree(replaced / fragment.name, ignore_errors=True)
                os.replace(fragment, replaced / fragment.name)

    def mark_complete(self, rows: int, url: str | None) -> None:
        """Note that the mirror holds ``rows`` rows of the record (at ``url``, or offline). Remove what it replaces."""
        for fragment in self.current():
            for marker in fragment.glob("*.wandb.synced"):  # uploaded before it was complete
                marker.unlink()
        write_json(self._note, {"rows": rows, "url": url})
        replaced = self.folder / _REPLACED
        for fragment in self._in(replaced):
            shutil.rmtree(fragment, ignore_errors=True)
        with contextlib.suppress(OSError):  # absent, or another worker's fragments are in it
            replaced.rmdir()

    def mark_incomplete(self) -> None:
        """Remove the note, because the mirror is about to differ from the record."""
        self._note.unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """Return the note; empty unless the mirror is known to be complete."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _in(self, folder: Path) -> list[Path]:
        return sorted(path.parent for path in folder.glob(f"offline-run-*/run-{self.run_id}.wandb"))

    @property
    def _note(self) -> Path:
        return self.folder / f"{self.run_id}.json"

"""The offline files of one Weights & Biases run: always one whole fragment, never pieces.

``wandb sync`` uploads a fragment from the first line on, over what the server has of that run: of several pieces the
last one would replace the others. Therefore an attempt that goes on writes everything anew, from the record.
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
    """What lies in ``directory/wandb`` of the run ``run_id``."""

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
        """Whether what is there has been uploaded, by whomever."""
        return bool(self.current()) and all(any(one.glob("*.wandb.synced")) for one in self.current())

    def set_aside(self, keep: Path | None) -> None:
        """Move all but ``keep`` out of sight of ``wandb sync``; nothing is lost should the new one never be whole."""
        replaced = self.folder / _REPLACED
        for fragment in self.current():
            if keep is None or fragment.name != keep.name:
                replaced.mkdir(exist_ok=True)
                shutil.rmtree(replaced / fragment.name, ignore_errors=True)
                os.replace(fragment, replaced / fragment.name)

    def whole(self, rows: int, url: str | None) -> None:
        """Note that the mirror holds ``rows`` rows of the record (at ``url``, or offline); what it replaces goes."""
        for fragment in self.current():
            for marker in fragment.glob("*.wandb.synced"):  # uploaded before it was complete
                marker.unlink()
        write_json(self._note, {"rows": rows, "url": url})
        replaced = self.folder / _REPLACED
        for fragment in self._in(replaced):
            shutil.rmtree(fragment, ignore_errors=True)
        with contextlib.suppress(OSError):  # not there, or another worker's are in it
            replaced.rmdir()

    def broken(self) -> None:
        """Take the note back: from now on the mirror differs from the record."""
        self._note.unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """Return the note, empty if the mirror is not known to be whole."""
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

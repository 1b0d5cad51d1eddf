"""Any text in two languages, in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.translation.datasets.text import TextDataset

if TYPE_CHECKING:
    from sgp_core.tasks.translation.text import ParallelFiles, ParallelText


@DATASETS.register("parallel_text")
@dataclass(frozen=True)
class ParallelTextFiles(TextDataset):
    """Files ``train.en``, ``train.de``, ``val.en``, ``val.de``, and ``test*``: a sentence a line, plain or .gz."""

    path: str | None = None
    """The folder."""

    def check(self) -> None:
        """Refuse a folder without the files that are needed."""
        self._files()

    def fingerprint(self) -> str:
        """Return a hash of the content of all files."""
        return self._files().fingerprint()

    def read(self) -> dict[str, ParallelText]:
        """Read every split."""
        return self._files().read()

    def _files(self) -> ParallelFiles:
        from sgp_core.tasks.translation.text import ParallelFiles

        if not self.path:
            raise ConfigurationError(
                "dataset=parallel_text needs dataset.path=FOLDER with files such as train.en, train.de, val.en, val.de"
            )
        return ParallelFiles(Path(self.path).expanduser().absolute(), self.source, self.target)

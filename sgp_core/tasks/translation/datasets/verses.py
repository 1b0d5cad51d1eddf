"""Short verses in English and Spanish, shipped with this package: a first run needs no download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.translation.datasets.text import TextDataset

if TYPE_CHECKING:
    from sgp_core.tasks.translation.text import ParallelFiles, ParallelText


@DATASETS.register("verses")
@dataclass(frozen=True)
class Verses(TextDataset):
    """1,836 pairs train, 182 validate, 191 test: verses of up to 12 words, divided by book; public domain.

    The King James Version and the Reina-Valera of 1909: old language, and little of it.
    """

    languages: ClassVar = ("en", "es")

    target: str = "es"
    """The language it is translated to."""
    vocabulary: int = 2000
    """Most tokens of the joint byte-pair encoding, learnt from the training split."""
    max_tokens: int = 1024
    """Tokens of a batch, per worker and optimizer step: pairs times the longest sentence, so padding counts."""

    def fingerprint(self) -> str:
        """Return a hash of the content of all files."""
        return self._files().fingerprint()

    def read(self) -> dict[str, ParallelText]:
        """Read every split."""
        return self._files().read()

    def _files(self) -> ParallelFiles:
        from sgp_core.tasks import text
        from sgp_core.tasks.translation.text import ParallelFiles

        return ParallelFiles(Path(text.__path__[0]) / "verses", self.source, self.target)

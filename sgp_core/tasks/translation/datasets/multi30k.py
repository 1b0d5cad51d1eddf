"""Multi30k (Elliott et al. 2016): descriptions of 31,000 photographs in English and German."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.cache import cache_root
from sgp_core.tasks.datasets import DATASETS, NOT_IDENTITY
from sgp_core.tasks.translation.datasets.text import TextDataset

if TYPE_CHECKING:
    from sgp_core.tasks.translation.text import ParallelFiles, ParallelText


@DATASETS.register("multi30k")
@dataclass(frozen=True)
class Multi30k(TextDataset):
    """29,000 pairs train, 1,014 validate; the files of its first task, such as ``train.en.gz``, are in ``path``."""

    languages: ClassVar = ("en", "de", "fr", "cs")

    path: str | None = field(default=None, metadata=NOT_IDENTITY)
    """The folder the files are in; null: sgp/multi30k/ in the user's cache folder."""

    def check(self) -> None:
        """Refuse if the files are not there."""
        self._files()

    def fingerprint(self) -> str:
        """Return a hash of the content of all files."""
        return self._files().fingerprint()

    def read(self) -> dict[str, ParallelText]:
        """Read every split."""
        return self._files().read()

    def _files(self) -> ParallelFiles:
        from sgp_core.tasks.translation.text import ParallelFiles

        folder = Path(self.path).expanduser().absolute() if self.path else cache_root() / "multi30k"
        try:
            return ParallelFiles(folder, self.source, self.target)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error}; get the files of data/task1/raw in https://github.com/multi30k/dataset "
                "and give dataset.path=FOLDER"
            ) from None

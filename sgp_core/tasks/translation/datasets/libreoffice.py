"""The help of LibreOffice in English and German: 36,000 pairs of sentences, as Debian packages it (MPL-2.0)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS, NOT_IDENTITY
from sgp_core.tasks.translation.datasets.text import TextDataset

if TYPE_CHECKING:
    from sgp_core.tasks.translation.help_pages import HelpPages
    from sgp_core.tasks.translation.text import ParallelText

_FOLDERS = {"en": "en-US", "de": "de"}


@DATASETS.register("libreoffice")
@dataclass(frozen=True)
class LibreOffice(TextDataset):
    """Sentences of 3 to 40 words, divided by page; modern, technical text, read where the packages install it."""

    languages: ClassVar = tuple(_FOLDERS)

    path: str = field(default="/usr/share/libreoffice/help", metadata=NOT_IDENTITY)
    """The folder with ``en-US`` and ``de``."""

    def check(self) -> None:
        """Refuse if the packages are not installed."""
        if not len(self._pages()):
            raise ConfigurationError(
                f"libreoffice is not in {self.path}; to get it, run: "
                "apt-get install libreoffice-help-en-us libreoffice-help-de"
            )

    def fingerprint(self) -> str:
        """Return a hash of the content of all pages."""
        self.check()
        return self._pages().fingerprint()

    def read(self) -> dict[str, ParallelText]:
        """Read every split."""
        return self._pages().read()

    def _pages(self) -> HelpPages:
        from sgp_core.tasks.translation.help_pages import HelpPages

        root = Path(self.path).expanduser().absolute()
        return HelpPages(root / _FOLDERS[self.source], root / _FOLDERS[self.target])

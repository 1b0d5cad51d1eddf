"""Documentation that Debian packages: megabytes of plain text for everybody who can install a package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS, NOT_IDENTITY
from sgp_core.tasks.language_modelling.datasets.base import DocumentDataset

if TYPE_CHECKING:
    from sgp_core.tasks.language_modelling.corpus import Document

DPKG_LISTS = Path("/var/lib/dpkg/info")
"""Where dpkg lists the files of installed packages, those included that it was told to leave out."""


@dataclass(frozen=True)
class _DebianDocs(DocumentDataset):
    package: ClassVar[str]
    """What is installed to get the text."""
    holder: ClassVar[str]
    """Pattern of the packages that it depends on, of which one has the text."""
    places: ClassVar[str]
    """Pattern of the folders that versions of the package install; the last of them is read."""
    but: ClassVar[str] = ""
    """A folder below that is left out."""

    path: str | None = field(default=None, metadata=NOT_IDENTITY)
    """The folder with the sources; null: where the package installs them."""

    def check(self) -> None:
        """Refuse if the package is not installed."""
        self._files()

    def fingerprint(self) -> str:
        """Return a hash of the content of all files."""
        from sgp_core.tasks.language_modelling.corpus import hash_files

        return hash_files(self._files())

    def read(self) -> tuple[Sequence[Document], Sequence[Document]]:
        """Read all pages; each is a document."""
        from sgp_core.tasks.language_modelling.corpus import DocumentUnit, hold_out, read_documents

        return hold_out(read_documents(self._files(), DocumentUnit.file), self.validation_share)

    def _files(self) -> list[Path]:
        from sgp_core.tasks.language_modelling.corpus import find_files

        folders = [Path(self.path).expanduser()] if self.path else sorted(Path("/").glob(self.places))
        try:
            found = find_files(str(folders[-1])) if folders else []
        except ConfigurationError:
            found = []
        files = [file for file in found if self.but not in file.parts]
        if not files:
            name, where = DATASETS.name_of(type(self)), self.path or f"/{self.places}"
            if not self.path and (lists := sorted(DPKG_LISTS.glob(f"{self.holder}.list"))):
                raise ConfigurationError(
                    f"{name} is not in {where}: its package {lists[-1].stem} is installed without its files, since this"
                    " system leaves out documentation; remove the line path-exclude=/usr/share/doc/* in"
                    f" /etc/dpkg/dpkg.cfg.d, then run: apt-get install --reinstall {lists[-1].stem}"
                )
            raise ConfigurationError(
                f"{name} is not in {where}; to get it, run: apt-get install {self.package}"
                " (dataset=text needs nothing: it reads verses that ship with this package)"
            )
        return files


@DATASETS.register("python_docs")
@dataclass(frozen=True)
class PythonDocs(_DebianDocs):
    """The documentation of Python, in reStructuredText: 11 MB, 1.4 million words with Python 3.11."""

    package: ClassVar = "python3-doc"
    holder: ClassVar = "python3.*-doc"
    places: ClassVar = "usr/share/doc/python3.*/html/_sources"


@DATASETS.register("linux_docs")
@dataclass(frozen=True)
class LinuxDocs(_DebianDocs):
    """The documentation of the Linux kernel, in reStructuredText, without translations: 21 MB, 3 million words.

    It is that of Linux 6.1; the licence is GPL-2.
    """

    package: ClassVar = "linux-doc"
    holder: ClassVar = "linux-doc-*"
    places: ClassVar = "usr/share/doc/linux-doc-*/html/_sources"
    but: ClassVar = "translations"

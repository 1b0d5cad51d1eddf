"""Parallel text in files: each line in one language has its translation in the other. Imports without torch."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import VALIDATION

TRAIN = "train"
_VALIDATION_NAMES = (VALIDATION, "valid", "validation", "dev")
"""The first of these that exists is used."""


@dataclass(frozen=True)
class ParallelText:
    """Lines in two languages: line i of one is the translation of line i of the other."""

    sources: list[str]
    targets: list[str]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.sources)


class ParallelFiles:
    """A folder with ``train.en``, ``train.de``, ``val.en``, ..., each plain or gzipped, one sentence a line.

    Every other name that both languages have and that begins with ``test`` is a test split.

    Raises:
        ConfigurationError: the folder or a file is missing.
    """

    def __init__(self, folder: Path, source: str, target: str) -> None:
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is not a folder")
        self._folder = folder
        self._languages = source, target
        tests = sorted({match[1] for path in folder.iterdir() if (match := re.match(r"(test[^.]*)\.", path.name))})
        validation = next((name for name in _VALIDATION_NAMES if self._files(name)), VALIDATION)
        names = {TRAIN: TRAIN, VALIDATION: validation} | {name: name for name in tests if self._files(name)}
        self._splits: dict[str, tuple[Path, Path]] = {}
        for split, name in names.items():
            files = self._files(name)
            if files is None:
                wanted = " and ".join(f"{name}.{language}[.gz]" for language in self._languages)
                raise ConfigurationError(f"{folder} holds no {wanted}")
            self._splits[split] = files

    def _files(self, name: str) -> tuple[Path, Path] | None:
        """Return the files of both languages, None if one is missing."""
        found = []
        for language in self._languages:
            places = (self._folder / f"{name}.{language}{end}" for end in ("", ".gz"))
            found.append(next((place for place in places if place.is_file()), None))
        source, target = found
        return None if source is None or target is None else (source, target)

    def fingerprint(self) -> str:
        """Return a hash of the content of all files."""
        digest = hashlib.sha256()
        for split, files in self._splits.items():
            for path in files:
                digest.update(f"{split} {path.suffix}\0".encode())
                digest.update(_bytes(path))
        return digest.hexdigest()

    def read(self) -> dict[str, ParallelText]:
        """Return every split, ``train`` and ``val`` first.

        Raises:
            ConfigurationError: a file is damaged, or the two files of a split differ in their number of lines.
        """
        return {split: self._read(files) for split, files in self._splits.items()}

    def _read(self, files: tuple[Path, Path]) -> ParallelText:
        sources, targets = map(_lines, files)
        if len(sources) != len(targets):
            counts = f"{len(sources)} lines and {files[1].name} has {len(targets)}"
            raise ConfigurationError(f"{files[0]} has {counts}: they do not belong together")
        return ParallelText(sources, targets)


def _lines(path: Path) -> list[str]:
    try:
        text = _bytes(path).decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text: {error}") from error
    return text.split("\n") if text else []


def _bytes(path: Path) -> bytes:
    """Return the content, decompressed."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error

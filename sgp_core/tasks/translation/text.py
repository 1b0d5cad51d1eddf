"""Parallel text in files: each line in one language has its translation in the other. Imports without torch."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import VALIDATION
from sgp_core.tasks.text.files import decode_text, open_text

TRAIN = "train"
_VALIDATION_NAMES = (VALIDATION, "valid", "validation", "dev")
"""The first of these that exists is used."""
_LONGEST_LINE = 10**6
"""Bytes of a line."""
_BLOCK = 2**20


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
        try:
            names_there = os.listdir(folder)
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be read: {error.strerror}") from error
        tests = sorted({match[1] for name in names_there if (match := re.match(r"(test[^.]*)\.", name))})
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
                with open_text(path) as file:
                    while block := file.read(_BLOCK):
                        digest.update(block)
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
    """Return the lines of a file; what is no text is refused before it fills the memory."""
    lines: list[str] = []
    with open_text(path) as file:
        while line := file.readline(_LONGEST_LINE + 1):
            lines.append(_text(line, f"{path}, line {len(lines) + 1},"))
    if lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    return [] if lines == [""] else lines


def _text(line: bytes, where: str) -> str:
    """Return a line as text, without its end."""
    if len(line) > _LONGEST_LINE:
        raise ConfigurationError(f"{where} has more than {_LONGEST_LINE // 10**6} million bytes: not a sentence a line")
    text = decode_text(line, where)
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")

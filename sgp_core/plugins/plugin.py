"""A plug-in as a run records it, and the source it consists of."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class PluginKind(StrEnum):
    """How a plug-in was found."""

    file = "file"
    module = "module"
    entry_point = "entry point"


@dataclass(frozen=True)
class Plugin:
    """A plug-in as a run records it."""

    name: str
    """What the user wrote: a file or a module; of an installed package, the module its entry point names."""
    path: str
    """Absolute path of its source: a file, or the folder of the top-level package."""
    sha256: str
    """Hash of the file, or of all ``.py`` files of the package with their names."""
    kind: PluginKind

    @property
    def module(self) -> str:
        """The name in ``sys.modules``; that of a file contains its hash, so two files may have one name."""
        if self.kind is not PluginKind.file:
            return self.name
        return f"sgp_plugin_{Path(self.path).stem}_{self.sha256[:8]}"

    def to_dict(self) -> dict[str, str]:
        """Return the plain data of a JSON file."""
        return {**dataclasses.asdict(self), "kind": self.kind.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plugin:
        """Return the plug-in that :meth:`to_dict` wrote.

        Raises:
            KeyError, ValueError: ``values`` is something else.
        """
        name, path, sha256 = (str(values[key]) for key in ("name", "path", "sha256"))
        return cls(name, path, sha256, PluginKind(values["kind"]))


def changed_sources(before: Iterable[Plugin], after: Iterable[Plugin]) -> list[str]:
    """Return the path of each plug-in in ``after`` whose hash was another in ``before``."""
    hashes = {plugin.name: plugin.sha256 for plugin in before}
    return [plugin.path for plugin in after if hashes.get(plugin.name, plugin.sha256) != plugin.sha256]


def source_files(path: Path) -> Iterator[Path]:
    """Yield the files of a plug-in's source: the file itself, or all of its package but caches and hidden ones.

    Of links that lead out of the package, those to Python source count: what else they lead to is no part of it.
    """
    if path.is_file():
        yield path
        return
    home = path.resolve()
    for file in sorted(path.rglob("*")):
        parts = file.relative_to(path).parts
        if not file.is_file() or any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        target = file.resolve()
        if target.suffix == ".py" or target.is_relative_to(home):
            yield file


def source_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all ``.py`` files of a package."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in source_files(path):
        if file.suffix == ".py":
            digest.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()

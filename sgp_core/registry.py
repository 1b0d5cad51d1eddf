"""Named choices: every topology, algorithm, model, ... is a dataclass registered under the name users type.

The fields of the dataclass are its options, so one definition serves the library, the typed command line and the docs.
Modules that register must import without torch: the launcher reads them before any worker exists.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import pkgutil
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from sgp_core.errors import ConfigurationError, did_you_mean

T = TypeVar("T")

VALUES = "values"
"""Key of field metadata: a function that returns the words that an option of type ``str`` may be."""

NOT_AN_OPTION = {"option": False}
"""Field metadata for dataclass fields that code, not the user, fills in (such as ``world_size``)."""

LATER = {"identity": "where set"}
"""Field metadata for options that runs have been made without: where it has its default, a run's identity lacks it.

A function in the place of the word returns what the identity has of the option, given all options; None: nothing.
"""


class Registry(Generic[T]):
    """Maps names to dataclasses; finds them by importing every module of ``package`` on first use.

    Stable extension point: a plug-in registers its own parts with :meth:`register`, as this package does.

    Args:
        kind: the word used in messages, such as ``"topology"``.
        package: import path whose modules register themselves; a new file there needs no further edit. ``*`` in it
            stands for any one package: ``sgp_core.tasks.*.models`` is the models of every task.
        options: whether entries have options, and therefore have to be dataclasses.
    """

    def __init__(self, kind: str, package: str, *, options: bool = True) -> None:
        self.kind = kind
        self._package = package
        self._have_options = options
        self._entries: dict[str, type[Any]] = {}
        self._discovered = False
        self._discovery = threading.RLock()

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make the dataclass known under ``name``. Stable extension point.

        Raises:
            ConfigurationError: by the decorator, if the name is taken or the class is no dataclass.
        """

        def add(cls: type[T]) -> type[T]:
            foreign = cls.__module__.partition(".")[0] != self._package.partition(".")[0]
            if foreign:
                self._discover()  # else a plug-in could take a name of this package
            if name in self._entries:
                owner = _source(self._entries[name])
                raise ConfigurationError(f"{self.kind} '{name}' is registered already, by {owner}")
            if self._have_options and "__dataclass_fields__" not in vars(cls):  # a base's would not hold its own fields
                raise ConfigurationError(
                    f"{self.kind} '{name}': {cls.__name__} is not a dataclass; write @dataclass below the line that"
                    " registers it"
                )
            self._entries[name] = cls
            record = _RECORD.get()
            if record is not None and foreign:
                record.append(Registration(self, name))
            return cls

        return add

    def remove(self, name: str) -> None:
        """Forget ``name``, so that it can be registered again."""
        del self._entries[name]

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        self._discover()
        return sorted(self._entries)

    def get(self, name: str) -> type[T]:
        """Return the class registered under ``name``.

        Raises:
            ConfigurationError: no such name; the message suggests the nearest.
        """
        self._discover()
        if name not in self._entries:
            raise ConfigurationError(f"unknown {self.kind} '{name}'{did_you_mean(name, self._entries)}")
        return self._entries[name]

    def name_of(self, cls: type[Any]) -> str:
        """Return the name a class is registered under, else the name of the class."""
        self._discover()
        return next((name for name, known in self._entries.items() if known is cls), cls.__name__)

    def options(self, name: str) -> dict[str, dataclasses.Field[Any]]:
        """Return the fields of ``name`` that a user may set."""
        fields = dataclasses.fields(self.get(name))  # type: ignore[arg-type]
        return {field.name: field for field in fields if field.metadata.get("option", True)}

    def build(self, name: str, /, *args: Any, **options: Any) -> T:
        """Return an instance of ``name``; unknown options are refused with the nearest known one.

        Raises:
            ConfigurationError: unknown name or option, or the class itself refuses the values.
        """
        cls = self.get(name)
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for option in options:
            if option not in known:
                raise ConfigurationError(f"{self.kind} '{name}' has no option '{option}'{self._hint(option, known)}")
        return cls(*args, **options)

    def _hint(self, option: str, known: Collection[str]) -> str:
        """Return what a user may have meant by an option that is not among ``known``: the nearest, or another's."""
        hint = did_you_mean(option, known)
        others = [name for name in self.names() if option in self.options(name)] if self._have_options else []
        return hint if hint.endswith("?") or not others else f", which {_or(others)} has"

    def _discover(self) -> None:
        with self._discovery:  # another thread waits for all of it
            if self._discovered:
                return
            self._discovered = True
            for name in _expand(self._package):
                found = importlib.import_module(name)
                for module in pkgutil.iter_modules(getattr(found, "__path__", ()), found.__name__ + "."):
                    importlib.import_module(module.name)


@dataclasses.dataclass(frozen=True)
class Registration:
    """A name in a registry."""

    registry: Registry[Any]
    name: str


_RECORD: ContextVar[list[Registration] | None] = ContextVar("registrations", default=None)


@contextlib.contextmanager
def record_registrations() -> Iterator[list[Registration]]:
    """Collect in a list what others than this package register inside the block."""
    record: list[Registration] = []
    token = _RECORD.set(record)
    try:
        yield record
    finally:
        _RECORD.reset(token)


def _or(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _source(cls: type[Any]) -> str:
    """Return where a class was written, for messages."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return f"{cls.__qualname__} in {file or cls.__module__}"


def _expand(package: str) -> list[str]:
    """Return the packages and modules that ``package``, in which ``*`` is any one package, stands for."""
    above, star, below = package.partition(".*.")
    if not star:
        return [package]
    inside = pkgutil.iter_modules(importlib.import_module(above).__path__, above + ".")
    candidates = [f"{entry.name}.{below}" for entry in inside if entry.ispkg]
    return [name for name in candidates if importlib.util.find_spec(name) is not None]

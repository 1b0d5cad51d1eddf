"""The base of settings: dataclasses that convert to and from plain data."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, get_args, get_type_hints

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.validation import one_of

S = TypeVar("S", bound="Settings")
FORMERLY = "formerly"
"""Key of field metadata: the name that the option had in earlier versions, which is still accepted."""


class Settings:
    """Conversion between a settings dataclass and the plain data of a JSON file."""

    @classmethod
    def from_dict(cls: type[S], values: Mapping[str, Any]) -> S:
        """Return the settings that ``values`` describes; absent options have their defaults.

        Raises:
            ConfigurationError: an unknown name, or a value out of range.
        """
        hints = get_type_hints(cls)
        former = former_names(cls)
        values = {former.get(name, name): value for name, value in values.items()}
        for name in values:
            if name not in hints:
                raise ConfigurationError(f"{section_name(cls)} has no option '{name}'{did_you_mean(name, hints)}")
        return cls(**{name: _read(hints[name], f"{section_name(cls)}.{name}", value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the plain data of a JSON file from which :meth:`from_dict` rebuilds this."""
        data = {}
        for entry in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, entry.name)
            data[entry.name] = value.to_dict() if isinstance(value, Settings) else plain(value)
        return data


def former_names(cls: type[Any]) -> dict[str, str]:
    """Return the current name of every option of the dataclass ``cls`` that had another one in earlier versions."""
    renamed = {entry.metadata.get(FORMERLY): entry.name for entry in dataclasses.fields(cls)}
    return {former: name for former, name in renamed.items() if former is not None}


def _read(hint: Any, name: str, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Settings) and isinstance(value, Mapping):
        return hint.from_dict(value)
    if isinstance(value, str):
        for part in get_args(hint) or (hint,):
            if isinstance(part, type) and issubclass(part, Enum):
                return one_of(part, name, value)
    return copy.deepcopy(value)


def plain(value: Any) -> Any:
    """Return ``value`` as JSON data: enums by value, tuples as lists."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def section_name(cls: type) -> str:
    """Return what users call a section of settings: ``training`` for ``TrainingConfig``."""
    return cls.__name__.removesuffix("Config").lower()

"""A choice in a group of the launcher's own: a dataclass with a name, whose fields are its options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from sgp_core.training.config import NOTHING
from sgp_core.training.settings import Settings


@dataclass(frozen=True)
class Choice(Settings):
    """One choice of a group of the launcher's own; its fields are its options."""

    name: ClassVar[str]
    """What users write to choose it."""

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"name": ..., options...}`` as plain data."""
        options = option_fields(type(self))
        return {"name": self.name, **{key: value for key, value in super().to_dict().items() if key in options}}


@dataclass(frozen=True)
class NoOptions(Choice):
    """A choice without options."""

    name: ClassVar[str] = NOTHING


def option_fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields of ``cls`` that a user may set."""
    return {field.name: field for field in dataclasses.fields(cls) if field.metadata.get("option", True)}

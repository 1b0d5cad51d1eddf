"""What a model is: named options that build a torch module for the data at hand. Imports without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sgp_core.registry import LATER, Registry

MODELS: Registry[Model] = Registry("model", "sgp_core.tasks.*.models")
"""Every model by name. A new one is one file in ``models`` of its task's folder."""


@dataclass(frozen=True)
class Model:
    """Options of a model. Creating one is cheap; its ``build`` makes the torch module. Stable extension point.

    What ``build`` is given is up to the task: see the base class in the task's folder.
    """

    task: ClassVar[str]
    """Name of the task it is for, as registered in :data:`sgp_core.tasks.kinds.TASKS`."""
    weights: str | None = field(default=None, kw_only=True, metadata={"identity": False})
    """A file of weights to start from, safetensors or a state dict of torch; None: start anew."""
    weights_except: list[str] = field(default_factory=list, kw_only=True, metadata=LATER)
    """Parameters that start anew all the same: their names, or the beginnings of them."""
    weights_sha256: str | None = field(default=None, kw_only=True, metadata=LATER)
    """Checksum of the file, which is part of a run's identity; a file with another one is refused."""

    @classmethod
    def resolve_choice(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``{"name": ..., options...}`` with a registered name.

        A model that stands for many architectures accepts the name of one in the place of its own.

        Raises:
            ConfigurationError: there is no architecture of that name.
        """
        return dict(values)

    def find_pretrained(self, name: str) -> Path | None:
        """Return the file of published weights for this model; None if it has none of that name.

        Raises:
            ConfigurationError: they are not on this machine. Nothing is downloaded.
        """
        return None

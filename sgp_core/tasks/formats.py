"""Formats of other libraries in which exported models can be written. Imports without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from sgp_core.registry import Registry


class ExportFormat(ABC):
    """Writes exported models so that another library loads them."""

    task: ClassVar[str]
    """Name of the task whose models it writes."""

    @abstractmethod
    def write(self, model: Path, folder: Path) -> None:
        """Write an exported model.

        Args:
            model: ``.safetensors``, with the description and what else was exported beside it.
            folder: to write to; it is made.

        Raises:
            ConfigurationError: the model is damaged or cannot be written so, or the folder holds something else.
        """


FORMATS: Registry[ExportFormat] = Registry("format", "sgp_core.tasks.*.formats", options=False)
"""Every format by name, which is that of the library."""

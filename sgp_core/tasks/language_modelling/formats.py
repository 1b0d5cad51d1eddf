"""Formats of other libraries for language models."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from sgp_core.tasks.formats import FORMATS, ExportFormat
from sgp_core.tasks.language_modelling.kind import TASK


@FORMATS.register("transformers")
class TransformersFormat(ExportFormat):
    """A folder that ``transformers`` loads as GPT-2 or Llama, with its tokenizer."""

    task: ClassVar = TASK

    def write(self, model: Path, folder: Path) -> None:
        """Write configuration, weights and tokenizer."""
        from sgp_core.tasks.language_modelling.publishing import write_transformers_folder

        write_transformers_folder(model, folder)

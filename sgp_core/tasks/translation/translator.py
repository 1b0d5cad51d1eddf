"""Translates lines of text with an exported model: ``model.safetensors``, ``model.json``, ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sgp_core.tasks.text.description import read_description
from sgp_core.tasks.text.exported import load_model, load_tokenizer
from sgp_core.tasks.translation.beam import BeamSearch
from sgp_core.tasks.translation.bpe import Bpe
from sgp_core.tasks.translation.kind import TASK
from sgp_core.tasks.translation.tokens import EOS


@dataclass(frozen=True)
class TranslatedLine:
    """A line of text in the other language."""

    text: str
    score: float | None
    """Log-probability divided by the length penalty; None for an empty line, which stays empty."""


@dataclass(frozen=True)
class Translator:
    """Translates lines with a model, its tokenizer and a search."""

    model: nn.Module
    bpe: Bpe
    search: BeamSearch

    def __call__(self, lines: Sequence[str]) -> list[TranslatedLine]:
        """Return the translation of each line, in order; each is one line."""
        given = [index for index, line in enumerate(lines) if line.strip()]
        sources = [[*ids, EOS] for ids in self.bpe.encode([lines[index] for index in given])]
        found = self.search(self.model, sources)
        translated = [TranslatedLine("", None) for _ in lines]
        for index, best, text in zip(given, found, self.bpe.decode([best.tokens for best in found]), strict=True):
            translated[index] = TranslatedLine(text.replace("\r", " ").replace("\n", " "), best.score)
        return translated


def load_translator(path: Path, search: BeamSearch, device: torch.device | None = None) -> Translator:
    """Return the translator that was exported to ``path`` and the files beside it.

    Args:
        path: ``.safetensors``.
        device: where to compute; None: a GPU if there is one.

    Raises:
        ConfigurationError: the model is not for translation, or a file is missing, damaged or another model's.
    """
    description = read_description(path, TASK, "a model for translation; name a run of a data set of text")
    bpe = load_tokenizer(path, description, Bpe)
    model = load_model(path, description, lambda chosen: chosen.build(description.vocabulary))
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Translator(model.to(device).eval(), bpe, search)

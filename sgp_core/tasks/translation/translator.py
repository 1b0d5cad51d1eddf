"""Translates lines of text with an exported model: ``model.safetensors``, ``model.json``, ``tokenizer.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.models import MODELS
from sgp_core.tasks.translation.beam import BeamSearch
from sgp_core.tasks.translation.bpe import Bpe
from sgp_core.tasks.translation.kind import TASK
from sgp_core.tasks.translation.models.base import TranslationModel
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
    description = _read_description(path)
    if description.get("kind") != TASK:
        raise ConfigurationError(f"{path} is not a model for translation; name a run of a data set of text")
    bpe = _tokenizer(path, description)
    model = _model(path, description)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Translator(model.to(device).eval(), bpe, search)


def _read_description(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    try:
        description = json.loads(beside.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {beside}: {error.strerror or error}; it says what model it is"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{beside} is damaged: it does not say what model it is") from error
    if not isinstance(description, dict):
        raise ConfigurationError(f"{beside} is damaged: it does not say what model it is")
    return description


def _tokenizer(path: Path, description: dict[str, Any]) -> Bpe:
    beside = path.parent / str(description.get("tokenizer", "tokenizer.json"))
    try:
        digest = hashlib.sha256(beside.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigurationError(f"cannot read {beside}: {error.strerror or error}; the model needs it") from error
    if description.get("tokenizer_sha256", digest) != digest:
        raise ConfigurationError(f"{beside} is not the tokenizer that {path} was trained with")
    return Bpe.load(beside)


def _model(path: Path, description: dict[str, Any]) -> nn.Module:
    damaged = f"{path} is damaged, or not what {path.with_suffix('.json').name} says it is"
    try:
        options = dict(description["model"])
        chosen = MODELS.build(options.pop("name"), **options)
        if not isinstance(chosen, TranslationModel):
            raise ConfigurationError(damaged)
        model = chosen.build(int(description["vocabulary"]))
        model.load_state_dict(load_file(path))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(damaged) from error
    return model

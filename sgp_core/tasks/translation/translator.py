"""Translates lines of text with an exported model: ``model.safetensors``, ``model.json``, ``tokenizer.json``."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sgp_core.atomic_files import read_file
from sgp_core.errors import ConfigurationError
from sgp_core.tasks.translation.beam import BeamSearch
from sgp_core.tasks.translation.bpe import Bpe
from sgp_core.tasks.translation.description import ModelDescription, read_description
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
    description = read_description(path)
    bpe = _tokenizer(path, description)
    model = _model(path, description)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Translator(model.to(device).eval(), bpe, search)


def _tokenizer(path: Path, description: ModelDescription) -> Bpe:
    beside = path.parent / description.tokenizer
    try:
        digest = hashlib.sha256(read_file(beside)).hexdigest()
    except OSError as error:
        raise ConfigurationError(f"cannot read {beside}: {error.strerror or error}; the model needs it") from error
    if (description.tokenizer_sha256 or digest) != digest:
        raise ConfigurationError(f"{beside} is not the tokenizer that {path} was trained with")
    bpe = Bpe.load(beside)
    if bpe.size > description.vocabulary:
        raise ConfigurationError(f"{beside} has {bpe.size} tokens, but the model only {description.vocabulary}")
    return bpe


def _model(path: Path, description: ModelDescription) -> nn.Module:
    damaged = f"{path} is damaged, or not what {path.with_suffix('.json').name} says it is"
    try:
        chosen = description.options()
        state = _load(path)
        if not description.fits(len(state), sum(tensor.numel() for tensor in state.values())):
            raise ConfigurationError(damaged)
        with torch.device("meta"):  # takes no memory, whatever the sizes are
            shapes = {name: tensor.shape for name, tensor in chosen.build(description.vocabulary).state_dict().items()}
        if shapes != {name: tensor.shape for name, tensor in state.items()}:
            raise ConfigurationError(damaged)
        model = chosen.build(description.vocabulary)
        model.load_state_dict(state)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(damaged) from error
    return model


def _load(path: Path) -> dict[str, Tensor]:
    if path.exists() and not path.is_file():  # a pipe would be read for ever
        raise OSError(errno.EINVAL, "not a file")
    return load_file(path)

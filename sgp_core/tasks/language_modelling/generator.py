"""Writes text with an exported model: ``model.safetensors``, ``model.json``, ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.language_modelling.byte_bpe import ByteBpe
from sgp_core.tasks.language_modelling.kind import TASK
from sgp_core.tasks.language_modelling.sampling import Sampling
from sgp_core.tasks.text.description import ModelDescription, read_description
from sgp_core.tasks.text.exported import load_model, load_tokenizer

_HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class Continuation:
    """The text that follows a prompt; iterating over it yields its parts as they come, each of whole characters."""

    def __init__(self, tokens: Iterator[int], bpe: ByteBpe) -> None:
        self._tokens = tokens
        self._bpe = bpe
        self.tokens = 0
        """Number of tokens so far; that of the end is one of them."""
        self.ended = False
        """Whether the model has ended the document."""

    def __iter__(self) -> Iterator[str]:
        end = self._bpe.begin and self._bpe.begin[0]
        waiting: list[int] = []
        for token in self._tokens:
            self.tokens += 1
            if token == end:
                self.ended = True
                break
            waiting.append(token)
            [text] = self._bpe.decode([waiting])
            if not text.endswith(_HALF_CHARACTER):  # a character may take several tokens
                yield text
                waiting.clear()
        if waiting:
            yield self._bpe.decode([waiting])[0]


@dataclass(frozen=True)
class Generator:
    """A model with its tokenizer."""

    model: nn.Module
    bpe: ByteBpe
    context: int
    """Tokens of a window in training, which is what the model sees at most."""

    def __call__(self, prompt: str, tokens: int, sampling: Sampling) -> Continuation:
        """Return what follows ``prompt`` at the beginning of a document: until the model ends it, or so many tokens.

        Raises:
            ConfigurationError: the prompt is no text; or there is nothing to begin with, since it is empty and the
                tokenizer has no token that begins documents.
        """
        if any("\ud800" <= character <= "\udfff" for character in prompt):  # bytes of a command line that are no text
            raise ConfigurationError("the prompt is not UTF-8 text")
        begin = [] if self.bpe.begin is None else [self.bpe.begin[0]]
        [given] = self.bpe.encode([prompt])
        if not begin and not given:
            raise ConfigurationError("the prompt must not be empty: this tokenizer has no token that begins documents")
        found = sampling(self.model, [*begin, *given], self.context, self.bpe.size)
        return Continuation(islice(found, tokens), self.bpe)


def load_generator(path: Path, device: torch.device | None = None) -> Generator:
    """Return the generator that was exported to ``path`` and the files beside it.

    Args:
        path: ``.safetensors``.
        device: where to compute; None: a GPU if there is one.

    Raises:
        ConfigurationError: the model is not a language model, or a file is missing, damaged or another model's.
    """
    description = read_language_model(path)
    bpe, context = load_tokenizer(path, description, ByteBpe), description.context
    model = load_model(path, description, lambda chosen: chosen.build(description.vocabulary, context))
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert context is not None, "checked by read_language_model"
    return Generator(model.to(device).eval(), bpe, context)


def read_language_model(path: Path) -> ModelDescription:
    """Return what the file beside the model at ``path`` says of it.

    Raises:
        ConfigurationError: the file cannot be read or is damaged, or is not of a language model.
    """
    description = read_description(path, TASK, "a language model; name a run that predicts the next token of a text")
    if description.context is None:
        raise ConfigurationError(f"{path.with_suffix('.json')} is damaged: it has no context")
    return description

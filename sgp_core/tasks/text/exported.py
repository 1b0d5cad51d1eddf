"""Reads exported models of text: ``model.safetensors``, and what is beside it."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sgp_core.atomic_files import read_file
from sgp_core.errors import ConfigurationError
from sgp_core.tasks.text.description import ModelDescription
from sgp_core.tasks.text.tokenizer import TextTokenizer

T = TypeVar("T", bound=TextTokenizer)


def load_tokenizer(path: Path, description: ModelDescription, kind: type[T]) -> T:
    """Return the tokenizer of the model at ``path``, from the file beside it.

    Raises:
        ConfigurationError: the file is missing, damaged or another model's.
    """
    beside = path.parent / description.tokenizer
    try:
        digest = hashlib.sha256(read_file(beside)).hexdigest()
    except OSError as error:
        raise ConfigurationError(f"cannot read {beside}: {error.strerror or error}; the model needs it") from error
    if (description.tokenizer_sha256 or digest) != digest:
        raise ConfigurationError(f"{beside} is not the tokenizer that {path} was trained with")
    tokenizer = kind.load(beside)
    if tokenizer.size > description.vocabulary:
        raise ConfigurationError(f"{beside} has {tokenizer.size} tokens, but the model only {description.vocabulary}")
    return tokenizer


def load_model(path: Path, description: ModelDescription, build: Callable[[Any], nn.Module]) -> nn.Module:
    """Return the model at ``path``, on the CPU.

    Args:
        build: returns a new model from its options.

    Raises:
        ConfigurationError: the file is missing, damaged, or of another model than its description says.
    """
    damaged = f"{path} is damaged, or not what {path.with_suffix('.json').name} says it is"
    try:
        chosen = description.options()
        state = load_state(path)
        if not description.fits(len(state), sum(tensor.numel() for tensor in state.values())):
            raise ConfigurationError(damaged)
        with torch.device("meta"):  # takes no memory, whatever the sizes are
            shapes = {name: tensor.shape for name, tensor in build(chosen).state_dict().items()}
        if shapes != {name: tensor.shape for name, tensor in state.items()}:
            raise ConfigurationError(damaged)
        model = build(chosen)
        model.load_state_dict(state)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(damaged) from error
    return model


def load_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of safetensors.

    Raises:
        OSError: it cannot be read, or is a pipe, which would be read for ever.
        SafetensorError: it is damaged.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file")
    return load_file(path)

"""Short phrases that stand for faults: a verb, and ``key=value`` pairs."""

from __future__ import annotations

import shlex
import types
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any, Literal

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.faults.base import FAULTS, Fault, option_names


def parse_faults(phrases: Iterable[str | Fault]) -> list[Fault]:
    """Return the fault that each phrase stands for; faults stay as they are.

    Raises:
        ConfigurationError: a phrase is wrong; the message has it, and what would be right.
    """
    return [phrase if isinstance(phrase, Fault) else parse_fault(phrase) for phrase in phrases]


def parse_fault(phrase: str) -> Fault:
    """Return the fault that a phrase such as ``"kill rank=3 step=100"`` stands for.

    Raises:
        ConfigurationError: an unknown verb or key, or a value of the wrong kind.
    """
    try:
        return _parse(phrase)
    except ConfigurationError as error:
        raise ConfigurationError(f"faults: '{phrase}': {error}") from None


def _parse(phrase: str) -> Fault:
    try:
        verb, *words = shlex.split(phrase)
    except ValueError:  # no word at all, or a quote without its partner
        raise ConfigurationError(f"a fault is a verb and its options, as in kill rank=1 step=20; {_verbs()}") from None
    if verb not in FAULTS.names():
        raise ConfigurationError(f"unknown verb '{verb}'{did_you_mean(verb, FAULTS.names())}")
    known = option_names(verb)
    hints = typing.get_type_hints(FAULTS.get(verb))
    options: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if key not in known or not equals:
            raise ConfigurationError(f"{verb} has no key '{key}'; known: {', '.join(known)}")
        name = known[key].name
        options[name] = _value(key, text, hints[name])
    missing = [key for key, entry in known.items() if entry.name not in options and _required(entry)]
    if missing:
        raise ConfigurationError(f"{verb} needs {' and '.join(missing)}")
    return FAULTS.build(verb, **options)


def _verbs() -> str:
    return f"verbs: {', '.join(FAULTS.names())}"


def _required(entry: Any) -> bool:
    return entry.default is entry.default_factory  # both MISSING


def _value(key: str, text: str, hint: Any) -> Any:
    """Return the text as the first kind of ``hint`` that it can be."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) or _is_union(hint) else (hint,)
    wanted: list[str] = []
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            words = typing.get_args(kind)
            if text in words:
                return text
            wanted += words
        elif kind is type(None):
            continue
        elif issubclass(kind, Enum):
            if text in [member.value for member in kind]:
                return kind(text)
            wanted += [str(member.value) for member in kind]
        else:
            try:
                return kind(text)
            except ValueError:
                wanted.append({int: "a whole number", float: "a number"}.get(kind, kind.__name__))
    raise ConfigurationError(f"{key}={text}: expected {' or '.join(wanted)}")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Union

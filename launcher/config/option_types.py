"""The types of options: read off the dataclass that has them, and described in a user's words."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from enum import Enum
from typing import Any

from sgp_core.registry import VALUES

_ANY = "another value"


def annotation(cls: type[Any], name: str) -> Any:
    """Evaluate the type of one field; other fields may have types that only type checkers import."""
    for base in cls.__mro__:
        written = inspect.get_annotations(base).get(name)
        if written is not None:
            if isinstance(written, str):
                return eval(written, vars(sys.modules[base.__module__]))
            return written
    raise AttributeError(name)


def members(kind: Any) -> list[Any]:
    """Return the types of a union, None left out; any other type by itself."""
    return [arg for arg in typing.get_args(kind) if arg is not type(None)] or [kind]


def enum_of(kind: Any) -> type[Enum] | None:
    """Return the enumeration in a type, if there is one."""
    return next((part for part in members(kind) if isinstance(part, type) and issubclass(part, Enum)), None)


def is_optional(kind: Any) -> bool:
    """Return whether None is a value of the type."""
    return type(None) in typing.get_args(kind)


def values_of(cls: type[Any], entry: dataclasses.Field[Any]) -> list[str]:
    """Return the values of an option as users write them, if there are only so many: an enumeration's, true, false."""
    if VALUES in entry.metadata:
        return list(entry.metadata[VALUES]())
    kind = annotation(cls, entry.name)
    enum = enum_of(kind)
    words = [str(member.value) for member in enum] if enum else ["true", "false"] if bool in members(kind) else []
    return [*words, "null"] if words and is_optional(kind) else words


def empty_value(kind: Any) -> str:
    """Return the value of a type that comes nearest to nothing, as users write it."""
    if is_optional(kind):
        return "null"
    origin = typing.get_origin(kind) or kind
    return {float: "0", bool: "false", list: "[]", dict: "{}"}.get(origin, "VALUE")


def describe(kind: Any) -> str:
    """Return a type in words, such as ``a whole number or null``."""
    enum = enum_of(kind)
    optional = " or null" if is_optional(kind) else ""
    if enum is not None:
        values = [str(member.value) for member in enum]
        return ("one of " if len(values) > 1 else "") + ", ".join(values) + optional
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    parts = []
    for part in members(kind) if typing.get_origin(kind) not in (list, dict, tuple) else [kind]:
        origin = typing.get_origin(part) or part
        if origin in (list, tuple):
            inner = describe(typing.get_args(part)[0]) if typing.get_args(part) else ""
            parts.append("a list [a,b,...]" + (f", each {inner}" if inner not in ("", _ANY) else ""))
        elif origin is dict:
            parts.append("a dictionary {key: value}")
        else:
            parts.append(words.get(origin, _ANY))
    return " or ".join(parts) + optional

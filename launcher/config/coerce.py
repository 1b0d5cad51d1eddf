"""Values of YAML files and the command line, converted to the types of the dataclass that defines them.

OmegaConf converts; the messages are ours. pydantic was tried and gave worse ones: it names no section, accepts unknown
options, and takes three lines and a link for a wrong value.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from launcher.config.choice import Choice, option_fields
from launcher.config.schema import choices, options_class
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.training.config import named_choice
from sgp_core.training.settings import former_names, plain

T = TypeVar("T")

_STAND_FOR_MANY = ("model", "optimizer", "schedule")
"""Groups with a choice that accepts another library's names, as in ``model=torchvision model.name=resnet50``."""


def coerce_settings(section: str, given: Any, cls: type[T]) -> T:
    """Return the ``cls`` that ``given`` describes: every value has its field's type, what is absent its default.

    Args:
        section: where the values are on the command line, such as ``"evaluation"``; empty at the top. For messages.
        given: what Hydra composed for that section.
        cls: dataclass whose fields are the options.

    Raises:
        ConfigurationError: an unknown option, a value of the wrong type or out of range, or a required one missing.
    """
    return cls(**_coerce(section, given, cls))


def coerce_options(section: str, given: Any, cls: type[Any]) -> dict[str, Any]:
    """Return the options that ``given`` describes, as :func:`coerce_settings` does, without making a ``cls``.

    The result is plain data: lists, dictionaries, numbers, strings and None; an Enum is its value.

    Raises:
        ConfigurationError: an unknown option, a value of the wrong type, or a required one missing.
    """
    return {name: plain(value) for name, value in _coerce(section, given, cls).items()}


def coerce_library_choice(group: str, given: Any, file: str | None = None) -> dict[str, Any]:
    """Return ``{"name": ..., options...}`` of a group of the library, with options of the right types.

    Args:
        file: name of the YAML file that was chosen in the group.

    Raises:
        ConfigurationError: nothing is chosen, or its name or an option is invalid.
    """
    name, options = _name_and_options(group, given)
    if group in _STAND_FOR_MANY and file in choices(group):
        options = options_class(group, file).resolve_choice({"name": name, **options})
        name = options.pop("name")
    return {"name": name, **coerce_options(group, options, options_class(group, name))}


def coerce_library_choices(group: str, given: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the choices of a list, each given by its name or as ``{name: ..., options...}``.

    Raises:
        ConfigurationError: a name or an option is invalid.
    """
    chosen = [_name_and_options(group, named_choice(entry)) for entry in given]
    return [{"name": name, **coerce_options(group, options, options_class(group, name))} for name, options in chosen]


def coerce_launcher_choice(group: str, given: Any) -> Choice:
    """Return the choice made in a group of the launcher's own.

    Raises:
        ConfigurationError: nothing is chosen, or its name or an option is invalid.
    """
    name, options = _name_and_options(group, given)
    cls: type[Choice] = options_class(group, name)
    return coerce_settings(group, options, cls)


def _name_and_options(group: str, given: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ConfigurationError(f"no {group} is chosen; known: {', '.join(choices(group))}")
    return given["name"], {option: value for option, value in given.items() if option != "name"}


def _coerce(section: str, given: Any, cls: type[Any]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{section}={given!r}: this is a section with options, not a value")
    fields = option_fields(cls)
    types = {name: _annotation(cls, name) for name in fields}
    former = former_names(cls)
    given = {**given, **{former[name]: given[name] for name in former if name in given}}
    given = {name: value for name, value in given.items() if name not in former}
    prefix = f"{section}." if section else ""
    for name in given:
        if name not in fields:
            raise ConfigurationError(f"{section} has no option '{name}'{did_you_mean(str(name), fields)}")
    schema = dataclasses.make_dataclass(cls.__name__, [(name, types[name], _default(fields[name])) for name in fields])
    values: Any = OmegaConf.structured(schema)
    for name, value in given.items():
        if bool in _members(types[name]) and isinstance(value, int | float) and not isinstance(value, bool):
            raise ConfigurationError(f"{prefix}{name}={value}: expected {_describe(types[name])}")
        try:
            values[name] = _by_member_name(types[name], value)
        except OmegaConfBaseException:
            raise ConfigurationError(f"{prefix}{name}={_show(value)}: expected {_describe(types[name])}") from None
    for name in fields:
        if OmegaConf.is_missing(values, name):
            raise ConfigurationError(f"{prefix}{name} must be given: {_describe(types[name])}")
    return vars(OmegaConf.to_object(values))


def _annotation(cls: type[Any], name: str) -> Any:
    """Evaluate the type of one field; other fields may have types that only type checkers import."""
    for base in cls.__mro__:
        written = inspect.get_annotations(base).get(name)
        if written is not None:
            if isinstance(written, str):
                return eval(written, vars(sys.modules[base.__module__]))
            return written
    raise AttributeError(name)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    if field.default is not dataclasses.MISSING:
        return field.default
    return dataclasses.field(default="???")


def _members(kind: Any) -> list[Any]:
    return [arg for arg in typing.get_args(kind) if arg is not type(None)] or [kind]


def _enum(kind: Any) -> type[Enum] | None:
    return next((part for part in _members(kind) if isinstance(part, type) and issubclass(part, Enum)), None)


def _by_member_name(kind: Any, value: Any) -> Any:
    """Return an Enum's member for its value, which users write; OmegaConf knows members by name."""
    enum = _enum(kind)
    if enum is not None and isinstance(value, str):
        return next((member for member in enum if member.value == value), value)
    return value


def _describe(kind: Any) -> str:
    enum = _enum(kind)
    optional = " or null" if type(None) in typing.get_args(kind) else ""
    if enum is not None:
        return "one of " + ", ".join(str(member.value) for member in enum) + optional
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    parts = []
    for part in _members(kind) if typing.get_origin(kind) not in (list, dict, tuple) else [kind]:
        origin = typing.get_origin(part) or part
        if origin in (list, tuple):
            inner = _describe(typing.get_args(part)[0]) if typing.get_args(part) else "anything"
            parts.append(f"a list [a,b,...], each {inner}")
        elif origin is dict:
            parts.append("a dictionary {key: value}")
        else:
            parts.append(words.get(origin, "another value"))
    return " or ".join(parts) + optional


def _show(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

"""Values of YAML files and the command line, converted to the types of the dataclass that defines them.

OmegaConf converts; the messages are ours. pydantic was tried and gave worse ones: it names no section, accepts unknown
options, and takes three lines and a link for a wrong value.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from launcher.config.choice import Choice, option_fields
from launcher.config.hints import explain_choice, explain_option
from launcher.config.option_types import annotation, describe, enum_of, members
from launcher.config.schema import choices, options_class
from launcher.config.synonyms import find_setting
from launcher.config.trackers import check_names
from sgp_core.bounds import check_numbers
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.training.config import NOTHING, named_choice
from sgp_core.training.settings import former_names, plain

T = TypeVar("T")

_HIDDEN = "$\ufdd0{"
"""``${`` with a character between that Unicode reserves for such uses."""


def coerce_settings(section: str, given: Any, cls: type[T], choice: str | None = None) -> T:
    """Return the ``cls`` that ``given`` describes: every value has its field's type, what is absent its default.

    Args:
        section: where the values are on the command line, such as ``"evaluation"``; empty at the top. For messages.
        given: what Hydra composed for that section.
        cls: dataclass whose fields are the options.
        choice: its name, where the section is a group. For messages.

    Raises:
        ConfigurationError: an unknown option, a value of the wrong type or out of range, or a required one missing.
    """
    return cls(**_coerce(section, given, cls, choice))


def coerce_options(section: str, given: Any, cls: type[Any], choice: str | None = None) -> dict[str, Any]:
    """Return the options that ``given`` describes, as :func:`coerce_settings` does, without making a ``cls``.

    The result is plain data: lists, dictionaries, numbers, strings and None; an Enum is its value.

    Raises:
        ConfigurationError: an unknown option, a value of the wrong type, or a required one missing.
    """
    return {name: plain(value) for name, value in _coerce(section, given, cls, choice).items()}


def coerce_library_choice(group: str, given: Any, file: str | None = None) -> dict[str, Any]:
    """Return ``{"name": ..., options...}`` of a group of the library, with options of the right types.

    Args:
        file: name of the YAML file that was chosen in the group.

    Raises:
        ConfigurationError: nothing is chosen, or its name or an option is invalid.
    """
    name, options = _name_and_options(group, given)
    if file in choices(group):
        resolve = getattr(options_class(group, file), "resolve_choice", dict)
        options = resolve({"name": name, **options})  # model.name may be an architecture's
        if options["name"] != file:
            raise ConfigurationError(_explain_name(group, name))
        name = options.pop("name")
    return {"name": name, **coerce_options(group, options, options_class(group, name), name)}


def coerce_library_choices(group: str, given: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the choices of a list, each given by its name or as ``{name: ..., options...}``.

    Raises:
        ConfigurationError: a name or an option is invalid.
    """
    chosen = [_name_and_options(group, named_choice(entry, f"{group}s")) for entry in given]
    return [
        {"name": name, **coerce_options(group, options, options_class(group, name), name)} for name, options in chosen
    ]


def coerce_launcher_choice(group: str, given: Any, file: str | None = None) -> Choice:
    """Return the choice made in a group of the launcher's own.

    Args:
        file: name of the YAML file that was chosen in the group.

    Raises:
        ConfigurationError: nothing is chosen, or its name or an option is invalid.
    """
    name, options = _name_and_options(group, given)
    if file in choices(group) and name != file:
        raise ConfigurationError(_explain_name(group, name))
    cls: type[Choice] = options_class(group, name)
    return coerce_settings(group, options, cls, name)


def coerce_trackers(given: Any, chosen: str | None = None) -> list[Choice]:
    """Return the trackers that are chosen: one, a list of them, or none.

    Args:
        chosen: name of the YAML file that was chosen, or ``[a,b]`` of a list.

    Raises:
        ConfigurationError: a name or an option is invalid, or the list is not one of different trackers.
    """
    if chosen is None or not chosen.startswith("["):
        tracker = coerce_launcher_choice("tracker", given, chosen)
        return [] if tracker.name == NOTHING else [tracker]
    names = [name for name in chosen.strip("[]").split(",") if name]
    if len(names) == 1:
        return coerce_trackers(given, names[0])
    check_names(names, choices("tracker"))
    if not names:
        return []
    last, options = _name_and_options("tracker", given)
    if last != names[-1]:
        raise ConfigurationError(_explain_name("tracker", last))
    fields = {name: option_fields(options_class("tracker", name)) for name in names}
    for option in options:
        if not any(option in known for known in fields.values()):
            known_all = {option for known in fields.values() for option in known}
            raise ConfigurationError(explain_option("tracker", str(option), known_all, chosen))
    return [
        coerce_settings(
            "tracker",
            {option: value for option, value in options.items() if option in fields[name]},
            options_class("tracker", name),
            name,
        )
        for name in names
    ]


def _name_and_options(group: str, given: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ConfigurationError(f"no {group} is chosen; known: {', '.join(choices(group))}")
    return given["name"], {option: value for option, value in given.items() if option != "name"}


def _explain_name(group: str, name: str) -> str:
    """Return a sentence about a name that is not that of the choice whose options stand beside it."""
    if name in choices(group):
        return f"{group}.name={name}: a choice is made by {group}={name}, which brings its options"
    told = find_setting(f"{group}.name")
    return f"{group}.name={name}: write {told}={name}" if told else explain_choice(group, name, choices(group))


def _coerce(section: str, given: Any, cls: type[Any], choice: str | None) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(given, Mapping):
        example = next(iter(option_fields(cls)), "")
        raise ConfigurationError(f"{section}={given}: a section has no value, but options such as {section}.{example}")
    fields = option_fields(cls)
    types, schema = _types_and_schema(cls)
    former = former_names(cls)
    given = {**given, **{former[name]: given[name] for name in former if name in given}}
    given = {name: value for name, value in given.items() if name not in former}
    prefix = f"{section}." if section else ""
    for name in given:
        if name not in fields:
            raise ConfigurationError(explain_option(section, str(name), fields, choice))
    values: Any = OmegaConf.structured(schema)
    for name, value in given.items():
        if bool in members(types[name]) and isinstance(value, int | float) and not isinstance(value, bool):
            raise ConfigurationError(f"{prefix}{name}={value}: expected {describe(types[name])}")
        try:
            values[name] = _map_texts(_hide_marks, _by_member_name(types[name], value))
        except OmegaConfBaseException:
            expected = f"{prefix}{name}={_show(value)}: expected {describe(types[name])}"
            raise ConfigurationError(expected + _instead(f"{prefix}{name}", value, types[name])) from None
    for name in fields:
        if OmegaConf.is_missing(values, name):
            raise ConfigurationError(f"{prefix}{name} must be given: {describe(types[name])}")
    typed = {name: _map_texts(_show_marks, value) for name, value in vars(OmegaConf.to_object(values)).items()}
    for name, value in typed.items():
        check_numbers(f"{prefix}{name}", value, fields[name].metadata)
    return typed


_KNOWN: WeakKeyDictionary[type[Any], tuple[dict[str, Any], type[Any]]] = WeakKeyDictionary()


def _types_and_schema(cls: type[Any]) -> tuple[dict[str, Any], type[Any]]:
    """Return the type of every option, and a dataclass of the options alone with types that are evaluated.

    To make them takes as long as to check what is given, and each point of a sweep asks for the same.
    """
    if cls not in _KNOWN:
        types = {name: annotation(cls, name) for name in option_fields(cls)}
        fields = [(name, types[name], _default(field)) for name, field in option_fields(cls).items()]
        _KNOWN[cls] = types, dataclasses.make_dataclass(cls.__name__, fields)
    return _KNOWN[cls]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    if field.default is not dataclasses.MISSING:
        return field.default
    return dataclasses.field(default="???")


def _by_member_name(kind: Any, value: Any) -> Any:
    """Return an Enum's member for its value, or another word it takes; OmegaConf knows members by name."""
    enum = enum_of(kind)
    if enum is not None and isinstance(value, str):
        try:
            return enum(value)
        except ValueError:
            return value
    return value


def _instead(name: str, value: Any, kind: Any) -> str:
    """Return what to write for a word of an enumeration that is near, one value for a list, or a list for one."""
    if (enum := enum_of(kind)) is not None and isinstance(value, str):
        hint = did_you_mean(value, [str(member.value) for member in enum])
        return hint if hint.endswith("?") else ""
    wants_list = list in [typing.get_origin(part) or part for part in (kind, *members(kind))]
    if wants_list and isinstance(value, str | int | float):
        return f"; write {name}=[{_show(value)}]"
    if isinstance(value, str) and (span := re.fullmatch(r"(-?\d+)(?:-|:|\.\.)(-?\d+)", value)):
        return f"; several values make a sweep: -m {name}=range({span[1]},{int(span[2]) + 1})"
    if isinstance(value, list) and not wants_list:
        return f"; several values make a sweep: -m {name}={','.join(map(_show, value))}"
    return ""


def _map_texts(change: Callable[[str], str], value: Any) -> Any:
    """Return ``value`` with every text in it changed."""
    if type(value) is str:
        return change(value)
    if isinstance(value, Mapping):
        return {_map_texts(change, key): _map_texts(change, entry) for key, entry in value.items()}
    return [_map_texts(change, entry) for entry in value] if isinstance(value, list) else value


def _hide_marks(text: str) -> str:
    """Return a text in which OmegaConf finds no interpolation: all are resolved, and what is left was escaped."""
    return text.replace("${", _HIDDEN)


def _show_marks(text: str) -> str:
    return text.replace(_HIDDEN, "${")


def _show(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

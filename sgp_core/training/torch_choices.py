"""Classes of torch by their names, as choices whose options are those of their constructors.

What is asked here imports torch, so it is asked only where such a choice is made, never for ``--help``.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from sgp_core.errors import ConfigurationError, did_you_mean

CLASS = "class_name"
"""The option that holds torch's name of the class."""


def find_class(group: str, name: object, known: Mapping[str, type[Any]], unfit: Mapping[str, str]) -> type[Any]:
    """Return the class of that name, whatever the case of its letters.

    Args:
        group: the group in which it is chosen, for messages.
        known: torch's classes by name.
        unfit: why some of them cannot be chosen.

    Raises:
        ConfigurationError: there is none, or it cannot be chosen.
    """
    fitting = {each: cls for each, cls in known.items() if each not in unfit}
    exact = {each.lower(): each for each in known}.get(str(name).lower(), str(name))
    if exact in unfit and exact in known:
        raise ConfigurationError(f"{group}=torch cannot be {exact}: {unfit[exact]}")
    if name is None:
        raise ConfigurationError(
            f"{group}=torch needs the name of a class of torch, as in {group}.name={min(fitting)};"
            f" known: {', '.join(sorted(fitting))}"
        )
    if exact not in fitting:
        raise ConfigurationError(f"torch has no {group} '{name}'{did_you_mean(str(name), fitting)}")
    return fitting[exact]


def parameters_of(cls: type[Any], left_out: Collection[str] = ()) -> dict[str, Any]:
    """Return the options of a constructor with their defaults; :data:`inspect.Parameter.empty` where there is none."""
    parameters = list(inspect.signature(cls).parameters.values())[1:]  # the first is what it works on
    return {each.name: each.default for each in parameters if each.name not in left_out}


def complete(group: str, cls: type[Any], options: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a class as plain data: those given, the others with torch's defaults if they have one.

    Args:
        options: as :func:`parameters_of` returns them.
        given: by the user; None stands for the default.

    Raises:
        ConfigurationError: the class has no such option.
    """
    chosen = {option: value for option, value in given.items() if value is not None}
    for option in chosen:
        if option not in options:
            hint = did_you_mean(option, options)
            raise ConfigurationError(f"{group}.{option}: {cls.__name__} has no such option{hint}")
    values = {**options, **chosen}
    return {
        option: list(value) if isinstance(value, tuple) else value
        for option, value in values.items()
        if value is not inspect.Parameter.empty
    }


def check_complete(group: str, cls: type[Any], options: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse options among which one is missing.

    Raises:
        ConfigurationError: an option without a default is not given.
    """
    for option, default in options.items():
        if default is inspect.Parameter.empty and given.get(option) is None:
            raise ConfigurationError(f"{group}.{option} must be given: {cls.__name__} has no default for it")

"""Words of a command line that Hydra would accept and that would then change nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from launcher.config.choice import option_fields
from launcher.config.clusters import SlurmCluster
from launcher.config.hints import GROUPS, owners
from launcher.config.manual import PRESETS, Manual
from launcher.config.option_types import annotation, empty_value
from launcher.config.schema import SECTIONS, SEVERAL, choices, options_class
from launcher.config.sweeps import parse_word
from launcher.config.synonyms import HYDRA_IN_USE, SUBMITIT, find_hydra
from sgp_core.errors import ConfigurationError
from sgp_core.training.config import NOTHING


def check_words(arguments: Sequence[str]) -> None:
    """Refuse words that Hydra would accept and that would then change nothing.

    Raises:
        ConfigurationError: a setting of Hydra's own that is not used, the removal of a setting, a choice that is
            made by anything but a name, or a number of thousands of digits.
    """
    for word in arguments:
        name = word.lstrip("+~").partition("=")[0].partition("@")[0]
        if re.search(r"[\d_]{4300}", word):  # more than Python converts
            raise ConfigurationError(f"cannot read '{word}': a number in it has too many digits")
        if re.match(r"hydra[./]", name) and not name.startswith(HYDRA_IN_USE):
            raise ConfigurationError(_explain_hydra(name, word.partition("=")[2]))
        if word.startswith("~"):
            _check_removal(word, name, arguments)
        elif name in (*GROUPS, *PRESETS):
            _check_choice(word, name)


def _explain_hydra(name: str, value: str) -> str:
    option = name.removeprefix("hydra.launcher.")
    option = SUBMITIT.get(option, option)
    if option in option_fields(SlurmCluster):
        return f"{name} is not used; write cluster=slurm cluster.{option}={value or 'VALUE'}"
    return f"{name} is not used: {find_hydra(name)}"


def _check_removal(word: str, name: str, arguments: Sequence[str]) -> None:
    """Refuse to remove what would then have its default.

    An entry of a dictionary may be removed, and what a preset has set that another choice in its place has not.
    """
    section, _, option = name.rpartition(".")
    chosen = [other.partition("=")[2] for other in arguments if other.startswith(f"{section}=")]
    known = section in GROUPS and chosen and chosen[-1] in choices(section)
    if known and option not in option_fields(options_class(section, chosen[-1])):
        return
    if name in GROUPS:
        instead = f"{name}={NOTHING}" if NOTHING in choices(name) else f"{name}=NAME; known: {', '.join(choices(name))}"
        raise ConfigurationError(f"'{word}': a choice cannot be removed; make another: {instead}")
    if name in SECTIONS:
        raise ConfigurationError(f"'{word}': a section cannot be removed; set its options")
    of = owners(section, option)
    cls = options_class(section, of[0]) if of else SECTIONS.get(section)
    value = None
    if cls is not None and option in option_fields(cls):
        value = empty_value(annotation(cls, option))
    elif not section and option in {one.name for one in Manual().section_options("")}:
        value = "VALUE"
    if value is not None:
        raise ConfigurationError(f"'{word}' would leave the option at its default; set it, as in {name}={value}")


def _check_choice(word: str, group: str) -> None:
    """Refuse a choice that is a number, null, a list or a dictionary; of presets and trackers there may be lists,
    and no preset."""
    override = parse_word(word)
    if override is None or "=" not in word:
        return
    value = override.value()
    made = list(getattr(value, "list", [value]))
    if group in (*PRESETS, *SEVERAL):
        made = [name for one in made for name in (one if isinstance(one, list) else [one])]
    if group in PRESETS:
        made = [name for name in made if name is not None]
    if any(one is None or isinstance(one, int | float | list | dict) for one in made):
        names = Manual().choices(group)
        raise ConfigurationError(f"'{word}': a choice is made by its name, as in {group}={names[0]}")


def explain_empty_sweep(arguments: Sequence[str]) -> str:
    """Return a sentence about a sweep that has no point."""
    for word in arguments:
        name, _, value = word.partition("=")
        if value.startswith("glob(") and name not in (*GROUPS, *PRESETS):
            return f"'{word}' stands for no value: glob() is for choices, as in topology=glob(*ring)"
        if value.startswith("glob("):
            return f"'{word}' fits no choice; sgp-train --help {name} lists them"
    words = [word for word in arguments if re.search(r"=\s*(range|choice)\(", word)]
    return f"'{' '.join(words) or 'the sweep'}' stands for no value"

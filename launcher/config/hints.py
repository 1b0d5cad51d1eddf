"""What a user may have meant by a setting or a choice that does not exist: looked up where options are defined."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.config.choice import option_fields
from launcher.config.schema import CHOICES, LIBRARY_GROUPS, choices, options_class
from launcher.config.synonyms import CHOICES as CHOICE_SYNONYMS
from launcher.config.synonyms import SETTINGS, find_setting, fold
from sgp_core.errors import ConfigurationError
from sgp_core.training.config import NOTHING

GROUPS = (*LIBRARY_GROUPS, *CHOICES)
_FEW, _MANY = 8, 25
"""More names than these are not listed: beside a better hint, and in any message."""


@dataclass(frozen=True)
class KnownSettings:
    """The settings that exist under the choices of a command line."""

    values: Mapping[str, Any]
    """By name, sections included, outermost first."""
    chosen: Mapping[str, str]
    """The choice made in each group."""


def owners(group: str, option: str) -> list[str]:
    """Return the choices of ``group`` that have an option of that name; none if it is no group."""
    if group not in GROUPS:
        return []
    return [name for name in choices(group) if option in option_fields(options_class(group, name))]


def find_meaning(key: str, known: KnownSettings) -> str | None:
    """Return what ``key`` surely stands for: the name of a setting or group, a choice, or a clause of some words.

    A setting may belong to a choice that is not made.
    """
    return next(_meanings(key, known), None)


def _meanings(key: str, known: KnownSettings) -> Iterator[str]:
    folded, last = fold(key), fold(key).rpartition(".")[2]
    names = [name for name in known.values if not name.endswith(".name")]
    yield from (name for name in names if fold(name) == folded)
    told = find_setting(key)
    if told is not None and (_is_clause(told) or told in known.values or owners(*_split(told))):
        yield told
    section, option = _split(folded)
    yield from (name for name in names if section and name.startswith(f"{section}.{option}_"))
    yield from (name for name in names if _split(name)[1] == last)
    yield from (f"{group}.{last}" for group in GROUPS if owners(group, last))
    if "." not in key and last != NOTHING:
        yield from (f"{group}={last}" for group in GROUPS if last in choices(group))


def explain_setting(key: str, known: KnownSettings, value: str | None = None) -> str:
    """Return a sentence about a setting that does not exist.

    Args:
        value: what the user sets it to.
    """
    section, option = _split(key)
    of = owners(section, option)
    if of:
        instead = find_setting(key)
        hint = f"; {fill(instead, value)}" if instead is not None and _is_clause(instead) else ""
        return f"{key} is an option of {_choose(section, of)}, not of {section}={known.chosen.get(section)}{hint}"
    meaning = find_meaning(key, known) or _nearest_setting(key, known)
    if meaning is not None:
        return f"unknown option '{key}'{say_meaning(meaning, known, value)}"
    inside = [_split(name)[1] for name in known.values if section and _split(name)[0] == section]
    if inside:
        return f"unknown option '{key}'; {section} has: {', '.join(inside)}"
    return f"unknown option '{key}'; sgp-train --help explains every setting"


def say_meaning(meaning: str, known: KnownSettings, value: str | None = None) -> str:
    """Return the end of a sentence about a mistake: what :func:`find_meaning` has found."""
    if " " in meaning:
        return f"; {fill(meaning, value)}"
    if meaning in GROUPS and fold(value or "") in choices(meaning):
        meaning = f"{meaning}={fold(value or '')}"
    section, option = _split(meaning)
    of = [] if meaning in known.values else owners(section, option)
    return f"; did you mean '{meaning}'" + (f" of {_choose(section, of)}?" if of else "?")


def fill(clause: str, value: str | None) -> str:
    """Return a clause with the user's value where it speaks of one."""
    return clause.replace("{value}", value or "N")


def explain_option(section: str, option: str, known: Iterable[str], choice: str | None = None) -> str:
    """Return a sentence about an option that a section, or a choice of a group, does not have.

    Args:
        known: the options that it has.
        choice: the choice that is made, if ``section`` is a group.
    """
    of = owners(section, option)
    if of and choice is not None:
        return f"{section}.{option} is an option of {_choose(section, of)}, not of {section}={choice}"
    known = sorted(known)
    told = find_setting(f"{section}.{option}")
    near = difflib.get_close_matches(fold(option), known, n=1, cutoff=0.6)
    if told is not None and not near:
        hint = fill(told, None) if _is_clause(told) else f"did you mean '{told}'?"
    else:
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return f"{section} has no option '{option}'" + (f"; {hint}" if known or told else "")


def explain_choice(group: str, word: str, known: Sequence[str]) -> str:
    """Return a sentence about a name that cannot be chosen in ``group``.

    Args:
        known: the names that can.
    """
    said = f"unknown {group} '{word}'"
    folded = {fold(name): name for name in known}
    meant = folded.get(fold(word)) or CHOICE_SYNONYMS.get(group, {}).get(fold(word))
    meant = meant or folded.get(fold(word).rpartition(".")[2])  # given as a path
    if meant:
        return f"{said}; {meant}" if " " in meant else f"{said}; did you mean '{meant}'?"
    for name in _architectures(group, word):
        return f"{said}; write {name}"
    elsewhere = [other for other in GROUPS if fold(word) in choices(other)]
    listed = f"; known: {', '.join(sorted(known))}" if known else ""
    near = difflib.get_close_matches(fold(word), folded, n=1, cutoff=0.6)
    if len(known) > _MANY:
        alike = sorted((name for name in known if fold(word) in name), key=len)[:3]
        alike = alike or [folded[name] for name in near]
        hint = f"; did you mean {' or '.join(map(repr, alike))}?" if alike else ";"
        return f"{said}{hint} sgp-train --help {group} lists all"
    if elsewhere:
        return f"{said}{listed if len(known) <= _FEW else ''}; there is {elsewhere[0]}={fold(word)}"
    return f"{said}; did you mean '{folded[near[0]]}'?" if near else f"{said}{listed}"


def _architectures(group: str, word: str) -> list[str]:
    """Return how to choose ``word`` where a choice stands for many: as torchvision's models are chosen."""
    found = []
    for name in choices(group) if group in LIBRARY_GROUPS else []:
        resolve = getattr(options_class(group, name), "resolve_choice", None)
        for spelling in dict.fromkeys([word, fold(word)]) if resolve else []:
            try:
                resolved = resolve({"name": spelling})["name"] if resolve else spelling
            except ConfigurationError:
                continue
            if resolved == name:
                found.append(f"{group}={name} {group}.name={spelling}")
    return found


def _nearest_setting(key: str, known: KnownSettings) -> str | None:
    """Return the setting whose name is nearest: in the section, in other choices of it, then anywhere."""
    section, option = _split(key)
    names = [name for name in known.values if not name.endswith(".name")]
    others = (
        {of for name in choices(section) for of in option_fields(options_class(section, name))}
        if (section in GROUPS)
        else set()
    )
    by_option = {_split(name)[1]: name for name in reversed(names)}
    places: list[tuple[str, Mapping[str, str], float]] = [
        (option, {_split(name)[1]: name for name in names if _split(name)[0] == section}, 0.6),
        (option, {of: f"{section}.{of}" for of in sorted(others)}, 0.7),
        (option, by_option, 0.7),
        (fold(option), {alias: meaning for alias, meaning in SETTINGS.items() if not _is_clause(meaning)}, 0.85),
        (key, {} if section in known.values else {name: name for name in names}, 0.7),
    ]
    for word, known_words, cutoff in places:
        near = difflib.get_close_matches(word, known_words, n=1, cutoff=cutoff)
        if near:
            return known_words[near[0]]
    return None


def _choose(group: str, names: Sequence[str]) -> str:
    return f"{group}={' or '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)}"


def _split(name: str) -> tuple[str, str]:
    """Return the section of a setting and its name there."""
    section, _, option = name.rpartition(".")
    return section, option


def _is_clause(meaning: str) -> bool:
    return " " in meaning or "=" in meaning

"""Words of a command line that Hydra would take for something else: refused with what to write in their place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.config.choice import option_fields
from launcher.config.clusters import SlurmCluster
from launcher.config.hints import GROUPS, KnownSettings, explain_setting, fill, find_meaning, owners
from launcher.config.manual import Manual
from launcher.config.option_types import annotation, empty_value
from launcher.config.schema import SECTIONS, choices, options_class
from launcher.config.synonyms import HYDRA_IN_USE, SUBMITIT, find_hydra, find_setting
from sgp_core.errors import ConfigurationError
from sgp_core.training.config import NOTHING

FLAGS_WITH_VALUE = (
    *("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--info", "-i", "--experimental-rerun"),
)
_FLAGS = (
    *FLAGS_WITH_VALUE,
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc"),
)


_LONG_DASHES = "\u2013\u2014\u2212"
"""What text processors make of a hyphen."""
_ASSIGNED_OTHERWISE = re.compile(r"([A-Za-z][\w.]*)(?:==|:=?)([^=:\s]+)")


def settings_among(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without flags and their values."""
    before = ["", *arguments]
    return [
        word
        for flag, word in zip(before, arguments, strict=False)
        if not word.startswith("-") and flag not in FLAGS_WITH_VALUE
    ]


def check_words(arguments: Sequence[str]) -> None:
    """Refuse words that Hydra would accept and that would then change nothing.

    Raises:
        ConfigurationError: a setting of Hydra's own that is not used, or the removal of a setting.
    """
    for word in arguments:
        name = word.lstrip("+~").partition("=")[0].partition("@")[0]
        if re.match(r"hydra[./]", name) and not name.startswith(HYDRA_IN_USE):
            raise ConfigurationError(_explain_hydra(name, word.partition("=")[2]))
        if word.startswith("~"):
            _check_removal(word, name)


def _explain_hydra(name: str, value: str) -> str:
    option = name.removeprefix("hydra.launcher.")
    option = SUBMITIT.get(option, option)
    if option in option_fields(SlurmCluster):
        return f"{name} is not used; write cluster=slurm cluster.{option}={value or 'VALUE'}"
    return f"{name} is not used: {find_hydra(name)}"


def _check_removal(word: str, name: str) -> None:
    """Refuse to remove what would then have its default; an entry of a dictionary may be removed."""
    section, _, option = name.rpartition(".")
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


# -- flags that are not flags -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class UnknownFlag:
    """A flag that there is none of, and the value that follows it, if any."""

    flag: str
    key: str
    value: str | None


def unknown_flags(arguments: Sequence[str]) -> Iterator[UnknownFlag]:
    """Yield every flag that does not exist. A long one may be shortened as far as it is unambiguous."""
    for word, following in zip(arguments, [*arguments, "-"][1:], strict=True):
        flag, equals, value = word.partition("=")
        shortened = flag.startswith("--") and sum(name.startswith(flag) for name in _FLAGS) == 1
        if not re.match(r"--?[A-Za-z]", flag) or flag in _FLAGS or shortened:
            continue
        key = flag.lstrip("-").replace("-", "_")
        none_follows = following.startswith("-") or "=" in following
        yield UnknownFlag(flag, key, value if equals else None if none_follows else following)


def explain_flags(flags: Sequence[UnknownFlag], known: KnownSettings) -> str:
    """Return a sentence about flags that do not exist: most are settings with dashes before them."""
    settings = []
    for flag in flags:
        near = difflib.get_close_matches(flag.flag, [one for one in _FLAGS if one.startswith("--")], n=1, cutoff=0.75)
        meaning = find_meaning(flag.key, known) if len(flag.key) > 1 else find_setting(flag.key)
        if meaning is None and near:
            return f"unknown flag '{flag.flag}'; did you mean '{near[0]}'?"
        if meaning is None:
            return explain_setting(flag.key, known, flag.value).replace(f"'{flag.key}'", f"'{flag.flag}'")
        if " " in meaning:
            return f"unknown option '{flag.flag}'; {fill(meaning, flag.value)}"
        settings.append(assign(meaning, flag.value, known))
    return f"settings are written without dashes: {' '.join(settings)}"


# -- words without "=" ------------------------------------------------------------------------------------------------
def explain_bare_word(word: str, arguments: Sequence[str], known: KnownSettings) -> str:
    """Return a sentence about a word that sets nothing."""
    place = list(arguments).index(word) if word in arguments else 0
    before = arguments[place - 1] if place else ""
    if "=" in before and not before.endswith("=") and re.fullmatch(r"[-+.\d]\S*", word):
        return f"'{word}': several values are joined by commas: {before},{word}"
    after = next(iter(arguments[place + 1 :]), "")
    if before.endswith("=") or after.startswith("="):
        value = after.lstrip("=") or next(iter(arguments[place + 2 :]), "")
        joined = f"{before}{word}" if before.endswith("=") else f"{word}={value}"
        return f"'{word}': write {joined}, without a space"
    if word[0] in _LONG_DASHES:
        return f"'{word}' begins with a long dash; type hyphens: -{word.lstrip(_LONG_DASHES)}"
    if assigned := _ASSIGNED_OTHERWISE.fullmatch(word):
        return f"'{word}': write {assigned[1]}={assigned[2]}"
    if re.search(r"\.ya?ml$", word):
        return f"'{word}': settings of your own are chosen by --config-dir FOLDER experiment=NAME"
    if word.endswith(".py"):
        return f"'{word}': code of your own is named by plugins=[{word}]"
    if word in ("help", "version"):
        return f"'{word}' is a flag: sgp-train --{word}"
    key = word.rstrip(":")
    meaning = find_meaning(key, known) if re.fullmatch(r"[A-Za-z][\w.-]*", key) else None
    if meaning is None:
        return f"cannot read '{word}': settings are written name=value, as in training.epochs=3"
    if " " in meaning:
        return f"'{word}': {fill(meaning, None)}"
    if "=" in meaning:
        return f"'{word}': did you mean '{meaning}'?"
    alone = not after or "=" in after or after.startswith("-")
    if alone and meaning in Manual().groups:
        return f"'{word}' needs a name, as in {assign(meaning, None, known)}; sgp-train --help {meaning} lists them"
    return f"'{word}' needs a value; write {assign(meaning, None if alone else after, known)}"


def explain_unreadable(word: str, error: str) -> str:
    """Return a sentence about a word whose value Hydra cannot read.

    Args:
        error: what Hydra says.
    """
    name, _, value = word.partition("=")
    said = f"cannot read '{word}'"
    if word[0] in _LONG_DASHES:
        return f"'{word}' begins with a long dash; settings have none: {word.lstrip(_LONG_DASHES)}"
    if assigned := _ASSIGNED_OTHERWISE.fullmatch(word):
        return f"{said}: write {assigned[1]}={assigned[2]}"
    if ":" in name:
        return f"{said}: write {word.replace(':', '.', 1)}"
    if not re.fullmatch(r"[+~]*[A-Za-z]\w*([./@:]\w+)*", name):
        return f"{said}: settings are written name=value, as in training.epochs=3"
    if function := re.search(r"Unknown function '(\w+)'", error):
        return f"{said}: there is no {function[1]}(); a search takes interval(low,high) or tag(log,interval(low,high))"
    if word.endswith(","):
        return f"{said}: nothing follows the comma"
    if ";" in value:
        return f"{said}: several values are joined by commas: -m {word.replace(';', ',')}"
    if any(word.count(left) != word.count(right) for left, right in ("[]", "()", "{}")):
        return f"{said}: a bracket has no partner; lists are written without spaces, as in [1,2]"
    return f"{said}: put the value in double quotes, and the whole in single ones: '{name}=\"...\"'"


def assign(meaning: str, value: str | None, known: KnownSettings) -> str:
    """Return the word that gives a setting, or makes the choice, that :func:`find_meaning` has found."""
    if "=" in meaning:
        return meaning
    if value is None:
        value = _example(meaning, known)
    return f"{meaning}={value}"


def _example(name: str, known: KnownSettings) -> str:
    if name in Manual().groups:
        return Manual().choices(name)[0]
    value: Any = known.values.get(name)
    if isinstance(value, bool):
        return "true"
    return "VALUE" if value is None or isinstance(value, dict) else str(value).replace(" ", "")


def explain_empty_sweep(arguments: Sequence[str]) -> str:
    """Return a sentence about a sweep that has no point."""
    for word in arguments:
        name, _, value = word.partition("=")
        if value.startswith("glob(") and name not in (*GROUPS, "experiment", "debug"):
            return f"'{word}' stands for no value: glob() is for choices, as in topology=glob(*ring)"
        if value.startswith("glob("):
            return f"'{word}' fits no choice; sgp-train --help {name} lists them"
    words = [word for word in arguments if re.search(r"=\s*(range|choice)\(", word)]
    return f"'{' '.join(words) or 'the sweep'}' stands for no value"

"""Words of a command line that set nothing: what their author meant to write."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from launcher.config.hints import KnownSettings, fill, find_meaning
from launcher.config.manual import Manual

_LONG_DASHES = "\u2013\u2014\u2212"
"""What text processors make of a hyphen."""
_ASSIGNED_OTHERWISE = re.compile(r"([A-Za-z][\w.]*)(?:==|:=?)([^=:\s]+)")


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
    quoted = shlex.quote(f"{name}={_in_quotes(value)}")
    if strange := re.search(r"""[^\w\s/\\+.$%*@?|()\[\]{},:='"-]|[^\x00-\x7f]""", value):
        return f"{said}: '{strange[0]}' stands only in quotes: {quoted}"
    return f"{said}: put the value in double quotes, and the whole in single ones: {quoted}"


def _in_quotes(value: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(value.strip("\"'"), Quote.double).with_quotes()


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

"""Flags of ``sgp-train``, and flags that do not exist: most are settings with dashes before them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.config.hints import KnownSettings, explain_setting, fill, find_meaning
from launcher.config.synonyms import find_setting
from launcher.config.unreadable import assign

FLAGS_WITH_VALUE = (
    *("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--info", "-i", "--experimental-rerun"),
)
_FLAGS = (
    *FLAGS_WITH_VALUE,
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc"),
)


def settings_among(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without flags and their values."""
    before = ["", *arguments]
    return [
        word
        for flag, word in zip(before, arguments, strict=False)
        if not word.startswith("-") and flag not in FLAGS_WITH_VALUE
    ]


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

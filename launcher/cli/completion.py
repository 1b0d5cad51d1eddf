"""What a shell completes: every choice, and every value of settings that have only so many; the rest is Hydra's."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence

from launcher.config.choice import option_fields
from launcher.config.compose import compose
from launcher.config.launch_options import LaunchOptions
from launcher.config.make_plan import RunSettings
from launcher.config.manual import PRESETS, Manual
from launcher.config.option_types import values_of
from launcher.config.plugins import offer_plugins, settings_folders, words_to_complete
from launcher.config.schema import LISTS, SECTIONS, AlgorithmOptions, choices, options_class
from sgp_core.registry import VALUES


def print_completions(arguments: Sequence[str]) -> int:
    """Answer a shell as its script expects it, and return the exit code."""
    words = words_to_complete()
    last = "" if os.environ.get("COMP_LINE", "").endswith(" ") or not words else words[-1]
    with offer_plugins(arguments) as parts:
        offered = find_values(last, words, Manual(settings_folders(words), parts))
    if offered is None:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            compose(arguments)
        offered = list(_tidy(said.getvalue().split()))
    print(("\n" if "query=fish" in arguments else " ").join(dict.fromkeys(offered)))
    return 0


def find_values(word: str, line: Sequence[str], manual: Manual) -> list[str] | None:
    """Return how a word that sets something could go on; None if any value will do.

    Args:
        line: the words of the command line, which may choose what has the setting.
    """
    name, equals, value = word.partition("=")
    if not equals:
        return None
    if name in LISTS:
        known = [f"[{one}]" for one in choices(LISTS[name])]
    else:
        known = manual.choices(name) if name in manual.groups else _values(name, line, manual)
    begun, comma, _ = value.rpartition(",")  # in a sweep
    return [f"{name}={begun}{comma}{one}" for one in known if one.startswith(value[len(begun + comma) :])] or None


def _values(name: str, line: Sequence[str], manual: Manual) -> list[str]:
    section, _, option = name.rpartition(".")
    classes = [SECTIONS[section]] if section in SECTIONS else [] if section else [RunSettings, LaunchOptions]
    if section in manual.groups and section not in PRESETS:
        chosen = [word.partition("=")[2] for word in line if word.startswith(f"{section}=")]
        classes = [options_class(section, (chosen or [manual.default(section)])[-1])]
        classes += [AlgorithmOptions] if section == "algorithm" else []
    fields = {key: (cls, entry) for cls in classes for key, entry in option_fields(cls).items()}
    if option == "name" and any(hasattr(cls, "resolve_choice") for cls in classes):  # it may be that of one of many
        option = next((key for key, (_, entry) in fields.items() if VALUES in entry.metadata), option)
    return values_of(*fields[option]) if option in fields else []


def _tidy(words: Sequence[str]) -> Iterator[str]:
    """Yield what Hydra offers, less its own settings, and less the folders inside a group, which are no choices."""
    for word in words:
        key, equals, _ = word.partition("=")
        if "/" in key or not (equals or word.endswith(".")):
            word = f"{key.partition('/')[0]}="
        if not word.startswith("hydra"):
            yield word

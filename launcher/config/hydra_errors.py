"""Hydra's errors in short sentences: what is wrong, where, and what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.config.hints import GROUPS, KnownSettings, explain_choice, explain_setting
from launcher.config.manual import PRESETS, Manual
from launcher.config.schema import SEVERAL
from launcher.config.unreadable import explain_bare_word, explain_unreadable

MAX_LINES = 4
_CHOSEN = (*GROUPS, *PRESETS)


def explain(error: BaseException, arguments: Sequence[str]) -> str:
    """Return at most four lines that explain ``error`` to a user who typed ``arguments``."""
    from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException

    text = str(error)
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error, arguments)
    if match := re.match(r"Ambiguous value for argument '(.*)'", text):
        return _several_values(match[1], arguments)
    if match := re.match(r"Sweep parameters '(.*)' requires --multirun", text):
        return _several_values(match[1], arguments)
    if "does not support sweep type" in text:
        return _several_values(next((word for word in arguments if "interval(" in word), ""), arguments)
    if match := re.search(r"looks like a config group override, but config group '(.*)' does not exist", text):
        return _unknown_setting(match[1].replace("/", "."), arguments)
    if text.startswith("Config group override must be"):
        return explain_unreadable(next((word for word in arguments if word.startswith("=")), " ".join(arguments)), "")
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_setting(match[1], arguments)
    if match := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"'{match[1]}' exists already: leave out the '+'"
    if match := re.search(r"Multiple values for ([\w/@]+)", text):
        return f"'{match[1].split('@')[0]}' is chosen already: leave out the '+'"
    if match := re.search(r"Interpolation key '(.*)' not found(?s:.*)full_key: (\S+)", text):
        words = [word for word in arguments if word.lstrip("+").startswith(f"{match[2]}=")]
        return f"{words[-1] if words else match[2]}: there is no setting '{match[1]}'"
    if match := re.search(r"raised while resolving interpolation: (.*)(?s:.*)full_key: (\S+)", text):
        words = [word for word in arguments if word.lstrip("+").startswith(f"{match[2]}=")]
        why = match[1].strip('"')
        why = f": {why}" if why.startswith("Environment variable") else ""
        return f"{words[-1] if words else match[2]}: what stands in ${{...}} cannot be found{why}"
    if isinstance(error, ConfigCompositionException) and isinstance(error.__cause__, Exception):
        text = f"{text}\n{error.__cause__}"
    if match := re.search(r"Error merging override (.*)\nCannot merge", text):
        return _another_kind(match[1], arguments)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _is_noise(line)]
    return "; ".join(lines[:MAX_LINES]) or type(error).__name__


def _unknown_choice(error: Any) -> str:
    missing = str(error.missing_cfg_file or "")
    group, _, choice = missing.partition("/")
    known = error.options or Manual().choices(group)  # none, if the choice is given as a path
    return explain_choice(group, choice, known) if choice else str(error).splitlines()[0]


def _several_values(word: str, arguments: Sequence[str]) -> str:
    """Return a sentence about a word with several values where there is no sweep, or an interval without a search."""
    if "interval(" in word:
        flag = "" if {"-m", "--multirun"} & set(arguments) else "-m "
        return f"'{word}' is for a search, which tries some values of it: add {flag}search=tpe"
    key, _, values = word.partition("=")
    wants_list = key in SEVERAL or isinstance(find_known_settings(arguments).values.get(key), list)
    one = f", or write {key}=[{values}] for one list" if wants_list else ""
    return f"'{word}' has several values: add -m to run each of them{one}"


def _another_kind(word: str, arguments: Sequence[str]) -> str:
    """Return a sentence about a word that sets a list to a dictionary, or a section to a list."""
    name = word.lstrip("+").partition("=")[0]
    options = find_known_settings(arguments).values.get(name)
    if isinstance(options, Mapping):
        return f"{word}: a section has no value, but options such as {name}.{next(iter(options), 'NAME')}"
    return f"{word}: expected a list [a,b,...]"


def _unreadable(error: Any, arguments: Sequence[str]) -> str:
    word = str(error.override)
    if "=" not in word:
        return explain_bare_word(word, arguments, find_known_settings(arguments))
    return explain_unreadable(word, str(error))


def _unknown_setting(key: str, arguments: Sequence[str]) -> str:
    values = [word.partition("=")[2] for word in arguments if word.lstrip("+~").startswith(f"{key}=")]
    return explain_setting(key, find_known_settings(arguments), values[-1] if values else None)


def find_known_settings(arguments: Sequence[str]) -> KnownSettings:
    """Return the settings that exist under the choices of ``arguments``, whatever else is wrong with them."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from launcher.config.schema import CONFIG_MODULE

    choice = re.compile(r"([a-z]+)=(\w+|\[[\w,]+\])")
    chosen = [word for word in arguments if (made := choice.fullmatch(word)) and made[1] in _CHOSEN]
    for overrides in (chosen, []):
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
                composed = hydra.compose("config", overrides=overrides, return_hydra_config=True)
        except (
            HydraException,
            OmegaConfBaseException,
            ValueError,
        ):  # a wrong choice: those of the usual ones will do
            continue
        choices = {str(group): str(choice) for group, choice in composed.hydra.runtime.choices.items()}
        choices |= {word.partition("=")[0]: word.partition("=")[2] for word in overrides if "[" in word}
        settings = OmegaConf.to_container(
            OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        )
        assert isinstance(settings, dict)
        dotted = dict(_dotted({str(key): value for key, value in settings.items()}))
        return KnownSettings({name: dotted[name] for name in sorted(dotted, key=lambda name: name.count("."))}, choices)
    return KnownSettings({}, {})


def _dotted(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")


def _is_noise(line: str) -> bool:
    return "https://" in line or line.strip().startswith(("object_type", "reference_type"))

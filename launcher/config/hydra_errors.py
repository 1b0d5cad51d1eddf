"""Hydra's errors in short sentences: what is wrong, where, and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sgp_core.errors import did_you_mean

MAX_LINES = 4


def explain(error: BaseException, arguments: Sequence[str]) -> str:
    """Return at most four lines that explain ``error`` to a user who typed ``arguments``."""
    from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException

    text = str(error)
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        reason = str(error).splitlines()[0].split(": ", 1)[-1]
        return f"cannot read '{error.override}': {reason}"
    if match := re.match(r"Ambiguous value for argument '(.*)'", text):
        key, _, values = match[1].partition("=")
        return f"'{match[1]}' has several values: add -m to run each of them, or write {key}=[{values}] for one list"
    if text.startswith("Config group override must be"):
        words = [word for word in arguments if re.fullmatch(r"[\w/@]*=(null|true|false|[-+.\d]*|{.*})", word)]
        return f"'{' '.join(words)}': a choice is made by its name, as in topology=ring"
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], arguments)
    if match := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"'{match[1]}' exists already: leave out the '+'"
    if match := re.search(r"Multiple values for ([\w/@]+)", text):
        return f"'{match[1].split('@')[0]}' is chosen more than once"
    if isinstance(error, ConfigCompositionException) and isinstance(error.__cause__, Exception):
        text = f"{text}\n{error.__cause__}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _is_noise(line)]
    return "\n".join(lines[:MAX_LINES]) or type(error).__name__


def _unknown_choice(error: Any) -> str:
    missing = str(error.missing_cfg_file or "")
    group, _, choice = missing.rpartition("/")
    options = [option for option in error.options or [] if option != choice]
    if not group:
        return str(error).splitlines()[0]
    return f"unknown {group} '{choice}'{_nearest(choice, options)}"


def _nearest(word: str, options: Sequence[str]) -> str:
    hint = did_you_mean(word, options)
    return f"{hint} known: {', '.join(sorted(options))}" if hint.endswith("?") else hint


def _unknown_key(key: str, arguments: Sequence[str]) -> str:
    known = list(_known_keys(arguments))
    last = key.rpartition(".")[2]
    same_name = [name for name in known if name.rpartition(".")[2] == last and name != key]
    if same_name:
        return f"unknown option '{key}'; did you mean '{same_name[0]}'?"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if not near:
        by_last = {name.rpartition(".")[2]: name for name in reversed(known)}
        near = [by_last[name] for name in difflib.get_close_matches(last, by_last, n=1, cutoff=0.7)]
    section = key.rpartition(".")[0]
    inside = [name.rpartition(".")[2] for name in known if section and name.rpartition(".")[0] == section]
    if near:
        return f"unknown option '{key}'; did you mean '{near[0]}'?"
    if inside:
        return f"unknown option '{key}'; {section} has: {', '.join(inside)}"
    top = [name for name in known if "." not in name]
    return f"unknown option '{key}'; known at the top: {', '.join(top)}"


def _known_keys(arguments: Sequence[str]) -> Iterator[str]:
    """Yield every setting that exists under the choices of ``arguments``, outermost first."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from launcher.config.schema import CONFIG_MODULE

    chosen = [word for word in arguments if re.fullmatch(r"[a-z]+=\w+", word)]
    for overrides in (chosen, []):
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
                settings = OmegaConf.to_container(hydra.compose("config", overrides=overrides))
        except Exception:
            continue
        assert isinstance(settings, dict)
        yield from sorted(
            _dotted({str(key): value for key, value in settings.items()}), key=lambda name: name.count(".")
        )
        return


def _dotted(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")


def _is_noise(line: str) -> bool:
    return "https://" in line or line.strip().startswith(("object_type", "reference_type"))

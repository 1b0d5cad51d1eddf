"""Composing by Hydra without its command line, which composes more often than there are runs.

For a single run it composes twice: first to learn that it is one. For a sweep it composes twice, and every point twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from launcher.config.schema import CONFIG_MODULE

_SWEEP = {"-m", "--multirun"}


def compose_directly(collect: Callable[[Any], None], arguments: Sequence[str]) -> bool:
    """Hand the settings of each run to ``collect``; return False, and hand on none, if Hydra's command line has to.

    That is so for flags other than ``-m``, among them ``--config-dir``, and for settings of Hydra's own: only these can
    say that it is a sweep, or make the sweep another one.

    Raises:
        Exception: what Hydra raises where its command line would fail, too.
    """
    flags = {word for word in arguments if word.startswith("-")}
    if flags - _SWEEP or any(word.lstrip("+~").startswith("hydra") for word in arguments):
        return False
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    words = [word for word in arguments if word not in flags]
    with hydra.initialize_config_module(CONFIG_MODULE, job_name="sgp-train", version_base="1.3"):
        first: Any = None
        for number, overrides in enumerate(_points(words) if flags else [words]):
            settings = hydra.compose("config", overrides=overrides, return_hydra_config=True)
            if first is None:
                first = settings
            else:  # what is resolved once, such as the time, is the same in all points
                OmegaConf.copy_cache(from_config=first, to_config=settings)
            with open_dict(settings):
                if flags:
                    settings.hydra.job.id = settings.hydra.job.num = number
                HydraConfig.instance().set_config(settings)
                del settings["hydra"]
            collect(settings)
    return True


def _points(words: Sequence[str]) -> list[list[str]]:
    """Return the words of each point of a sweep, as Hydra's own sweeper makes them."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    values: dict[str, list[str]] = {}
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    for override in parser.parse_overrides(list(words)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            values[key] = [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise HydraException(f"{key} does not support sweep type interval")
    return [list(point) for point in itertools.product(*values.values())]

"""From the command line to settings: Hydra composes them, and does nothing else.

Hydra's task function only collects settings. So a single run and every point of a sweep take the same path, and
nothing has been started when a mistake is found.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.config.direct import compose_directly
from launcher.config.extension import add_earlier_words
from launcher.config.fault_words import quote_faults
from launcher.config.flags import FLAGS_WITH_VALUE, explain_flags, unknown_flags
from launcher.config.plugins import offer_plugins
from launcher.config.schema import CONFIG_MODULE, SEVERAL
from launcher.config.sweeps import check_size
from launcher.config.words import check_words, explain_empty_sweep
from sgp_core.errors import ConfigurationError
from sgp_core.training.config import renamed_options


@dataclass(frozen=True)
class Point:
    """The settings of one run as composed: plain data, not yet checked."""

    settings: dict[str, Any]
    choices: dict[str, str]
    """The choice made in each group."""
    overrides: list[str]
    """The words of the command line that hold for this run."""


def compose(arguments: Sequence[str]) -> list[Point]:
    """Load the plug-ins that ``arguments`` name, and return the points they ask for; none if they only ask for text.

    Raises:
        ConfigurationError: a plug-in is missing or broken, or the arguments cannot be composed.
        SystemExit: with code 0, after ``--help``.
    """
    arguments = [quote_faults(_present_name(word)) for word in arguments]
    check_words(arguments)
    if flags := list(unknown_flags(arguments)):
        from launcher.config.hydra_errors import find_known_settings

        raise ConfigurationError(explain_flags(flags, find_known_settings(arguments)))
    if {"-m", "--multirun"} & set(arguments):
        check_size(arguments)
    arguments = add_earlier_words(arguments)
    with offer_plugins(arguments):
        return _compose(arguments)


def _compose(arguments: Sequence[str]) -> list[Point]:
    points: list[Point] = []
    errors: list[Exception] = []

    def collect(settings: Any) -> None:
        try:
            points.append(_point(settings))
        except Exception as error:  # in a sweep Hydra would hide it
            errors.append(error)

    try:
        if not compose_directly(collect, arguments):
            _run_hydra(collect, arguments)
        if errors:
            raise errors[0]
    except (ConfigurationError, BrokenPipeError):
        raise
    except Exception as error:  # Hydra raises many types, each for a mistake in the user's words
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        from launcher.config.hydra_errors import explain

        raise ConfigurationError(explain(error, arguments)) from None
    if not points and {"-m", "--multirun"} & set(arguments):
        raise ConfigurationError(explain_empty_sweep(arguments))
    return points


def _present_name(argument: str) -> str:
    """Return an override under the present name of its setting, if the setting was renamed."""
    former = re.match(r"[+~]*([\w.]+)", argument)
    name = renamed_options().get(former[1]) if former else None
    return argument if name is None or former is None else argument.replace(former[1], name, 1)


def _point(settings: Any) -> Point:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    plain = OmegaConf.to_container(settings, resolve=True)  # missing values are refused when types are checked
    assert isinstance(plain, dict)
    return Point(
        settings={str(key): value for key, value in plain.items()},
        choices={str(group): str(choice) for group, choice in hydra.runtime.choices.items()}
        | _listed_choices(list(hydra.overrides.task), hydra.runtime.choices),
        overrides=list(hydra.overrides.task),
    )


def _listed_choices(overrides: list[str], made: Mapping[str, str | None]) -> dict[str, str]:
    """Return as ``[a,b]`` the lists chosen in groups where there may be several: Hydra does not say them."""
    groups = [group for group in SEVERAL if made.get(group) is None]
    if not groups:
        return {}
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    loader = GlobalHydra.instance().config_loader()
    composed = loader.compute_defaults_list("config", overrides, RunMode.RUN).defaults
    paths = [(entry.config_path or "").partition("/") for entry in composed]
    return {group: f"[{','.join(name for section, _, name in paths if section == group)}]" for group in groups}


def _run_hydra(task: Any, arguments: Sequence[str]) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    main = hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="config")(task)
    stderr = io.StringIO()
    scratch = tempfile.mkdtemp(prefix="sgp-train-")  # Hydra writes a sweep's multirun.yaml there
    OmegaConf.register_new_resolver("scratch", lambda: scratch, replace=True)
    try:
        with _as_process(["sgp-train", *_flags_first(arguments)]):
            try:
                with contextlib.redirect_stderr(stderr):
                    main()
            except SystemExit as stop:
                if stop.code not in (0, None):
                    lines = [line for line in stderr.getvalue().splitlines() if line.strip()]
                    message = lines[-1].removeprefix("sgp-train: error: ") if lines else "bad command line"
                    raise ConfigurationError(message) from None
                raise
        if said := stderr.getvalue():
            sys.stderr.write(said)
    finally:
        GlobalHydra.instance().clear()
        shutil.rmtree(scratch, ignore_errors=True)


def _flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with flags before settings: Hydra's parser refuses ``a=1 -m b=2``."""
    flags: list[str] = []
    settings: list[str] = []
    waiting = iter(arguments)
    for word in waiting:
        (flags if word.startswith("-") else settings).append(word)
        if word in FLAGS_WITH_VALUE:
            flags.extend(itertools.islice(waiting, 1))
    return flags + settings


@contextlib.contextmanager
def _as_process(arguments: list[str]) -> Iterator[None]:
    """Let Hydra see ``arguments``, and raise its errors instead of printing them and exiting."""
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = arguments, "1"
    try:
        yield
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before[1]

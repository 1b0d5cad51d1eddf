"""The command ``sgp-train``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from launcher.console.messages import print_failure
from launcher.console.output import discard, open_closed_streams, outlive_output
from sgp_core.errors import ConfigurationError

BAD_CONFIGURATION, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sgp-train`` and return its exit code.

    0 every run ok, 1 a run failed, 2 bad configuration, 3 submission failed, 130 interrupted (143: by SIGTERM).
    """
    open_closed_streams()
    try:
        code = _main(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has ended, as in: sgp-train --help | head
        discard(sys.stdout)
        return 128 + signal.SIGPIPE
    except OSError as error:  # as in: sgp-train --help > /dev/full
        if error.errno is None:  # an error of Hydra's, which its users have asked to see whole
            raise
        discard(sys.stdout)
        where = f"{error.filename}: " if error.filename else ""
        return print_failure(f"{where}{error.strerror or error}", BAD_CONFIGURATION)


def _main(arguments: list[str]) -> int:
    command = ["sgp-train", *arguments]
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"sgp-train {version('stochastic-gradient-push')}")
        return 0
    try:
        if {"--help", "-h"} & set(arguments):
            return _help(arguments)
        if any(word.startswith("query=") for word in arguments):
            from launcher.cli.completion import print_completions

            return print_completions(arguments)
        _refuse_commands_of_sgp(arguments)
        from launcher.config.compose import compose

        if asks_for_search(arguments):
            from launcher.search.launch import launch_search
            from launcher.search.search import prepare

            prepared = prepare(arguments)
            with outlive_output("sgp-train"):
                return launch_search(prepared, command)
        points = compose(arguments)
        if not points:
            return 0
        from launcher.config.launch_options import launch_options
        from launcher.config.make_plan import make_plans

        options, plans = launch_options(points), make_plans(points)
    except ConfigurationError as error:
        return print_failure(str(error), BAD_CONFIGURATION)
    except SystemExit as stop:
        return int(stop.code or 0)
    from launcher.execution.launch import launch
    from launcher.runs.sweep import as_sweep

    with outlive_output("sgp-train"):
        return launch(as_sweep(plans) if len(plans) > 1 else plans, options, command)


def _help(arguments: list[str]) -> int:
    """Explain the words of a command line, or everything."""
    from launcher.cli.help import print_help
    from launcher.config.flags import settings_among
    from launcher.config.manual import Manual
    from launcher.config.plugins import offer_plugins, settings_folders

    topics = [word for word in settings_among(arguments) if not word.startswith("plugins=")]
    with offer_plugins(arguments) as parts:
        print_help(topics, Manual(settings_folders(arguments), parts))
    return 0


def _refuse_commands_of_sgp(arguments: list[str]) -> None:
    word = arguments[0] if arguments else ""
    if word.isalpha() and word not in ("topology",):
        from launcher.cli.sgp import command_names

        if word in command_names():
            raise ConfigurationError(f"'{word}' is a command of sgp: sgp {' '.join(arguments)}")


def asks_for_search(arguments: Sequence[str]) -> bool:
    """Whether a command line chooses a search, and wants it run rather than printed."""
    chosen = [word.removeprefix("search=") for word in arguments if word.startswith("search=")]
    return bool(chosen) and chosen[-1] != "none" and not {"--cfg", "-c", "--help", "--info"} & set(arguments)


if __name__ == "__main__":
    sys.exit(main())

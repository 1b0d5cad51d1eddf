"""The command ``sgp``: everything about runs that is not training. Its commands are in :mod:`launcher.cli.commands`."""

from __future__ import annotations

import importlib
import json
import pkgutil
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from launcher.cli import commands
from launcher.console.output import discard, open_closed_streams
from launcher.runs.plain_text import clean, shorten
from sgp_core.errors import ConfigurationError

BAD_INPUT, INTERRUPTED = 2, 130
_LONGEST = 1000
"""Characters of a message."""
ALIASES = {"list": "runs", "ls": "runs", "show": "status"}
"""What people type for a command, as other tools call it."""


def command_names() -> list[str]:
    """Return the names of all commands: those of the files in :mod:`launcher.cli.commands`."""
    return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))


class CommandGroup(TyperGroup):
    """The commands of ``sgp``, each imported when it is needed; a mistake ends in a sentence and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return sorted({*command_names(), *super().list_commands(ctx)})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name or an alias, None if there is none."""
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in self.commands and cmd_name in command_names():
            self.commands[cmd_name] = _load_command(cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name; to suggest one for a wrong name, all are loaded."""
        if args and self.get_command(ctx, args[0]) is None:
            for name in command_names():
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
            return answer
        except ConfigurationError as error:
            message = shorten(clean(str(error)), _LONGEST)  # it may quote what a run folder says
            print(f"sgp: {message}", file=sys.stderr)
            if "--json" in ctx.obj:
                print(json.dumps({"error": message}))
            raise typer.Exit(BAD_INPUT) from None
        except BrokenPipeError:  # the reader of our output has ended, as in: sgp runs | head
            discard(sys.stdout)
            raise typer.Exit(128 + signal.SIGPIPE) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            print(f"sgp: {where}{error.strerror or error}", file=sys.stderr)
            try:
                sys.stdout.flush()
            except OSError:  # that was the error, as in: sgp runs > /dev/full
                discard(sys.stdout)
            raise typer.Exit(BAD_INPUT) from None


def _load_command(name: str) -> Any:
    """Import a command's file, and return its function as a command."""
    module = importlib.import_module(f"{commands.__name__}.{name}")
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(getattr(module, name))
    return typer.main.get_command(single)


app = typer.Typer(
    name="sgp",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"sgp {version('stochastic-gradient-push')}")
        raise typer.Exit


@app.callback()
def sgp(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """List, follow, compare and end runs of sgp-train.

    sgp list is sgp runs, sgp show is sgp status.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sgp`` and return its exit code.

    0 ok, 1 a run in question has failed, 2 bad input, 130 interrupted.
    """
    open_closed_streams()
    given = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # files may hold characters that this terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        typer.main.get_command(app).main(args=given, prog_name="sgp", obj=given)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())

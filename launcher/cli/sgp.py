"""The command ``sgp``: everything about runs that is not training."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from launcher.cli.cancel import cancel
from launcher.cli.clean import clean
from launcher.cli.export import export
from launcher.cli.logs import logs
from launcher.cli.report import report
from launcher.cli.resume import resume
from launcher.cli.runs import runs
from launcher.cli.status import status
from launcher.cli.sync import sync
from launcher.cli.table import table
from launcher.cli.topology import topology
from launcher.cli.translate import translate
from sgp_core.errors import ConfigurationError

BAD_INPUT, INTERRUPTED = 2, 130


class CommandGroup(TyperGroup):
    """Turns what a verb cannot do into words and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
            return answer
        except ConfigurationError as error:
            print(f"sgp: {error}", file=sys.stderr)
            if "--json" in ctx.obj:
                print(json.dumps({"error": str(error)}))
            raise typer.Exit(BAD_INPUT) from None
        except BrokenPipeError:  # whoever read our output has had enough: sgp runs | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(128 + signal.SIGPIPE) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            print(f"sgp: {where}{error.strerror or error}", file=sys.stderr)
            raise typer.Exit(BAD_INPUT) from None


app = typer.Typer(
    name="sgp",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for verb in (runs, status, logs, cancel, resume, table, report, export, translate, sync, clean, topology):
    app.command()(verb)


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
    """List, follow, compare and end runs of sgp-train."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sgp`` and return its exit code.

    0 ok, 1 a run that was asked about failed, 2 bad input, 130 interrupted.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # files may hold what this terminal cannot show
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

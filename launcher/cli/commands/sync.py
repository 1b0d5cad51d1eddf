"""``sgp sync``: upload to Weights & Biases the runs that were written offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, complete_targets
from launcher.config.trackers import tracker_in_spec
from launcher.runs.find import LIVE, Run, all_runs, find_runs
from launcher.runs.plain_text import clean
from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from launcher.wandb.sync import Upload


def sync(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|SWEEP]...", help="Ids, or the beginnings of them.", autocompletion=complete_targets
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run in the folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be uploaded; change nothing.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Limit for one upload.")] = 300.0,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Upload runs to Weights & Biases that were written offline.

    Rows that the server has already are not sent again.
    """
    if bool(targets) == everything:
        raise ConfigurationError("name the runs to upload, or give --all")
    runs = find_runs(targets, runs_dir) if targets else all_runs(runs_dir)
    due = [(run, _uploads(run)) for run in runs]
    from sgp_core.tracking.account import has_account

    if not dry_run and any(uploads for _, uploads in due) and not has_account():
        raise ConfigurationError("there is no Weights & Biases account here: set WANDB_API_KEY or run `wandb login`")
    answers = []
    for run, uploads in due:
        for answer in _upload(run, uploads, dry_run, timeout):
            answers.append(answer)
            if not as_json:
                print(_line(answer), flush=True)
    if as_json:
        print_json({"runs": answers})
    if any(answer["result"] == "failed" for answer in answers):
        raise typer.Exit(1)


def _uploads(run: Run) -> Sequence[Upload]:
    from launcher.wandb.sync import uploads

    if not run.world_size:
        return []
    try:
        return uploads(run.spec, run.folder.path.absolute(), live=run.state in LIVE)
    except (KeyError, TypeError, ValueError, AttributeError, OSError):  # the run is damaged
        return []


def _upload(run: Run, uploads: Sequence[Upload], dry_run: bool, timeout: float) -> list[dict[str, Any]]:
    """Upload a run; return the result for each of its workers."""
    from launcher.wandb.sync import perform

    about = {"run_id": run.run_id, "name": run.name}
    if not uploads:
        return [{**about, "rank": 0, "result": "nothing", "reason": _reason(run), "url": None}]
    answers = []
    for upload in uploads:
        if dry_run:
            ended = {"result": "due", "reason": "rebuilt first" if upload.rebuild else None, "url": None}
        else:
            done = perform(upload, run.state, dict(run.summary), timeout)
            ended = {"result": "failed" if done.error else "uploaded", "reason": done.error, "url": done.url}
        answers.append({**about, "rank": upload.rank, **ended})
    return answers


def _reason(run: Run) -> str:
    if not isinstance(run.spec.get("tracker"), dict | list) or not run.world_size:
        return "its spec.json cannot be read"
    tracker = tracker_in_spec(run.spec, "wandb")
    if tracker is None or tracker.get("mode") == "disabled":
        return "not mirrored"
    if run.state in LIVE:
        return f"{run.state}, and nothing is offline"
    return "up to date" if run.step else "no rows"


def _line(answer: dict[str, Any]) -> str:
    worker = f" (rank {answer['rank']})" if answer["rank"] else ""
    more = answer["reason"] or answer["url"]
    return clean(f"{answer['run_id']}  {answer['name']}{worker}: {answer['result']}{f', {more}' if more else ''}")

"""``sgp resume``: continue runs with their own settings."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from launcher.cli.confirm import confirm_code
from launcher.cli.json_output import print_json
from launcher.cli.options import (
    RUNS_DIR,
    JsonOption,
    RunsDirOption,
    StateOption,
    TargetArguments,
    TrustOption,
    states,
)
from launcher.cli.status_view import count_states
from launcher.cli.watch import goes_on
from launcher.config.trust import code_of, links_of
from launcher.console.output import outlive_output
from launcher.runs.find import Run, find_runs, reread
from launcher.runs.liveness import Observer
from launcher.runs.plain_text import clean
from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from launcher.config.run_plan import RunPlan


def resume(
    ctx: typer.Context,
    targets: TargetArguments,
    state: StateOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Continue runs that ended early, with their own settings.

    Completed and live runs are left alone. A folder that you did not make may name any code, so that is asked for.
    Exit codes are those of sgp-train.
    """
    from launcher.execution.run_lifecycle import FAILED, OK

    wanted = states(state)
    matching = [run for run in find_runs(targets, runs_dir, Observer()) if wanted is None or run.state in wanted]
    due = [run for run in matching if run.state != "completed" and not (goes_on(run) and run.verified)]
    plans, refused = _plans(due, trust=trust)
    if refused and not plans:
        others = f" (nor can {len(refused) - 1} more)" if len(refused) > 1 else ""
        run_id, why = next(iter(refused.items()))
        raise ConfigurationError(f"{run_id} cannot be resumed{others}: {why}")
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(), outlive_output("sgp"):
        _print_plan(matching, plans, refused)
        code = _run(plans, ["sgp", *ctx.obj]) if plans else OK
    code = code or (FAILED if refused else OK)
    if as_json:
        print_json({"exit_code": code, "runs": _results(matching, plans, refused)})
    raise typer.Exit(code)


def _plans(due: Sequence[Run], *, trust: bool) -> tuple[dict[str, RunPlan], dict[str, str]]:
    """Return the plans of the runs that can be resumed, and why the others cannot, by run id."""
    from launcher.runs.resumption import plan_to_resume

    plans, refused = {}, {}
    for run in due:
        if not run.verified:
            refused[run.run_id] = run.note or "it may be running"
            continue
        try:
            if not trust:
                confirm_code(run, [*code_of(run.spec), *links_of(run.folder.path)])
            plans[run.run_id] = plan_to_resume(run)
        except ConfigurationError as error:
            refused[run.run_id] = str(error)
    return plans, refused


def _print_plan(matching: Sequence[Run], plans: Mapping[str, RunPlan], refused: Mapping[str, str]) -> None:
    for run_id, why in refused.items():
        print(clean(f"sgp: {run_id} cannot be resumed: {why}"), file=sys.stderr)
    if not plans:
        print(f"nothing to resume: {count_states(matching)}")
    elif len(matching) > 1:
        print(f"{count_states(matching)}; {len(plans)} to resume", flush=True)


def _run(plans: Mapping[str, RunPlan], command: Sequence[str]) -> int:
    from launcher.execution.launch import exit_code, start
    from launcher.execution.run_lifecycle import OK

    codes = start(list(plans.values()), command)
    if len(plans) > 1 and not any(plan.cluster.name == "slurm" for plan in plans.values()):
        print(f"\n{codes.count(OK)} of {len(plans)} runs ok")
    return exit_code(codes)


def _results(matching: Sequence[Run], plans: Mapping[str, RunPlan], refused: Mapping[str, str]) -> list[dict[str, Any]]:
    observer = Observer()
    results = []
    for run in matching:
        result = "resumed" if run.run_id in plans else refused.get(run.run_id, f"nothing to resume: {run.state}")
        state = reread(run, observer).state
        results.append({"run_id": run.run_id, "name": run.name, "state": state, "result": result})
    return results

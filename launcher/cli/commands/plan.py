"""``sgp plan``: which algorithm is worth its messages, before an hour of the cluster is spent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import JsonOption
from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.config.run_plan import RunPlan
    from launcher.execution.simulated_time import Reached
    from launcher.planning.evaluation import Evaluated, Question
    from sgp_core.clock import ComputationModel, NetworkModel
    from sgp_core.tasks.model_size import ModelSize

LARGEST = 1024
"""The most gossip nodes: their distance is a matter of matrices of that size."""


def complete_experiments(incomplete: str) -> list[str]:
    """Offer the names of experiments."""
    from launcher.config.manual import Manual

    return [name for name in Manual().choices("experiment") if name.startswith(incomplete)]


def plan(
    experiment: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPERIMENT [OVERRIDES]...",
            help="As in experiment=EXPERIMENT of sgp-train, and other settings; default: the usual one.",
            autocompletion=complete_experiments,
        ),
    ],
    network: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="The network: a name, or a file of sgp calibrate."),
    ] = None,
    computation: Annotated[
        str | None,
        typer.Option(metavar="FILE|RUN", help="How long a step computes: a file of sgp calibrate, or a run's folder."),
    ] = None,
    step_ms: Annotated[float | None, typer.Option(min=0, help="How long a step computes, in ms.")] = None,
    device_tflops: Annotated[
        float | None, typer.Option(min=0, help="What a device computes in 1e12 operations a second, really.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(metavar="N,...", help="Numbers of workers; by default the experiment's.")
    ] = None,
    most_spread: Annotated[
        float | None, typer.Option(min=0, help="How far apart models may be to count as close, in updates.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Train the candidates in question with virtual workers up to this score."),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the candidates to a PNG or SVG file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict what each algorithm would take a step, and say which to run.

    Nothing is trained and no data are read, unless there is a target.
    """
    from launcher.cli.plan_report import Answer, describe_plan, describe_times, plan_as_data
    from launcher.planning.departure import MOST_SPREAD
    from launcher.planning.evaluation import Question, evaluate
    from launcher.planning.figure import save_figure
    from launcher.planning.question import compose_plan, experiment_words

    words = experiment_words(experiment)
    composed = compose_plan(words)
    size = _measure(composed)
    chosen_network, network_is = _network(network, composed)
    chosen_computation, computation_is = _computation(computation, step_ms, device_tflops, composed)
    spread = MOST_SPREAD if most_spread is None else most_spread
    question = Question(composed, chosen_network, chosen_computation, size.bytes, size.layout, spread)
    found, left_out = {}, {}
    for number in _numbers(workers, composed):
        found[number], left_out[number] = evaluate(question, number)
    reached = {}
    if target is not None:
        reached = {number: _train(question, rows, target, experiment) for number, rows in found.items()}
    if figure is not None:
        save_figure(found, f"{composed.name}: {size.parameters / 1e6:.1f} M parameters, {network_is}", figure)
    answer = Answer(question, words, size, found, left_out, [network_is, computation_is], reached)
    if as_json:
        print_json(plan_as_data(answer))
        return
    for line in describe_plan(answer):
        print(line)
    for number, times in reached.items():
        for line in describe_times(times, number, composed.experiment.dataset["name"], float(target or 0.0)):
            print(line)
    if figure is not None:
        print(f"picture: {figure}")


def _train(question: Question, rows: Sequence[Evaluated], target: float, given: list[str]) -> list[Reached]:
    """Train AllReduce, the advised candidate, the experiment's own and the fastest with virtual workers.

    torch's DDP learns what AllReduce learns, so it has that run's scores, at its own predicted steps.
    """
    from launcher.execution.simulated_time import time_to_score
    from launcher.planning.advice import advise
    from sgp_core.training.experiment import build_parts

    build_parts(question.plan.experiment).dataset.check()
    advice, times = advise(rows), {}
    own = next(row for row in rows if row.candidate.own)
    for row in (advice.allreduce, advice.winner, own, advice.fastest):
        candidate = row.candidate
        if candidate.label not in times:
            chosen = (question.plan, candidate, question.network, question.computation)
            times[candidate.label] = time_to_score(*chosen, target, ["sgp", "plan", *given])
    ddp = next(row for row in rows if row.candidate.reference)
    faster = ddp.prediction.step_s / advice.allreduce.prediction.step_s
    times[ddp.candidate.label] = times[advice.allreduce.candidate.label].as_well(ddp.candidate.label, faster)
    return list(times.values())


def _measure(composed: RunPlan) -> ModelSize:
    from sgp_core.tasks.model_size import measure_model
    from sgp_core.training.experiment import build_parts

    parts = build_parts(composed.experiment)
    return measure_model(parts.model, parts.dataset)


def _network(named: str | None, composed: RunPlan) -> tuple[NetworkModel, str]:
    from launcher.planning.question import CALIBRATION, USUAL_NETWORK, of_hosts, read_network
    from sgp_core.clock import build_network_model

    if named is None and (chosen := build_network_model(composed.network)) is not None:
        return of_hosts(chosen, composed), f"network {composed.network['name']}"
    if named is None:
        named = str(CALIBRATION) if CALIBRATION.is_file() else USUAL_NETWORK
        model, called = read_network(named)
        said = f"network {called}" + ("" if CALIBRATION.is_file() else ", assumed: --network names another")
    else:
        model, called = read_network(named)
        said = f"network {called}"
    return of_hosts(model, composed), said


def _computation(
    named: str | None, step_ms: float | None, tflops: float | None, composed: RunPlan
) -> tuple[ComputationModel, str]:
    from launcher.planning.question import CALIBRATION, USUAL_TFLOPS, read_computation, read_settings
    from sgp_core.clock import ComputationModel, build_computation

    if sum(value is not None for value in (named, step_ms, tflops)) > 1:
        raise ConfigurationError("--computation, --step-ms and --device-tflops say the same; give one of them")
    if named is not None:
        model, what = read_computation(named)
        return model, f"computation {what}"
    unsaid = step_ms is None and tflops is None
    if unsaid and (chosen := build_computation(composed.computation)) is not None:
        return chosen, f"computation {composed.computation['name']}"
    if unsaid and CALIBRATION.is_file() and "computation" in read_settings(str(CALIBRATION), "--computation", []):
        model, what = read_computation(str(CALIBRATION))
        return model, f"computation {what}"
    if step_ms is not None:
        said = f"computation of {step_ms:g} ms a step, as given"
    else:
        speed, flops = tflops or USUAL_TFLOPS, _flops(composed)
        step_ms = flops / speed / 1e9
        hint = "" if tflops else ", assumed: --step-ms, --device-tflops or sgp calibrate say it better"
        said = f"computation of {step_ms:.4g} ms a step: {flops / 1e9:.4g} GFLOP at {speed:g} TFLOP/s{hint}"
    return ComputationModel.from_options({"name": "constant", "step_ms": step_ms}), said


def _flops(composed: RunPlan) -> float:
    from sgp_core.tasks.model_size import count_step_flops
    from sgp_core.training.experiment import build_parts

    parts = build_parts(composed.experiment)
    flops = count_step_flops(parts.model, parts.dataset, composed.experiment.training.batch_size)
    if flops is None:
        raise ConfigurationError(
            "what a step of this model computes cannot be told beforehand; give --step-ms, or a file of sgp calibrate"
            " as --computation"
        )
    return flops


def _numbers(given: str | None, composed: RunPlan) -> list[int]:
    if given is None:
        return [composed.world_size]
    numbers = []
    for word in given.split(","):
        if not word.strip().isdecimal() or not 1 <= int(word) <= LARGEST:
            raise ConfigurationError(f"--workers {given}: numbers of workers from 1 to {LARGEST}, such as 4,8,16")
        numbers.append(int(word))
    return list(dict.fromkeys(numbers))

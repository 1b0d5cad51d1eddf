"""A plan as text and as data: tables, the rule of thumb, and the command line of the winner."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from launcher.cli.table_printing import align
from launcher.planning.advice import Recommendation, RuleOfThumb, advise, rule_of_thumb
from launcher.planning.command import command_line
from launcher.planning.evaluation import Evaluated, Question, as_data, closest_first
from launcher.runs.number_format import duration, milliseconds, size
from sgp_core.tasks.kinds import task_kind_of

if TYPE_CHECKING:
    from launcher.execution.simulated_time import Reached
    from sgp_core.tasks.model_size import ModelSize

COLUMNS: Sequence[str] = (
    "",
    "candidate",
    "ms a step",
    "vs baseline",
    "computes",
    "busiest link",
    "sent",
    "spread",
    "departs",
)
Found = Mapping[int, Sequence[Evaluated]]


@dataclass(frozen=True)
class Answer:
    """What ``sgp plan`` has found out.

    Attributes:
        words: of the command line.
        found: the candidates, by number of workers.
        left_out: what cannot be with so many, likewise.
        assumed: sentences on network and computation.
        reached: when candidates that were trained reached the target, by number of workers.
    """

    question: Question
    words: Sequence[str]
    model: ModelSize
    found: Found
    left_out: Mapping[int, Sequence[str]]
    assumed: Sequence[str]
    reached: Mapping[int, Sequence[Reached]]


def describe_plan(answer: Answer) -> Iterator[str]:
    """Yield the lines of a plan: for each number of workers a table, the rule of thumb, and the advice."""
    question, words, model, left_out = answer.question, answer.words, answer.model, answer.left_out
    yield f"{model.parameters / 1e6:.4g} M parameters, {size(model.bytes)} a message"
    yield from answer.assumed
    for workers, rows in answer.found.items():
        advice = advise(rows)
        yield ""
        yield f"{_workers(question, workers)}:"
        yield from align(COLUMNS, [cells(row, advice) for row in closest_first(rows)], right=COLUMNS[2:-1])
        yield from advice_lines(question, words, rows)
        if left_out[workers]:
            yield f"{len(left_out[workers])} candidates cannot be here: {'; '.join(map(_label, left_out[workers]))}"


def advice_lines(question: Question, words: Sequence[str], rows: Sequence[Evaluated]) -> Iterator[str]:
    """Yield what follows a table: remarks, the rule of thumb, what to run and why, and its command line."""
    advice = advise(rows)
    for remark in dict.fromkeys(remark for row in rows for remark in row.remarks):
        yield f"note: {remark}"
    thumb = _thumb(question, rows)
    yield thumb.sentence()
    yield thumb.sentence_on_ddp()
    yield f"run {advice.reason}"
    fastest = advice.fastest
    if fastest.prediction.step_s < advice.winner.prediction.step_s:
        yield (
            f"faster steps: {fastest.candidate.label} ({fastest.departure}) takes"
            f" {milliseconds(fastest.prediction.step_s * 1e3)} ms, and may need more of them"
        )
    yield f"  {shlex.join(command_line(question.plan, words, advice.winner.candidate))}"


def plan_as_data(answer: Answer) -> dict[str, Any]:
    """Return a plan as plain data."""
    question, words = answer.question, answer.words
    plans = []
    for workers, rows in answer.found.items():
        advice, thumb = advise(rows), _thumb(question, rows)
        plans.append(
            {
                "workers": workers,
                "candidates": [as_data(row) for row in rows],
                "left_out": list(answer.left_out[workers]),
                "rule_of_thumb": {
                    "compute_s": thumb.compute_s,
                    "ring_s": thumb.ring_s,
                    "message_s": thumb.message_s,
                    "sgp_vs_allreduce": thumb.waiting,
                    "osgp_vs_allreduce": thumb.overlapped,
                    "ddp_s": thumb.ddp_s,
                },
                "winner": as_data(advice.winner),
                "baseline": as_data(advice.baseline),
                "reason": advice.reason,
                "fastest": as_data(advice.fastest),
                "target": [asdict(one) for one in answer.reached.get(workers, ())],
                "command": command_line(question.plan, words, advice.winner.candidate),
            }
        )
    return {
        "parameters": answer.model.parameters,
        "message_bytes": answer.model.bytes,
        "assumed": list(answer.assumed),
        "network": question.network.options(),
        "computation": question.computation.options(),
        "most_spread": question.most_spread,
        "plans": plans,
    }


def describe_times(times: Sequence[Reached], workers: int, dataset: str, target: float) -> Iterator[str]:
    """Yield when each candidate reached the target, by virtual workers that have learned."""
    yield ""
    yield f"{workers} virtual workers to {task_kind_of(dataset).score} {target:g}:"
    rows = []
    for one in times:
        best = "-" if one.best is None else f"{one.best:.4g}"
        never = one.step is None or one.seconds is None
        rows.append([one.label, "-" if never else str(one.step), "-" if never else duration(one.seconds or 0.0), best])
    yield from align(["candidate", "steps", "virtual time", "best score"], rows, right=["steps", "virtual time"])


def cells(row: Evaluated, advice: Recommendation) -> list[str]:
    """Return a line of the table, under :data:`COLUMNS`."""
    mark = "*" if row is advice.best else "own" if row.candidate.own else ""
    found = row.prediction
    return [
        mark,
        row.candidate.label,
        milliseconds(found.step_s * 1e3),
        f"{found.step_s / advice.baseline.prediction.step_s:.2f}",
        f"{found.utilisation:.0%}",
        size(found.busiest_link_bytes),
        size(found.wire_bytes),
        f"{row.spread:.2f}",
        row.departure,
    ]


def _thumb(question: Question, rows: Sequence[Evaluated]) -> RuleOfThumb:
    allreduce = next(row for row in rows if row.is_allreduce)
    experiment = allreduce.candidate.experiment
    hosts = question.network.workers_per_host
    nodes = max(1, experiment.nodes if hosts in (0, 1) else -(-allreduce.workers // hosts))
    return rule_of_thumb(question.network, allreduce.prediction.compute_s, question.model_bytes, nodes)


def _workers(question: Question, workers: int) -> str:
    node_size = question.plan.experiment.node_size
    nodes = f" in {workers // node_size} nodes that gossip" if node_size > 1 else ""
    return f"{workers} worker{'s' if workers > 1 else ''}{nodes}"


def _label(reason: str) -> str:
    return reason.partition(":")[0]

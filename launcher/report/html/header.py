"""The top of the page: the settings that all runs share, and the outcome in three tiles."""

from __future__ import annotations

from html import escape

from launcher.report.report import Report
from launcher.runs.number_format import duration, format_sample, size


def shared_settings(report: Report) -> str:
    """Return the settings that all runs share, as a list."""
    facts = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in report.shared.items()
    )
    return f'<dl class="shared">{facts}</dl>' if facts else ""


def origin(report: Report) -> str:
    """Return the command line, the time and the place of the runs."""
    command, whence = report.origin.get("command"), report.origin.get("whence")
    parts = []
    if command:
        button = '<button type="button">Copy</button>'
        parts.append(f'<div class="command"><code>{escape(str(command))}</code>{button}</div>')
    if whence:
        parts.append(f'<p class="whence">{escape(str(whence))}</p>')
    return f'<div class="origin">{"".join(parts)}</div>' if parts else ""


def tiles(report: Report) -> str:
    """Return three tiles: the best score, the states of the runs, and their cost."""
    return "".join([_best_tile(report), _state_tile(report), _cost_tile(report)])


def _tile(what: str, value: str, detail: str) -> str:
    number, sign, spread = value.partition(" ± ")
    beside = f" <span>± {escape(spread)}</span>" if sign else ""
    return (
        f'<div class="tile"><p class="what">{escape(what)}</p><p class="value">{escape(number)}{beside}</p>'
        f'<p class="detail">{detail}</p></div>'
    )


def _best_tile(report: Report) -> str:
    objective, best = report.objective, report.ranking.best
    what = f"{'Lowest' if objective.lower_is_better else 'Best'} validation {objective.label}"
    if best is None or best.score is None:
        return _tile(what, "–", "no data yet")
    rows = [
        row for row in (report.merged if report.seeds else report.runs) if row.numbers.get("best") == best.score.mean
    ]
    names = ", ".join(f"<b>{escape(row.label)}</b>" for row in rows[:3])
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    evaluation = report.ranking.evaluations[best.runs[0]]
    where = ""
    if len(rows) == 1 and best.score.count == 1 and evaluation is not None and evaluation.best_step is not None:
        where = f" at step {evaluation.best_step:,}"
    value = format_sample(objective, best.score.mean, best.score.std, best.score.count)
    return _tile(what, value, names + more + where)


def _state_tile(report: Report) -> str:
    states = [record.state for record in report.records]
    if len(states) == 1:
        steps = report.runs[0].numbers.get("steps")
        return _tile("State", states[0], "no steps yet" if steps is None else f"{steps:,.0f} steps")
    counts = ", ".join(f"{states.count(state)} {escape(state)}" for state in dict.fromkeys(states))
    return _tile("Runs", str(len(states)), counts)


def _cost_tile(report: Report) -> str:
    times = [line.numbers["wall_time_s"] for line in report.runs if "wall_time_s" in line.numbers]
    sent = [line.numbers["bytes_sent"] for line in report.runs if "bytes_sent" in line.numbers]
    if not times:
        return _tile("Training time", "–", "no data yet")
    detail = f"{size(sum(sent))} sent by worker 0" if sent else ""
    return _tile(f"Training time{', all runs' if len(times) > 1 else ''}", duration(sum(times)), detail)

"""Rows as Markdown. Imports nothing of the suite, so that the documentation can be made from JSON files alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]


def save(path: Path, about: dict[str, Any], rows: list[Row]) -> None:
    """Write what a benchmark has found, and how, as JSON; ``docs/make_benchmarks.py`` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def number(key: str, digits: int = 1, scale: float = 1.0) -> Callable[[Row], str]:
    """Return what writes ``row[key] * scale``, or a dash."""

    def written(row: Row) -> str:
        value = row.get(key)
        return "-" if value is None else f"{value * scale:.{digits}f}"

    return written


def markdown(rows: Iterable[Row], columns: Sequence[Column], *, labels: int) -> str:
    """Return a table; the first ``labels`` columns are words, the others numbers."""
    lines = [
        "| " + " | ".join(title for title, _ in columns) + " |",
        "|" + "---|" * labels + "---:|" * (len(columns) - labels),
    ]
    lines += ["| " + " | ".join(write(row) for _, write in columns) + " |" for row in rows]
    return "\n".join(lines)


OVERHEAD: list[Column] = [
    ("contender", lambda row: row["name"]),
    ("step ms", number("step_ms")),
    ("communication ms", number("communication_ms")),
    ("/ floor", number("communication_vs_floor", 2)),
    ("/ average", number("communication_vs_average", 2)),
    ("/ DDP", number("communication_vs_ddp", 2)),
    ("CPU ms", number("cpu_ms")),
    ("communication CPU ms", number("communication_cpu_ms")),
    ("/ floor", number("communication_cpu_vs_floor", 2)),
    ("MB sent", number("bytes_per_step", 2, 1e-6)),
    ("extra memory / parameters", number("extra_memory", 2)),
]


def overhead(rows: list[Row]) -> str:
    """Return one table per number of workers and model."""
    cells = dict.fromkeys((row["workers"], row["model"]) for row in rows)
    parts = []
    for workers, model in cells:
        mine = [row for row in rows if (row["workers"], row["model"]) == (workers, model)]
        millions = mine[0]["parameters"] / 1e6
        title = f"**{workers} workers, {model}, {millions:.1f} M parameters** (compute {mine[0]['compute_ms']:.1f} ms)"
        parts.append(f"{title}\n\n{markdown(mine, OVERHEAD, labels=1)}")
    return "\n\n".join(parts)


NETWORK: list[Column] = [
    ("contender", lambda row: row["name"]),
    ("step ms", number("step_ms", 0)),
    ("ideal ms", number("ideal_ms", 0)),
    ("step / ideal", number("step_vs_ideal", 2)),
    ("MB sent", number("bytes_per_step", 1, 1e-6)),
    ("steps to loss", lambda row: str(row["steps_to_loss"] or "-")),
    ("seconds to loss", number("seconds_to_loss", 1)),
    ("DDP's time / this", number("speedup", 2)),
]


def network(rows: list[Row]) -> str:
    """Return one table per network."""
    cells = dict.fromkeys((row["workers"], row["mbit"], row["delay_ms"]) for row in rows)
    parts = []
    for cell in cells:
        mine = [row for row in rows if (row["workers"], row["mbit"], row["delay_ms"]) == cell]
        workers, mbit, delay = cell
        late = f", {delay:g} ms each way" if delay else ""
        title = (
            f"**{workers} workers, {mbit:g} Mbit/s{late}**: one message of {mine[0]['message_bytes'] / 1e6:.1f} MB "
            f"takes {mine[0]['message_ms']:.0f} ms on the wire ({mine[0]['bare_message_ms']:.0f} ms measured alone), "
            f"compute {mine[0]['compute_ms']:.0f} ms"
        )
        parts.append(f"{title}\n\n{markdown(mine, NETWORK, labels=1)}")
    return "\n\n".join(parts)


STRAGGLERS: list[Column] = [
    ("contender", lambda row: row["name"]),
    ("slowest worker, ms a step", number("slowest_ms", 0)),
    ("model", number("model_slowest_ms", 0)),
    ("mean", number("mean_ms", 0)),
    ("model", number("model_mean_ms", 0)),
    ("quickest", number("quickest_ms", 0)),
    ("model", number("model_quickest_ms", 0)),
    ("model, long run: mean", number("model_long_run_ms", 0)),
    ("others keep of their rate", lambda row: "-" if row["others_keep"] is None else f"{row['others_keep']:.0%}"),
    ("mean age, steps", number("mean_age", 1)),
    ("oldest", number("oldest", 0)),
]


def stragglers(rows: list[Row]) -> str:
    """Return one table per scenario."""
    parts = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        mine = [row for row in rows if row["scenario"] == scenario]
        parts.append(f"**{scenario}**\n\n{markdown(mine, STRAGGLERS, labels=1)}")
    return "\n\n".join(parts)


IN_BACKWARD: list[Column] = [
    ("model", lambda row: row["model"]),
    ("", lambda row: row["name"]),
    ("backward ms", number("backward_ms")),
    ("first part leaves at", lambda row: f"{row['first_leaves']:.0%}"),
    ("last part leaves at", lambda row: f"{row['last_leaves']:.0%}"),
    ("parts", number("parts", 0)),
    ("step ms, steps after backward", number("step_after_ms")),
    ("inside", number("step_inside_ms")),
]


def in_backward(rows: list[Row]) -> str:
    """Return one table."""
    return markdown(rows, IN_BACKWARD, labels=2)


TRACING: list[Column] = [
    ("contender", lambda row: row["name"]),
    ("step ms", number("off_ms")),
    ("recorded", number("on_ms")),
    ("overhead", lambda row: f"{row['overhead']:+.1%}"),
    ("CPU ms", number("cpu_off_ms")),
    ("CPU ms more", number("cpu_more_ms", 2)),
    ("/ step", lambda row: f"{row['cpu_share']:+.1%}"),
    ("KB a step", number("trace_bytes", 1, 1e-3)),
]


def tracing(rows: list[Row]) -> str:
    """Return one table per number of workers."""
    parts = []
    for workers in dict.fromkeys(row["workers"] for row in rows):
        mine = [row for row in rows if row["workers"] == workers]
        parts.append(f"**{workers} workers**\n\n{markdown(mine, TRACING, labels=1)}")
    return "\n\n".join(parts)


INPUT_WAITS: list[Column] = [
    ("model", lambda row: row["model"]),
    ("images in", lambda row: row["place"]),
    ("loader processes", number("processes", 0)),
    ("step ms", number("step_ms")),
    ("data ms", number("data_ms", 2)),
    ("of the step", lambda row: f"{row['share']:.1%}"),
]
DECODING: list[Column] = [
    ("loader processes", number("processes", 0)),
    ("photographs a second", number("images_per_s", 0)),
]


def input_pipeline(rows: list[Row]) -> str:
    """Return a table of how long training waits, and one of how fast photographs become batches."""
    waits, decoding = ([row for row in rows if ("model" in row) is with_model] for with_model in (True, False))
    return f"{markdown(waits, INPUT_WAITS, labels=2)}\n\n{markdown(decoding, DECODING, labels=0)}"


GOODPUT: list[Column] = [
    ("contender", lambda row: row["name"]),
    ("one failure every", lambda row: "none" if row["every_s"] is None else f"{row['every_s']:g} s"),
    ("failures", lambda row: str(row["failures"])),
    ("restarts", lambda row: str(row["restarts"])),
    ("examples a second", number("rate", 0)),
    ("goodput", lambda row: "-" if row["goodput"] is None else f"{row['goodput']:.0%}"),
    ("longest pause of a survivor, s", number("longest_pause_s", 1)),
]


def goodput(rows: list[Row]) -> str:
    """Return one table, the contenders beside each other for each interval between failures."""
    return markdown(rows, GOODPUT, labels=1)


ELASTIC_KILLS: list[Column] = [
    ("model", lambda row: row["workload"]),
    ("seed", lambda row: str(row["seed"])),
    ("killed + stopped", lambda row: f"{row['killed']} + {row['failures'] - row['killed']}"),
    ("replacements", number("joined", 0)),
    ("restarts from a checkpoint", number("restarts", 0)),
    ("accuracy %", number("accuracy", 2, 100)),
    ("undisturbed", number("undisturbed", 2, 100)),
    ("difference", lambda row: f"{100 * row['difference']:+.2f}"),
    ("longest pause, s", number("longest_pause_s", 1)),
    ("step, s", number("step_s", 2)),
    ("mass defect", lambda row: "-" if row["mass_defect"] is None else f"{row['mass_defect']:.0e}"),
]


def elastic_kills(rows: list[Row]) -> str:
    """Return a line for each run that was disturbed."""
    return markdown(rows, ELASTIC_KILLS, labels=2)


_BYTES = ("rss", "anonymous", "pss", "disk")


def _amount(key: str) -> Callable[[Row], str]:
    def written(row: Row) -> str:
        return f"{row[key] / 1e6:.2f} MB" if row["figure"] in _BYTES else f"{row[key]:.4g}"

    return written


def _growth(row: Row) -> str:
    slope, noise = _amount("slope")(row), _amount("noise")(row)
    return f"{slope.removesuffix(' MB')} ± {noise}"


SOAK: list[Column] = [
    ("load", lambda row: row["of"]),
    ("of it", lambda row: row["part"]),
    ("figure", lambda row: row["figure"]),
    ("half-way", _amount("first")),
    ("at the end", _amount("last")),
    ("most", _amount("most")),
    ("growth", lambda row: f"{_growth(row)} a {row['unit']}"),
    ("limit", lambda row: "none" if row["limit"] == float("inf") else _amount("limit")(row)),
    ("", lambda row: "**grows**" if row["grows"] else "ok"),
]


def soak(rows: list[Row]) -> str:
    """Return a line for each figure of each process, and for each that acts leave."""
    return markdown(rows, SOAK, labels=3)


def soak_verdicts(rows: list[Row], kinds: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sentence for each kind of figure: whether anything grows, and what comes closest to its limit.

    Args:
        kinds: of figures, each with the names of those that count.
    """
    sentences = []
    for kind, figures in kinds.items():
        found = [row for row in rows if row["figure"] in figures and row["limit"] != float("inf")]
        if not found:
            sentences.append(f"{kind}: too short to say")
            continue
        grown = [row for row in found if row["grows"]]
        first = max(grown or found, key=lambda row: row["slope"] / row["limit"] if row["limit"] else row["slope"])
        verdict = f"{len(grown)} of {len(found)} figures grow" if grown else f"no growth in {len(found)} figures"
        where = f"{first['of']}, {first['part']}, {first['figure']}"
        sentences.append(f"{kind}: {verdict}; at most {_growth(first)} a {first['unit']} ({where})")
    return sentences


def leaderboard(rows: list[Row]) -> str:
    """Return one line per algorithm, the best first where data differ most."""
    alphas = sorted({row["alpha"] for row in rows}, reverse=True)
    lines: dict[tuple[str, str, str], dict[float, Row]] = {}
    for row in rows:
        lines.setdefault((row["name"], row["graph"], row["momentum"]), {})[row["alpha"]] = row
    hardest = alphas[-1]
    ranked = sorted(lines.values(), key=lambda of: -of[hardest]["averaged"])
    columns: list[Column] = [
        ("algorithm", lambda row: f"`{row['name']}`".replace(" + ", "` + `")),
        ("graph", lambda row: row["graph"]),
        ("momentum", lambda row: row["momentum"]),
        *((f"α = {alpha:g}", _accuracy_at(alpha)) for alpha in alphas),
        ("worst worker", number("worst", 1, 100)),
        ("distance", number("consensus_distance", 3)),
        ("kB a step", number("bytes_per_step", 1, 1e-3)),
        ("rate", lambda row: f"{row['lr']:g}"),
    ]
    return markdown([{**of[hardest], "by_alpha": of} for of in ranked], columns, labels=3)


def _accuracy_at(alpha: float) -> Callable[[Row], str]:
    def written(row: Row) -> str:
        found = row["by_alpha"][alpha]
        return f"{100 * found['averaged']:.1f} ± {100 * found['spread']:.1f}"

    return written

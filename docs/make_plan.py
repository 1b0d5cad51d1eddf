"""Write the tables of docs/plan.md: ``python -m docs.make_plan``. Nothing is trained, and no data are needed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from launcher.cli.plan_report import COLUMNS, advice_lines, cells
from launcher.planning.advice import advise
from launcher.planning.departure import MOST_SPREAD
from launcher.planning.evaluation import Question, closest_first, evaluate
from launcher.planning.question import compose_plan, experiment_words, of_hosts, read_network
from sgp_core.clock import ComputationModel
from sgp_core.tasks.model_size import measure_model
from sgp_core.training.experiment import build_parts

PAGE = Path(__file__).with_name("plan.md")
ASKED = {
    "imagenet": "sgp plan imagenet_sgp --network ethernet_10g --step-ms 262",
    "wmt16": "sgp plan wmt16_sgp --network ethernet_10g --step-ms 472",
}
"""What each table answers."""


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def page(text: str) -> str:
    """Return the page with present tables."""
    for name, line in ASKED.items():
        begin, end = f"<!-- {name}, written by docs/make_plan.py -->", "<!-- end of table -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        made = f"{begin}\n{table(line)}\n{end}"
        text = pattern.sub(made.replace("\\", r"\\"), text)
    return text


def table(line: str) -> str:
    """Return the answer to a command line as Markdown."""
    _, _, *words = shlex.split(line)
    options = {key: words[words.index(key) + 1] for key in ("--network", "--step-ms")}
    words = experiment_words(words[: words.index("--network")])
    plan = compose_plan(words)
    parts = build_parts(plan.experiment)
    size = measure_model(parts.model, parts.dataset)
    network = of_hosts(read_network(options["--network"])[0], plan)
    computation = ComputationModel.from_options({"name": "constant", "step_ms": float(options["--step-ms"])})
    question = Question(plan, network, computation, size.bytes, size.layout, MOST_SPREAD)
    rows, _ = evaluate(question, plan.world_size)
    advice = advise(rows)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "---:|" * (len(COLUMNS) - 3) + "---|"]
    lines += ["| " + " | ".join(cells(row, advice)) + " |" for row in closest_first(rows)]
    said = "\n".join(f"> {one}" for one in advice_lines(question, words, rows))
    return "\n".join(lines) + f"\n\n{said}\n"


if __name__ == "__main__":
    main()

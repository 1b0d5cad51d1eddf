"""``sgp generate``: text that a run's language model writes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.averaged_model import MODEL, average_checkpoints
from launcher.cli.confirm import confirm_code
from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunArgument, RunsDirOption, TrustOption
from launcher.config.trust import plugins_of
from launcher.runs.find import Run, find_run

if TYPE_CHECKING:
    from sgp_core.tasks.language_modelling.generator import Generator


def generate(
    run: RunArgument,
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    tokens: Annotated[int, typer.Option(help="Most tokens to write; a document may end before.", min=1)] = 100,
    temperature: Annotated[float, typer.Option(help="Below 1: more of what is probable; 0: always that.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Choose among the so many most probable tokens.")] = None,
    top_p: Annotated[float, typer.Option(help="Choose among the most probable that make up this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Another one, another text.")] = 0,
    step: Annotated[
        str | None, typer.Option(help="Checkpoint to take: a step, best or last. By default the finished model.")
    ] = None,
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="Another file written by sgp export.")] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = Path(RUNS_DIR),
) -> None:
    """Continue a prompt with a run's language model.

    The model is the average over all workers: that of the run's end, or of its last checkpoint if it has not ended.
    """
    found = find_run(run, runs_dir)

    from sgp_core.tasks.language_modelling.sampling import Sampling

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    if model is None and step is None and (found.folder.path / MODEL).is_file():
        model = found.folder.path / MODEL
    generator = _load(model) if model else _load_average(found, step or "last", trust=trust)
    text = generator(prompt, tokens, sampling)
    if as_json:
        written = "".join(text)
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        print_json(
            {
                **{"run_id": found.run_id, "model": model, "step": None if model else step or "last", **options},
                **{"prompt": prompt, "text": written, "tokens": text.tokens, "ended": text.ended},
            }
        )
        return
    print(prompt, end="", flush=True)
    for part in text:
        print(part, end="", flush=True)
    print()


def _load(model: Path) -> Generator:
    from sgp_core.tasks.language_modelling.generator import load_generator

    return load_generator(model)


def _load_average(run: Run, step: str, *, trust: bool) -> Generator:
    """Return the generator of a checkpoint, which leaves no file behind."""
    if not trust:
        confirm_code(run, plugins_of(run.spec))
    with tempfile.TemporaryDirectory(prefix="sgp-") as aside:
        return _load(average_checkpoints(run, step, 1, Path(aside)))

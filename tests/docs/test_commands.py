"""Every command in the README and the pages is executed, or, where a test cannot, checked in the way stated here.

``sgp-train`` lines are run: two steps, one worker in this process, nothing mirrored. That is ``AS_A_TEST``, which
replaces the words about the cluster and the tracker; lines with such words, or about graphs, which depend on the number
of workers, are also composed and checked exactly as written. ``sgp`` lines are run on a run and a sweep that are there.
Options of benchmarks are read as written; the benchmarks themselves are run small by tests/benchmarks. The exceptions
have a reason each.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cli.sgp import main as sgp
from launcher.cli.train import main
from launcher.config.compose import compose
from launcher.config.make_plan import make_plans
from tests.docs.pages import PAGES, ROOT, blocks, commands

AS_A_TEST = ["cluster=inline", "cluster.nodes=1", "cluster.workers_per_node=1", "tracker=none"]
AS_A_TEST += ["training.max_steps=2", "evaluation.every_epochs=0", "log_every=2"]
AS_A_TEST += ["evaluation.generate=never"]  # untrained, a model writes long sentences
AS_A_TEST += ["cluster.threads_per_worker=1"]  # threads that wait for each other slow tiny models on a busy machine

RUN_BY_A_FIXTURE = {"sgp-train experiment=smoke"}
"""Run as it is, with two worker processes: see ``finished``."""

ONLY_CHECKED = {
    "sgp-train dataset=cifar10 dataset.download=true model=resnet18_cifar": "it would download 170 MB",
    "sgp-train dataset=image_folder dataset.path=photos dataset.image_size=64 model=torchvision model.name=resnet50"
    " optimizer.lr=0.02": "minutes on a CPU; torchvision's models are tested with the tasks",
    "sgp-train experiment=imagenet_sgp_small": "a ResNet-18 takes its time; two steps are taken in tests/launcher",
    "sgp-train experiment=cifar10_sgp_slowmo_small dataset.download=true": "it would download 170 MB",
    "sgp-train experiment=imagenet dataset.path=photos cluster.workers_per_node=8": "minutes on a CPU",
    "sgp-train dataset=synthetic_images dataset.classes=1000 model=torchvision model.name=resnet50"
    " training.precision=bf16 training.channels_last=true training.compile=blocks": "minutes: see tests/launcher",
    "sgp-train debug=ranks": "two more worker processes, which experiment=smoke has been run with",
}
"""Composed and checked exactly as written, not run: why."""

SHOWS = {"--help", "--cfg", "dry_run=true"}
"""With one of these ``sgp-train`` shows something and runs nothing."""

ENVIRONMENT = ["python3 -m venv .venv", ". .venv/bin/activate", "pip install -e ."]
"""Would install from the network; checked to be what ``make train`` does."""

OTHER = {
    'eval "$(sgp-train --shell-completion install=bash)"',
    "python docs/examples/library.py",
    "python docs/make_benchmarks.py",
    "python docs/make_stragglers.py",
    "python docs/make_theory.py",
    "torchrun --nproc-per-node=4 docs/examples/library.py",
    "torchrun --nproc-per-node=4 docs/examples/nodes.py",
    "torchrun --nproc-per-node 4 docs/examples/hugging_face_trainer.py --use_cpu --output_dir out --learning_rate 3e-3",
    "python docs/examples/lightning_trainer.py 2",
    "torchrun --nproc-per-node 4 docs/examples/lightning_trainer.py 4",
    "accelerate launch --multi_gpu --num_processes 4 docs/examples/hugging_face_accelerate.py checkpoint 200",
    'mkdir -p compare && ln -sfn "$PWD"/runs/*/wandb/offline-run-* compare/',
    "wandb leet inspect --summary runs/7c424a4089/wandb",
    "wandb leet runs/7c424a4089/wandb",
    "wandb leet compare",
}
"""Run by a test of their own, below, in test_examples.py or in tests/integrations."""

NEEDS_ACCOUNT = {"sync"}
"""Verbs of ``sgp`` that are tried out by ``--dry-run``, which reads the same files."""

ALL = list(dict.fromkeys(line for page in PAGES for line in commands(page)))
TRAIN = [line for line in ALL if line.split()[0] == "sgp-train"]
BENCHMARKS = [line for line in ALL if re.match(r"(sudo \.venv/bin/)?python benchmarks/", line)]
SGP = [line for line in ALL if re.match("sgp (?!translate|generate|calibrate|export .* --format)", line)]
AS_WRITTEN = [
    line
    for line in TRAIN
    if line in ONLY_CHECKED or (re.search(r" (cluster|tracker|topology)[.=]", line) and " search=" not in line)
]
FROM_ANOTHER = [line for line in TRAIN if re.search(r" (model\.weights|extend)=", line)]
"""Start from the run of the fixture: its workers, so the test says what would be started."""
RUN = [
    line
    for line in TRAIN
    if line not in {*RUN_BY_A_FIXTURE, *ONLY_CHECKED, *FROM_ANOTHER} and not SHOWS & set(line.split())
]


def test_no_command_is_forgotten() -> None:
    made = {line for line in ALL if line.split()[0] == "make"}
    translate = {line for line in ALL if line.startswith("sgp translate ")}  # run by test_translation.py
    translate |= {line for line in ALL if re.match("sgp (generate|export .* --format) ", line)}  # by test_language.py
    translate |= {line for line in ALL if line.startswith("sgp calibrate ")}  # by tests/cli/test_calibrate.py
    assert set(ALL) == made | translate | set(TRAIN) | set(SGP) | set(BENCHMARKS) | set(ENVIRONMENT) | OTHER
    assert RUN_BY_A_FIXTURE | ONLY_CHECKED.keys() <= set(TRAIN)
    assert len(RUN) > 15


@pytest.mark.parametrize("line", AS_WRITTEN)
def test_composes_as_written(line: str) -> None:
    assert make_plans(compose(shlex.split(line)[1:]))


@pytest.mark.parametrize("line", RUN)
def test_runs(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in shlex.split(line)[1:] if not re.match("(cluster|tracker)[.=]", word)]
    assert main([*words, *AS_A_TEST]) == 0
    assert re.search("completed, |complete already", capsys.readouterr().out)


@pytest.mark.parametrize("line", [line for line in TRAIN if SHOWS & set(line.split())])
def test_shows(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(line)[1:]) == 0
    shown = capsys.readouterr().out
    expected = "#!/bin/bash" if "dry_run=true" in line else "=" if "--help" in line else "tau: 12"
    assert expected in shown


@pytest.mark.parametrize("line", FROM_ANOTHER)
def test_starts_from_another_run(line: str, finished: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([*shlex.split(line)[1:], "dry_run=true"]) == 0
    assert compose_ids(finished)[0] in capsys.readouterr().out


@pytest.mark.parametrize("line", SGP)
def test_asks_about_runs(line: str, finished: list[str], swept: str, capsys: pytest.CaptureFixture[str]) -> None:
    [run] = compose_ids(finished)
    words = [re.sub("^[0-9a-f]{8}$", swept, re.sub("^[0-9a-f]{10}$", run, word)) for word in shlex.split(line)[1:]]
    if words[0] in NEEDS_ACCOUNT and "--dry-run" not in words:
        words.append("--dry-run")
    capsys.readouterr()
    assert sgp(words) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


def test_pages_name_runs_that_are_there(finished: list[str]) -> None:
    named = {word for line in SGP for word in line.split() if re.fullmatch("[0-9a-f]{10}", word)}
    assert named == {*compose_ids(finished), *compose_ids(["experiment=translation_small"])}


def compose_ids(words: list[str]) -> list[str]:
    return [plan.run_id for plan in make_plans(compose(words))]


def test_smoke_run_and_its_repetition(finished: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(finished) == 0
    assert "is complete already; nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_answers_are_what_the_page_says(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page, "text"):
        if block.text.startswith("$ "):
            line, answer = block.text.removeprefix("$ ").split("\n", 1)
            assert main(shlex.split(line)[1:]) == 2
            assert capsys.readouterr().err == answer


@pytest.mark.parametrize("line", BENCHMARKS)
def test_benchmark_knows_its_options(line: str) -> None:
    program, *words = line[line.index("benchmarks/") :].split()
    options = importlib.import_module(Path(program).stem).options_parser().parse_args(words)
    assert (ROOT / program).exists()
    assert options.json is None or options.json.parent == Path("runs/benchmarks")


def test_make_knows_its_targets() -> None:
    targets = sorted({line.split()[1] for line in ALL if line.startswith("make ")})
    assert targets == ["leaderboard", "slurm-down", "slurm-up", "soak", "test", "train"]
    recipe = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True)
    assert recipe.returncode == 0, recipe.stderr
    assert "sgp-train" in recipe.stdout
    assert "pytest" in recipe.stdout
    assert recipe.stdout.count("tests.slurm.lab") == 2


def test_installing_by_hand_is_what_make_does() -> None:
    recipe = subprocess.run(["make", "-n", "-B", ".venv/installed"], cwd=ROOT, capture_output=True, text=True).stdout
    assert "-m venv .venv" in recipe
    assert re.search(r"\.venv/bin/python -m pip install .*-e \.$", recipe, re.MULTILINE)


def test_shell_completion() -> None:
    line = next(line for line in OTHER if line.startswith("eval"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", "-c", f"{line} && complete -p sgp-train"], env={**os.environ, "PATH": path}, capture_output=True
    )
    assert answer.returncode == 0, answer.stderr.decode()
    assert b"hydra_bash_completion" in answer.stdout


def test_offline_runs_can_be_looked_at(finished: list[str]) -> None:
    """The viewer wants a terminal; ``inspect`` reads the same files."""
    bring, view, inspect, *_ = [line for word in ("ln -s", "leet compare", "inspect") for line in OTHER if word in line]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for line in (bring, inspect):
        answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)
        assert answer.returncode == 0, answer.stderr
    assert re.search(r"state +finished", answer.stdout)
    assert len(list(Path("compare").iterdir())) == 1
    assert Path(view.split()[-1]).is_dir()

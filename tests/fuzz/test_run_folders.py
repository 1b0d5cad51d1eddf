"""Damaged and hostile run folders: each command of ``sgp`` ends in an answer or one sentence, and touches nothing else.

``SGP_FUZZ_CASES=2000 pytest tests/fuzz/test_run_folders.py`` tries more.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.train import main as sgp_train
from launcher.config.run_plan import RunPlan
from launcher.config.trust import sign
from tests.fuzz.mutate import cases, mutate
from tests.fuzz.mutate_json import mutate_json
from tests.support.run_folders import make_run, make_sweep
from tests.support.sgp_command import Said
from tests.support.translations import MODEL, make_model

TRANSLATES = "7a00000001"
SWEEP = "aaaa0001"
TRAIN = ("cluster=inline", "tracker=none", "training.max_steps=4", "checkpoint.every_steps=2", "model.hidden=[8]")
JSON = ("spec.json", "summary.json", "rank-0.json", "model.json")
OTHERS = ("metrics.jsonl", "checkpoints/step-4/manifest.json", "logs/attempt-1/progress.jsonl", "sweep.json")
STRAY = ("logs/attempt-foo", "logs/attempt-1x", "step-60", "checkpoints/step-60", "checkpoints/step-x", "rank-x.json")
MORE_STRAY = ("rank-7.json", "timeline/rank-0.json", "timeline/rank-x.json", "cancel", ".lock", "metrics-rank-1.jsonl")
KINDS = ("file", "json", "folder", "pipe", "dangling link", "loop", "link to outside", "link to a device")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("runs",),
    ("runs", "--sort", "loss", "--where", "algorithm=sgp", "--json"),
    ("status",),
    ("status", "RUN"),
    ("status", "RUN", "--json"),
    ("logs", "RUN", "--rank", "all"),
    ("logs", "RUN", "--json"),
    ("table", "--format", "csv"),
    ("table", "--mean"),
    ("table", SWEEP, "--json"),
    ("report", "RUN", "--format", "html", "--out", "OUT"),
    ("sync", "RUN", "--dry-run"),
    ("cancel", "RUN"),
    ("export", "RUN", "--out", "OUT"),
    ("export", "RUN", "--step", "last", "--out", "OUT", "--trust"),
    ("translate", "RUN"),
    ("generate", "RUN", "--trust"),
    ("resume", "RUN", "--trust"),
    ("clean", "RUN", "--checkpoints", "--yes"),
)


_MEMORY = 6 << 30
"""Bytes that this process may take, torch included."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs: one that was trained, and one that translates."""
    home = tmp_path_factory.mktemp("fuzz")
    with contextlib.chdir(home):
        assert sgp_train(TRAIN) == 0
        [run] = Path("runs").iterdir()
        folder = make_run(Path("runs"), TRANSLATES, rows=[], model=MODEL, dataset={"name": "parallel_text"})
        make_model(folder, ["Two dogs run.", "Zwei Hunde rennen."])
        make_sweep(Path("runs"), SWEEP, [run.name, TRANSLATES])
    (home / "outside").mkdir()
    (home / "outside" / "precious").write_text("to be kept\n")
    return home


class Hang(BaseException):
    """A command did not end in time. Nothing catches it, as it would an error."""


@pytest.fixture
def no_hang() -> Iterator[None]:
    """Turn a command that hangs, or reads without end, into a failure with its traceback."""

    def stop(number: int, frame: object) -> None:
        raise Hang

    before, memory = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, memory[1]))
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_DATA, memory)
    signal.signal(signal.SIGALRM, before)


def damage(runs: Path, seed: int) -> tuple[str, str]:
    """Damage one to three files of a run, or add some; return the run, and what was done."""
    dice = random.Random(seed)
    run = dice.choice([path for path in runs.iterdir() if path.name != "sweeps"])
    if run.name != TRANSLATES:
        amend(run / "summary.json", status=dice.choice(["completed", "failed", "running", "cancelled"]))
    done = []
    for turn in range(dice.choice((1, 1, 2, 3))):
        name = dice.choice((*JSON, *JSON, *OTHERS, *STRAY, *MORE_STRAY))
        path = runs / "sweeps" / SWEEP / name if name == "sweep.json" else run / name
        if path.is_file() and dice.random() < 0.85:
            change = mutate_json if path.suffix == ".json" and dice.random() < 0.7 else mutate
            with contextlib.suppress(ValueError):
                path.write_bytes(change(path.read_bytes(), 3 * seed + turn))
            done.append(f"{change.__name__} {run.name}/{name}")
        else:
            kind = dice.choice(KINDS)
            put(path, kind, dice)
            done.append(f"{kind} at {run.name}/{name}")
    if dice.random() < 0.5 and (run / "spec.json").is_file():  # the signature holds
        with contextlib.suppress(OSError, ValueError, AttributeError):
            spec = run / "spec.json"
            spec.write_text(json.dumps(sign(json.loads(spec.read_text()))))
    return run.name, "; ".join(done)


def some(commands: Sequence[tuple[str, ...]], seed: int) -> list[tuple[str, ...]]:
    """Return a third of the commands, in their order."""
    return [words for number, words in enumerate(commands) if (number + seed) % 3 == 0]


def put(path: Path, kind: str, dice: random.Random) -> None:
    """Put something in the place of a file."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            path.write_bytes(dice.randbytes(dice.choice((0, 1, 300))))
        elif kind == "json":
            path.write_bytes(
                mutate_json(b'{"rank": 7, "status": "failed", "attempt": 1, "time": 1}', dice.randrange(99))
            )
        elif kind == "folder":
            (path / "inside").mkdir(parents=True)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            target = {"dangling link": "nowhere", "loop": path.name, "link to a device": "/dev/zero"}
            path.symlink_to(target.get(kind) or path.parents[len(path.parents) - 1 - _depth(path)] / "outside")


def _depth(path: Path) -> int:
    """Return how many folders lie above the folder of all runs."""
    return next(len(parent.parts) - 2 for parent in path.absolute().parents if parent.name == "runs")


def amend(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("no_hang")
def test_damaged_run_folders(
    whole: Path, tmp_path: Path, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    failures: list[str] = []
    started: list[RunPlan] = []
    signals: list[object] = []
    monkeypatch.setattr("launcher.execution.launch.start", lambda plans, _: started.extend(plans) or [0] * len(plans))
    monkeypatch.setattr("launcher.cli.commands.cancel.processes.send_signal", lambda *given: signals.append(given))
    for seed in cases(10):
        home = tmp_path / "home"
        shutil.copytree(whole, home, symlinks=True)
        monkeypatch.chdir(home)
        (home / "out").mkdir()
        for run in Path("runs").glob("*/spec.json"):
            amend(run, run_dir=str(run.parent.absolute()))
            run.write_text(json.dumps(sign(json.loads(run.read_text()))))
        target, done = damage(home / "runs", seed)
        before = contents(home / "outside")
        for words in (*some(COMMANDS, seed), ("clean", "RUN", "--yes")):
            case = (seed, done, *words)
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"dogs\n")))
            signal.alarm(300)
            try:
                said = sgp(*({"RUN": target, "OUT": "out"}.get(word, word) for word in words))
                check(said)
                counts[f"{words[0]} {said.code}"] += 1
            except BaseException:
                failures.append(f"{case}: {traceback.format_exc(limit=-6)}")
            signal.alarm(0)
        assert contents(home / "outside") == before, (seed, done)
        assert sorted(path.name for path in home.iterdir()) == ["out", "outside", "runs"], (seed, done)
        assert {path.name for path in (home / "out").iterdir()} <= WRITTEN, (seed, done)
        shutil.rmtree(home)
    assert not failures, "\n".join(failures[:20])
    print(dict(sorted(counts.items())), f"{len(started)} resumed, {len(signals)} signals")


WRITTEN = {
    *("report.html", "model.safetensors", "model.json", "tokenizer.json"),
    *(f"model-step-{step}.{end}" for step in (2, 4) for end in ("safetensors", "json")),
}
"""What commands may write to a folder that is named."""


def check(said: Said) -> None:
    assert said.code in (0, 1, 2), said
    assert "Traceback" not in said.err, said
    assert not {"\x1b", "\x07"} & set(said.out + said.err), said
    if said.code == 2:
        assert said.err.startswith("sgp: "), said
        assert len(said.err.splitlines()) == 1, said
        assert len(said.err) < 2000, said
        assert "object at 0x" not in said.err, said

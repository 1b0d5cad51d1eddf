"""What ``sgp export`` writes is the average that training itself would have exported, bit for bit for two workers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from launcher.cli.commands.export import export
from sgp_core.checkpoint_files import seal
from sgp_core.errors import ConfigurationError
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig
from sgp_core.training.export import averaged_state
from tests.training import tiny
from tests.workers.training import Workers

RUN = "0123456789"
SETTINGS = {"checkpoint": CheckpointConfig(every_steps=5, every_epochs=0, keep_last=9)}
CASES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "sgp": (2, {}, {"channels_last": True}),
    "slowmo": (2, {"outer": {"name": "slowmo", "tau": 4}, "optimizer": {"name": "adamw", "lr": 0.01}}, {}),
    "weights": (3, {"topology": {"name": "star", "weights": "uniform"}}, {}),
}
"""World size, choices and training options; in the last one PushSum weights leave 1."""


@pytest.fixture(autouse=True)
def tiny_choices() -> Iterator[None]:
    """The tiny data set and model are known."""
    with tiny.known():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a completed run, trained by real workers when first asked for."""
    made: dict[str, Path] = {}

    def train(case: str) -> Path:
        if case not in made:
            world_size, choices, training = CASES[case]
            experiment = tiny.experiment(world_size, choices=choices, epochs=2, **training).to_dict()
            run = tmp_path_factory.mktemp(case) / "runs" / RUN
            run.mkdir(parents=True)
            Workers(run, experiment, SETTINGS).finish()
            (run / "spec.json").write_text(json.dumps({"run_id": RUN, "experiment": experiment}))
            (run / "summary.json").write_text(json.dumps({"run_id": RUN, "status": "completed"}))
            made[case] = run
        return made[case]

    return train


@pytest.fixture
def run(trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a completed run, to be spoilt."""
    return _copy(trained("sgp"), tmp_path, monkeypatch)


def _copy(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(source, tmp_path / "runs" / RUN))


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _steps(run: Path) -> list[int]:
    return sorted(_step(path) for path in (run / "checkpoints").iterdir())


def _states(run: Path, step: int) -> list[dict[str, Any]]:
    spec = json.loads((run / "spec.json").read_text())["experiment"]
    store = CheckpointStore(run, spec["world_size"])
    manifest = next(manifest for manifest in store.manifests() if manifest.step == step)
    return [store.read_shard(manifest, rank) for rank in range(spec["world_size"])]


@pytest.mark.parametrize("case", CASES)
def test_the_last_checkpoint_gives_the_exported_model(
    case: str, trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _copy(trained(case), tmp_path, monkeypatch)
    export(RUN, step="last")
    last = _steps(run)[-1]
    made, exported = (load_file(run / f"{name}.safetensors") for name in (f"model-step-{last}", "model"))
    assert list(made) == list(exported)
    states = _states(run, last)
    for name in exported:
        if case == "weights":
            torch.testing.assert_close(made[name], exported[name], rtol=3e-7, atol=3e-8)
        else:
            assert torch.equal(made[name], exported[name]), name
    if case == "weights":
        assert any(abs(state["gossip"]["push_sum_weight"] - 1) > 0.01 for state in states)
    assert (
        not torch.equal(states[0]["gossip"]["parameters"][0], states[1]["gossip"]["parameters"][0]) or case == "slowmo"
    )
    description, expected = (json.loads((run / f"{name}.json").read_text()) for name in (f"model-step-{last}", "model"))
    assert description == expected
    tiny.NoisyNet().build((2, 5, 5), tiny.CLASSES).load_state_dict(made)


def test_a_checkpoint_is_the_mean_of_its_workers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _steps(run)[0]
    export(RUN, step=str(first))
    assert f"model-step-{first}.safetensors: averaged noisy at step {first}" in capsys.readouterr().out
    made = load_file(run / f"model-step-{first}.safetensors")
    states = _states(run, first)
    total = sum(state["gossip"]["parameters"][0].double().sum() for state in states) / 2
    parameters = [made[name] for name in made if "running" not in name and "tracked" not in name]
    torch.testing.assert_close(sum(p.double().sum() for p in parameters), total)
    means = [state["buffers"]["1.running_mean"] for state in states]
    torch.testing.assert_close(made["1.running_mean"], sum(means) / 2)
    assert not torch.equal(means[0], means[1])
    assert made["1.num_batches_tracked"].item() == first


def test_several_checkpoints_are_averaged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = _steps(run)
    for step in steps:
        export(RUN, step=str(step))
    capsys.readouterr()
    export(RUN, average=3)
    assert f"averaged noisy at steps {steps[-1]}, {steps[-2]}, {steps[-3]}\n" in capsys.readouterr().out
    made = load_file(run / f"model-step-{steps[-1]}-average-3.safetensors")
    each = [load_file(run / f"model-step-{step}.safetensors") for step in steps]
    for name, tensor in made.items():
        values = [state[name] for state in each]
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, torch.stack(values[-3:]).mean(dim=0))
        else:
            assert torch.equal(tensor, values[-1])
    assert not torch.allclose(made["5.weight"], each[-1]["5.weight"])
    description = json.loads((run / f"model-step-{steps[-1]}-average-3.json").read_text())
    assert (description["averaged_steps"], description["scores"]) == (steps[:-4:-1], {})
    export(RUN, step=str(steps[1]), average=2, out=Path("mean.safetensors"))
    torch.testing.assert_close(
        load_file(Path("mean.safetensors"))["5.weight"], (each[0]["5.weight"] + each[1]["5.weight"]) / 2
    )
    with pytest.raises(ConfigurationError, match=r"--average 3: runs/0123456789 has checkpoints of step 5, 7; checkp"):
        export(RUN, step=str(steps[1]), average=3)


def test_the_finished_model_is_copied(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(RUN)
    assert capsys.readouterr().out.startswith("runs/0123456789/model.safetensors: averaged noisy at step 14, accuracy ")
    export(RUN, out=Path("there/model.safetensors"))
    assert (tmp_path / "there/model.json").read_bytes() == (run / "model.json").read_bytes()
    capsys.readouterr()
    export(RUN, out=Path("there"), as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["file"], said["step"], said["model"]["name"]) == ("there/model.safetensors", 14, "noisy")
    assert (tmp_path / "there/model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["model.json", "model.safetensors"]


def test_an_unfinished_run_gives_its_newest_checkpoint(run: Path) -> None:
    (run / "summary.json").write_text(json.dumps({"run_id": RUN, "status": "failed"}))
    (run / "checkpoints/step-14/manifest.json").unlink()  # a checkpoint without it does not exist
    (run / "model.safetensors").unlink()
    export(RUN, out=Path("model.safetensors"))
    assert json.loads(Path("model.json").read_text())["step"] == 10
    assert not list(run.glob("*.safetensors"))


def test_best_is_the_best_that_was_evaluated(run: Path) -> None:
    for step, score in ((5, 0.9), (7, 0.8), (10, None), (14, 0.9)):
        manifest = run / f"checkpoints/step-{step}/manifest.json"
        manifest.write_text(json.dumps(seal({**json.loads(manifest.read_text()), "score": score})))
    export(RUN, step="best")
    assert (run / "model-step-5.safetensors").exists()


def test_checkpoints_of_gpus_can_be_averaged_without_one(run: Path) -> None:
    """Workers on CUDA leave gaps between parameters."""
    model = tiny.NoisyNet().build((2, 5, 5), tiny.CLASSES).to(memory_format=torch.channels_last)
    sizes = [parameter.numel() for parameter in model.parameters()][::-1]
    store = CheckpointStore(run, 2)
    packed = averaged_state(store, store.manifests()[0], model)
    expected = {name: tensor.clone() for name, tensor in packed.items()}
    for rank, state in enumerate(_states(run, 14)):
        state["gossip"]["device"] = "cuda"
        state["gossip"]["parameters"] = [_with_gaps(state["gossip"]["parameters"][0], sizes)]
        store.write_shard(99, rank, state)
    store.commit(99)
    manifest = store.manifests()[0]
    assert manifest.step == 99
    tiny.assert_same_bits(dict(averaged_state(store, manifest, model)), expected)


def _with_gaps(flat: Tensor, sizes: list[int]) -> Tensor:
    parts, end = [], 0
    for part in flat.split(sizes):
        gap = -end % 4  # 16 bytes
        parts += [torch.zeros(gap), part]
        end += gap + part.numel()
    assert end > flat.numel()
    return torch.cat(parts)


def test_mistakes_are_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"--step 6: runs/0123456789 has checkpoints of step 5, 7, 10, 14; or use"
    ):
        export(RUN, step="6")
    with pytest.raises(ConfigurationError, match=r"--out model\.pt: must be a folder or end in \.safetensors"):
        export(RUN, out=Path("model.pt"))
    with pytest.raises(ConfigurationError, match="no run or sweep 'ffff'"):
        export("ffff")
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigurationError, match="cannot copy"):
        export(RUN, out=Path("taken/model.safetensors"))
    with pytest.raises(ConfigurationError, match="cannot write"):
        export(RUN, step="last", out=Path("taken/model.safetensors"))


def test_a_damaged_checkpoint_is_refused_and_another_named(run: Path) -> None:
    shard = run / "checkpoints/step-14/rank-1.pt"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"rank-1.pt is damaged.*; other checkpoints: step 10, 7, 5"):
        export(RUN, step="last")
    assert not list(run.glob("model-step-*"))


def test_a_checkpoint_of_something_else_is_refused(run: Path) -> None:
    spec = json.loads((run / "spec.json").read_text())
    for change, words in (
        ({"seed": 6}, "belong to another experiment"),
        ({"world_size": 3}, "were saved by 2 workers"),
    ):
        (run / "spec.json").write_text(json.dumps({**spec, "experiment": {**spec["experiment"], **change}}))
        with pytest.raises(ConfigurationError, match=words):
            export(RUN, step="last")
    (run / "spec.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"spec\.json cannot be read"):
        export(RUN, step="last")


def test_without_checkpoints_there_is_nothing_to_export(run: Path) -> None:
    for manifest in run.glob("checkpoints/*/manifest.json"):
        manifest.unlink()
    with pytest.raises(ConfigurationError, match="runs/0123456789 has no complete checkpoint yet"):
        export(RUN, step="last")


@pytest.mark.parametrize(
    "tokenizer", ["../.bashrc", "/etc/hosts", ".bashrc", "Makefile", "..", "", 3, ["tokenizer.json"]]
)
def test_a_foreign_run_writes_no_file_that_it_names(run: Path, tmp_path: Path, tokenizer: Any) -> None:
    (run.parent / ".bashrc").write_text("echo mine\n")
    for name in (".bashrc", "Makefile"):
        (run / name).write_text("echo theirs\n")
    description = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**description, "tokenizer": tokenizer}))
    out = tmp_path / "home" / "models"
    out.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"model.json is damaged: tokenizer must be a file such as tokenizer"):
        export(RUN, out=out)
    assert list((tmp_path / "home").rglob("*")) == [out]


@pytest.mark.parametrize(
    "wrong", [{"averaged_steps": 3}, {"model": [1]}, {"scores": "high"}, {"step": {"a": "\x1b[31m"}}]
)
def test_a_description_of_wrong_types_is_described(
    run: Path, wrong: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "model.json").write_text(json.dumps({**json.loads((run / "model.json").read_text()), **wrong}))
    export(RUN)
    out = capsys.readouterr().out
    assert out.startswith("runs/0123456789/model.safetensors: averaged ")
    assert "\x1b" not in out


def test_the_modes_of_exported_files_follow_the_umask(run: Path) -> None:
    before = os.umask(0o002)
    try:
        export(RUN, step="last", out=Path("last.safetensors"))
        export(RUN, out=Path("copy.safetensors"))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in Path().glob("*.*")}
    assert modes == dict.fromkeys(("last.safetensors", "last.json", "copy.safetensors", "copy.json"), 0o664)

"""Model FLOP utilisation: operations counted as the field does, and the share of the peak that is in the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.model_size import count_step_flops
from sgp_core.tasks.models import MODELS
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training.config import EvaluationConfig, Precision
from sgp_core.training.loop import train
from sgp_core.training.utilisation import Utilisation, find_peak, peak_of_name
from tests.training import tiny


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", ["30m", "124m"])
def test_a_token_takes_what_palm_says(size: str, tied: bool) -> None:
    """And what torch counts, which leaves out norms, biases and what is no matrix."""
    context, vocabulary = 256, 8192
    options: Any = MODELS.build("gpt", size=size, tied=tied)
    with torch.device("meta"):
        model = options.build(vocabulary, context)
    shape = options.shape()
    layer = shape.width * (4 * shape.width + (3 if shape.gated else 2) * shape.hidden)
    matrices = shape.layers * layer + vocabulary * shape.width
    expected = 6 * matrices + 12 * shape.layers * shape.width * context
    assert model.flops_per_token(context) == pytest.approx(expected, rel=2e-3)
    dataset: Any = DATASETS.build("text", vocabulary=vocabulary, context=context)
    counted = count_step_flops(options, dataset, 2)
    assert counted == pytest.approx(2 * context * model.flops_per_token(context), rel=2e-3)


def rows_of(directory: Path, experiment: Any, peak: float | None) -> list[dict[str, Any]]:
    tracker = JsonlTracker(directory / "metrics.jsonl")
    settings = tiny.settings(evaluation=EvaluationConfig(peak_tflops=peak), log_every=2)
    train(experiment, directory=directory, trackers=[tracker], **settings)
    return read_rows(directory / "metrics.jsonl")


def test_rows_have_it_where_the_peak_is_stated(tmp_path: Path) -> None:
    text = {"name": "text", "vocabulary": 300, "context": 16, "cache": str(tmp_path / "cache")}
    model = {"name": "gpt", "size": "tiny", "layers": 2, "width": 32, "heads": 2, "hidden": 64}
    choices = {"dataset": text, "model": model, "optimizer": {"name": "adamw", "lr": 0.001}}
    experiment = tiny.experiment(1, choices=choices, batch_size=4, epochs=1, max_steps=4)
    rows = rows_of(tmp_path / "stated", experiment, 0.5)
    built = MODELS.build("gpt", **{name: value for name, value in model.items() if name != "name"})
    per_token = built.build(300, 16).flops_per_token(16)  # type: ignore[attr-defined]
    for row in rows:
        assert row["mfu"] == pytest.approx(row["tokens_per_s"] * per_token / 0.5e12)
        assert 0 < row["mfu"] < 1
    assert len({row["split"] for row in rows}) == 2
    assert not any("mfu" in row for row in rows_of(tmp_path / "unknown", experiment, None))


def test_torch_counts_where_the_task_does_not(tmp_path: Path) -> None:
    experiment = tiny.experiment(choices={"dataset": {"name": "digits"}, "model": {"name": "mlp"}}, max_steps=2)
    [row, *_] = rows_of(tmp_path, experiment, 1.0)
    options: Any = MODELS.build("mlp")
    flops = count_step_flops(options, DATASETS.build("digits"), 1)
    assert flops is not None
    assert row["mfu"] == pytest.approx(row["samples_per_s"] * flops / 1e12)


def test_it_is_the_share_of_all_devices() -> None:
    used = Utilisation(flops_per_example=2e9, peak=1e12)
    assert used(1000.0, 4) == pytest.approx(0.5)
    assert used(None, 4) is None


@pytest.mark.parametrize(
    ("name", "fp32", "bf16"),
    [
        ("NVIDIA A100-SXM4-40GB", 19.5, 312),
        ("NVIDIA H100 80GB HBM3", 66.9, 989.4),
        ("NVIDIA H100 PCIe", 51.2, 756.5),
        ("NVIDIA GH200 480GB", 66.9, 989.4),
        ("NVIDIA H200", 66.9, 989.4),
        ("NVIDIA L40S", 91.6, 362),
        ("NVIDIA L4", 30.3, 121),
        ("NVIDIA A10", 31.2, 125),
        ("NVIDIA A10G", None, None),
        ("Tesla V100-SXM2-16GB", 15.7, None),
        ("NVIDIA B200", None, 2250),
        ("AMD Instinct MI300X", None, None),
    ],
)
def test_peaks_of_gpus(name: str, fp32: float | None, bf16: float | None) -> None:
    assert (peak_of_name(name, Precision.fp32), peak_of_name(name, Precision.bf16)) == (fp32, bf16)


def test_the_peak_of_a_cpu_is_unknown() -> None:
    assert find_peak(torch.device("cpu"), Precision.fp32) is None


@pytest.mark.parametrize("peak", [0.0, -1.0, float("inf")])
def test_an_impossible_peak_is_refused(peak: float) -> None:
    with pytest.raises(ConfigurationError, match=r"evaluation.peak_tflops must be positive"):
        EvaluationConfig(peak_tflops=peak)

"""Settings are read strictly, explained shortly, and say which runs are the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from sgp_core.errors import ConfigurationError
from sgp_core.training.config import (
    CheckpointConfig,
    EvaluatedModel,
    EvaluationConfig,
    Experiment,
    LoaderConfig,
    Precision,
    TrainingConfig,
)
from tests.training import tiny

KINDS = [TrainingConfig, EvaluationConfig, CheckpointConfig, LoaderConfig, Experiment]


def test_settings_are_read_without_torch():
    code = "import sys, sgp_core.training.config, sgp_core.training, sgp_core.tracking; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("kind", KINDS)
def test_settings_survive_json_and_structured_configs(kind):
    assert kind.from_dict(json.loads(json.dumps(kind().to_dict()))) == kind()
    assert OmegaConf.to_object(OmegaConf.structured(kind)) == kind()


def test_structured_configs_read_names_of_enums_and_null():
    config = OmegaConf.merge(OmegaConf.structured(TrainingConfig), {"precision": "bf16", "clip_norm": None})
    assert OmegaConf.to_object(config) == TrainingConfig(precision=Precision.bf16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingConfig(epochs=0), "training.epochs must be at least 1, not 0"),
        (lambda: TrainingConfig(batch_size=2, accumulation_steps=3), "accumulation_steps=3 cannot exceed"),
        (lambda: TrainingConfig(clip_norm=0.0), "training.clip_norm must be positive or null, not 0.0"),
        (lambda: TrainingConfig(label_smoothing=1.0), r"training.label_smoothing must be in \[0, 1\), not 1.0"),
        (lambda: TrainingConfig.from_dict({"precision": "bf61"}), "did you mean 'bf16'"),
        (lambda: TrainingConfig.from_dict({"epoch": 3}), "training has no option 'epoch'; did you mean 'epochs'"),
        (lambda: EvaluationConfig.from_dict({"model": "mean"}), "evaluation.model cannot be 'mean'"),
        (lambda: CheckpointConfig(keep_last=0), "checkpoint.keep_last must be"),
        (lambda: Experiment(world_size=0), "world_size must be"),
        (lambda: Experiment.from_dict({"training": {"batch_size": "x"}}), "training.batch_size must be"),
    ],
)
def test_mistakes_are_one_sentence(make, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_plain_data_holds_no_enums():
    assert EvaluationConfig(model=EvaluatedModel.both).to_dict()["model"] == "both"
    assert type(EvaluationConfig().to_dict()["model"]) is str


def test_equal_numbers_equal_fingerprint():
    plain = tiny.experiment()
    explicit = tiny.experiment(choices={"model": {"name": "noisy", "dropout": 0.3}})
    elsewhere = tiny.experiment(choices={"dataset": {"name": "blobs", "where": "/other"}})
    assert plain.fingerprint() == explicit.fingerprint()
    assert plain.fingerprint() == elsewhere.fingerprint()
    assert plain.fingerprint() != tiny.experiment(choices={"seed": 6}).fingerprint()
    assert plain.fingerprint() != tiny.experiment(epochs=4).fingerprint()


def test_no_compression_is_no_part_of_the_identity():
    plain, chosen = tiny.experiment(), tiny.experiment(choices={"compression": {"name": "int8"}})
    assert plain.compression == {"name": "none"}
    assert "compression" not in plain.identity()
    assert chosen.identity()["compression"] == {"name": "int8", "gamma": 1.0, "block_size": 256}


def test_an_option_that_came_later_is_part_of_the_identity_where_it_is_set() -> None:
    def model(**options):
        return tiny.experiment(choices={"model": {"name": "torchvision", **options}}).identity()["model"]

    assert model() == {"name": "torchvision", "architecture": "resnet18", "zero_init_residual": False}
    assert model(classifier_std=None) == model()
    assert model(classifier_std=0.01) == {**model(), "classifier_std": 0.01}


def test_dealing_out_anew_is_no_part_of_the_identity():
    plain, chosen = tiny.experiment(), tiny.experiment(choices={"partition": {"name": "dirichlet"}})
    assert plain.partition == {"name": "iid"}
    assert "partition" not in plain.identity()
    assert chosen.identity()["partition"] == {"name": "dirichlet", "alpha": 0.1}


def test_an_unknown_option_of_a_choice_is_named():
    with pytest.raises(ConfigurationError, match="model 'noisy' has no option 'droput'; did you mean 'dropout'"):
        tiny.experiment(choices={"model": {"name": "noisy", "droput": 0.1}}).identity()


def test_options_are_read_by_their_former_names() -> None:
    assert EvaluationConfig.from_dict({"translate": "never"}).to_dict()["generate"] == "never"

"""An exported model is GPT-2 or Llama of ``transformers``: loaded by it alone, with the same logits."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.language_modelling.byte_bpe import ByteBpe
from sgp_core.tasks.language_modelling.publishing import write_transformers_folder
from sgp_core.tasks.language_modelling.sampling import Sampling
from tests.support.language_models import GPT2, LLAMA, make_language_model

SMALL = {"name": "gpt", "size": "small", "layers": 3}
SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "llama": (LLAMA, "LlamaForCausalLM"),
    "llama-untied": ({**LLAMA, "tied": False}, "LlamaForCausalLM"),
    "llama-biases": ({**LLAMA, "bias": True}, "LlamaForCausalLM"),
    "llama-of-small": (SMALL, "LlamaForCausalLM"),
    "llama-of-150m": ({"name": "gpt", "size": "150m", "layers": 2, "tied": False}, "LlamaForCausalLM"),
    "gpt2": (GPT2, "GPT2LMHeadModel"),
    "gpt2-untied": ({**GPT2, "tied": False}, "GPT2LMHeadModel"),
    "gpt2-without-biases": ({**GPT2, "bias": False}, "GPT2LMHeadModel"),
    "gpt2-of-124m": ({"name": "gpt", "size": "124m", "layers": 2}, "GPT2LMHeadModel"),
}
CONTEXT = 48


def publish(folder: Path, model: dict[str, Any], **made: Any) -> tuple[Any, Path]:
    folder.mkdir(exist_ok=True)
    network = make_language_model(folder, model, context=CONTEXT, **made)
    write_transformers_folder(folder / "model.safetensors", folder / "there")
    return network, folder / "there"


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_logits_are_the_same(shape: str, tmp_path: Path) -> None:
    options, architecture = SHAPES[shape]
    network, folder = publish(tmp_path, options, scale=4.0 if "width" in options else 2.0)
    theirs, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    assert type(theirs).__name__ == architecture
    assert theirs.dtype == torch.float32
    tokens = torch.randint(270, (3, CONTEXT), generator=torch.Generator().manual_seed(1))
    ours, found = network(tokens), theirs.eval()(tokens).logits
    assert ours.std() > 0.1  # it has opinions
    assert (ours - found).abs().max() <= 1e-5
    tied = theirs.get_input_embeddings().weight is theirs.get_output_embeddings().weight
    assert tied == options.get("tied", True)
    assert sum(map(torch.numel, theirs.parameters())) >= sum(map(torch.numel, network.parameters()))


@pytest.mark.parametrize("model", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_the_tokenizer_and_generation_are_the_same(model: dict[str, Any], tmp_path: Path) -> None:
    network, folder = publish(tmp_path, model, spare=5)
    bpe = ByteBpe.load(tmp_path / "tokenizer.json")
    texts = ["In the beginning God", " two  spaces, Ünicode 𝄞\n\nand\ttabs  ", "Jesus wept."]
    for tokenizer in (AutoTokenizer.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder)):
        assert tokenizer(texts)["input_ids"] == bpe.encode(texts)
        assert [tokenizer.decode(ids) for ids in bpe.encode(texts)] == texts
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 0)
        assert tokenizer.model_max_length == CONTEXT
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    begin = [0, *bpe.encode(["In the"])[0]]
    given = torch.tensor([begin])
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    written = theirs.generate(given, attention_mask=torch.ones_like(given), **options)
    ours = Sampling(temperature=0)(network, begin, CONTEXT, bpe.size + 5)
    assert written[0, len(begin) :].tolist() == [token for token, _ in zip(ours, range(20), strict=False)]
    assert theirs.config.eos_token_id == 0


@pytest.mark.parametrize("mixed", [{"norm": "layer"}, {"positions": "learned"}, {"activation": "gelu"}])
def test_a_mixed_shape_is_refused_in_a_sentence(mixed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"transformers has no model of this shape: GPT-2 has .* mixes the tw"):
        publish(tmp_path, {**LLAMA, **mixed})
    assert not (tmp_path / "there").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    make_language_model(tmp_path)
    model = tmp_path / "model.safetensors"
    before = model.read_bytes()
    with pytest.raises(ConfigurationError, match=r"holds something else, such as model.json; name a new or empty fol"):
        write_transformers_folder(model, tmp_path)
    assert model.read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file must be a folder: Not a directory"):
        write_transformers_folder(model, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    for _ in range(2):  # the second time over the first
        write_transformers_folder(model, tmp_path / "empty")
    files = sorted((tmp_path / "empty").iterdir())
    assert [file.name for file in files] == [
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    ]
    umask = os.umask(0)
    os.umask(umask)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o666 & ~umask}


def test_what_cannot_be_written_whole_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = publish(tmp_path, LLAMA)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sgp_core.tasks.language_modelling.publishing.write_tensors", fail)
    with pytest.raises(ConfigurationError, match=r"cannot write to .*/there: No space left on device"):
        write_transformers_folder(tmp_path / "model.safetensors", folder)
    assert not (folder / "config.json").exists()


def test_a_published_tokenizer_keeps_its_token_of_the_beginning(tmp_path: Path) -> None:
    make_language_model(tmp_path)
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("<|endoftext|>", "<|begin_of_text|>"))
    description = json.loads((tmp_path / "model.json").read_text())
    del description["tokenizer_sha256"]
    (tmp_path / "model.json").write_text(json.dumps(description))
    write_transformers_folder(tmp_path / "model.safetensors", tmp_path / "there")
    assert AutoTokenizer.from_pretrained(tmp_path / "there").bos_token == "<|begin_of_text|>"

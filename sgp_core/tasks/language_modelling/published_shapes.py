"""The decoder-only transformer as GPT-2 and Llama of the library ``transformers``: configuration and names of weights.

Shapes: W features, F features of the hidden layer, V words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.language_modelling.models.base import PublishedModel
from sgp_core.tasks.language_modelling.network import NORM_EPS, ROTARY_BASE, GptShape

_HEAD = "lm_head.weight"


def publish(shape: GptShape, state: Mapping[str, Tensor], context: int) -> PublishedModel:
    """Return the configuration and the weights of the equal model of ``transformers``.

    Args:
        state: of :class:`sgp_core.tasks.language_modelling.network.GptNetwork`.

    Raises:
        ConfigurationError: neither GPT-2 nor Llama has this shape.
    """
    switches = (shape.rotary, shape.rms, shape.gated)
    if switches == (False, False, False):
        return PublishedModel(_gpt2_options(shape, state, context), _gpt2_weights(shape, state))
    if switches == (True, True, True):
        return PublishedModel(_llama_options(shape, state, context), _llama_weights(shape, state))
    raise ConfigurationError(
        "transformers has no model of this shape: GPT-2 has learned positions, layer normalisation and GELU, Llama has"
        " rotary positions, root mean square normalisation and SwiGLU; this mixes the two"
    )


def _gpt2_options(shape: GptShape, state: Mapping[str, Tensor], context: int) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": len(state["embedding.weight"]),
        "n_positions": context,
        "n_embd": shape.width,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": shape.hidden,
        "activation_function": "gelu_new",  # by the hyperbolic tangent
        "layer_norm_epsilon": NORM_EPS,
        "embd_pdrop": shape.dropout,
        "resid_pdrop": shape.dropout,
        "attn_pdrop": shape.dropout,
        "tie_word_embeddings": shape.tied,
    }


def _gpt2_weights(shape: GptShape, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by GPT-2's names. It keeps matrices as ``[inputs, outputs]`` and always has biases."""
    found = {
        "transformer.wte.weight": state["embedding.weight"],
        "transformer.wpe.weight": state["positions.weight"],
        **_with_bias("transformer.ln_f", state, "norm"),
    }
    if not shape.tied:
        found[_HEAD] = state["head.weight"]
    for number in range(shape.layers):
        ours, theirs = f"blocks.{number}.", f"transformer.h.{number}."
        for norm, name in (("attention_norm", "ln_1"), ("feedforward_norm", "ln_2")):
            found |= _with_bias(f"{theirs}{name}", state, f"{ours}{norm}")
        for layer, name in (
            ("attention.project", "attn.c_attn"),
            ("attention.out", "attn.c_proj"),
            ("feedforward.widen", "mlp.c_fc"),
            ("feedforward.narrow", "mlp.c_proj"),
        ):
            found |= _with_bias(f"{theirs}{name}", state, f"{ours}{layer}", transposed=True)
    return found


def _with_bias(name: str, state: Mapping[str, Tensor], layer: str, *, transposed: bool = False) -> dict[str, Tensor]:
    """Return weight and bias of a layer, with zeros for a bias that it does not have."""
    weight = state[f"{layer}.weight"]
    bias = state.get(f"{layer}.bias", torch.zeros(len(weight), dtype=weight.dtype))
    return {f"{name}.weight": weight.T if transposed else weight, f"{name}.bias": bias}


def _llama_options(shape: GptShape, state: Mapping[str, Tensor], context: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(state["embedding.weight"]),
        "max_position_embeddings": context,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.width // shape.heads,
        "intermediate_size": shape.hidden,
        "hidden_act": "silu",
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROTARY_BASE,  # as transformers 4 reads it
        "rope_parameters": {"rope_type": "default", "rope_theta": ROTARY_BASE},  # as transformers 5 does
        "attention_bias": shape.bias,
        "mlp_bias": shape.bias,
        "attention_dropout": shape.dropout,
        "tie_word_embeddings": shape.tied,
    }


def _llama_weights(shape: GptShape, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by Llama's names. Its rotary positions pair feature i with i + D / 2, as ours do."""
    found = {"model.embed_tokens.weight": state["embedding.weight"], "model.norm.weight": state["norm.weight"]}
    if not shape.tied:
        found[_HEAD] = state["head.weight"]
    kinds = ("weight", "bias") if shape.bias else ("weight",)
    for number in range(shape.layers):
        ours, theirs = f"blocks.{number}.", f"model.layers.{number}."
        found[f"{theirs}input_layernorm.weight"] = state[f"{ours}attention_norm.weight"]
        found[f"{theirs}post_attention_layernorm.weight"] = state[f"{ours}feedforward_norm.weight"]
        for kind in kinds:
            parts = state[f"{ours}attention.project.{kind}"].chunk(3)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                found[f"{theirs}self_attn.{name}.{kind}"] = part
            for layer, name in (
                ("attention.out", "self_attn.o_proj"),
                ("feedforward.gate", "mlp.gate_proj"),
                ("feedforward.widen", "mlp.up_proj"),
                ("feedforward.narrow", "mlp.down_proj"),
            ):
                found[f"{theirs}{name}.{kind}"] = state[f"{ours}{layer}.{kind}"]
    return found

"""Teachers and students: causal language models of transformers, by name, config or model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

# Layers, width and heads.
SIZES = {
    "tiny": (2, 32, 2),
    "small": (2, 128, 2),
    "medium": (4, 256, 4),
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
}


def make_network(given: Any, vocab_size: int, max_length: int, end: int) -> nn.Module:
    """Return a new model for a name or config, and a copy of a model."""
    if isinstance(given, nn.Module):
        return _copy_of(given, vocab_size, max_length)
    config = _config_of(given, max_length)
    from transformers import AutoModelForCausalLM

    config.vocab_size, config.bos_token_id, config.eos_token_id = vocab_size, end, end
    config.pad_token_id = None
    if _positions_of(config) < max_length:
        raise ValueError(
            f"max_length must be at most the number of positions of each model, got {max_length} "
            f"for {_positions_of(config)} positions: choose a smaller max_length."
        )
    model: nn.Module = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.float32
    )
    return model


def logits_of(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the logits of shape (n, length, vocab_size) in single precision."""
    logits: torch.Tensor = model(input_ids=inputs, use_cache=False).logits
    return logits.float()


def share_embedding(model: nn.Module, other: nn.Module) -> None:
    """Let a model use the token embedding and the output layer of another one."""
    model.set_input_embeddings(other.get_input_embeddings())  # type: ignore[operator]
    model.set_output_embeddings(other.get_output_embeddings())  # type: ignore[operator]


def shared_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the token embedding and the output layer, each once."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[operator]
    return list(dict.fromkeys(each for layer in layers for each in layer.parameters()))


def _copy_of(model: nn.Module, vocab_size: int, max_length: int) -> nn.Module:
    """Copy a user's model, if it takes the tokens and the length."""
    config = getattr(model, "config", None)
    if config is None or getattr(config, "vocab_size", None) != vocab_size:
        raise ValueError(
            "A model must be a causal model of transformers with the tokenizer's number of tokens, "
            f"{vocab_size}, got {type(model).__name__} with "
            f"{getattr(config, 'vocab_size', 'no known number')}: pass its tokenizer, too."
        )
    if _positions_of(config) < max_length:
        raise ValueError(
            f"max_length must be at most the number of positions of each model, got {max_length} "
            f"for {_positions_of(config)} positions: choose a smaller max_length."
        )
    return copy.deepcopy(model).float()


def _config_of(given: Any, max_length: int) -> Any:
    """Return a new config for a name, and a copy of a config."""
    from transformers import GPT2Config, LlamaConfig, PretrainedConfig

    if isinstance(given, PretrainedConfig):
        return copy.deepcopy(given)
    llama = isinstance(given, str) and given.startswith("llama-")
    name = given.removeprefix("llama-") if isinstance(given, str) else given
    if not isinstance(name, str) or name not in SIZES:
        raise ValueError(
            f"A model must be one of {', '.join(SIZES)}, one of these after llama-, a config or a "
            f"causal model of transformers, got {given!r}: choose one."
        )
    n_layers, width, n_heads = SIZES[name]
    if llama:
        return LlamaConfig(
            hidden_size=width,
            intermediate_size=-(-width * 8 // 3 // 32) * 32,
            num_hidden_layers=n_layers,
            num_attention_heads=n_heads,
            num_key_value_heads=n_heads,
            max_position_embeddings=max_length,
            tie_word_embeddings=True,
        )
    return GPT2Config(
        n_positions=max_length,
        n_embd=width,
        n_layer=n_layers,
        n_head=n_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )


def _positions_of(config: Any) -> int:
    """Return the number of positions, which some architectures do not limit."""
    return int(getattr(config, "max_position_embeddings", None) or 2**31)

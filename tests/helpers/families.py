"""Tiny random models of every supported family, with windows shorter than the test sequences."""

import warnings
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 97

BASE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}

# family -> its configuration in addition to BASE
RECORDED: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 13, "max_window_layers": 2},
    "qwen3": {},
    "qwen3_moe": {"num_experts": 4, "decoder_sparse_step": 1, **EXPERTS},
    "mistral": {"sliding_window": 11},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "gemma": {},
    "gemma2": {"sliding_window": 12, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 16},
    "gemma3_text": {
        "sliding_window": 12,
        "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "phi3": {"sliding_window": 17, "hidden_size": 64},
    "gpt2": {"n_embd": 48, "n_layer": 4, "n_head": 4, "n_positions": 256, "n_inner": 64},
    "gpt_neox": {"num_key_value_heads": None},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 48},
    "olmo": {"clip_qkv": 4.0},
    "olmo2": {"hidden_size": 64},
    "granite": {"attention_multiplier": 0.31, "hidden_size": 64},
    "starcoder2": {"sliding_window": 14, "hidden_size": 64},
    "cohere": {"use_qk_norm": True, "hidden_size": 64},
    "smollm3": {"no_rope_layer_interval": 2, "use_sliding_window": False},
    "gpt_oss": {"sliding_window": 12, "num_local_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "q_lora_rank": 24,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "head_dim": 8,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        **EXPERTS,
    },
    "llama4_text": {
        "attention_chunk_size": 16,
        "num_local_experts": 2,
        "intermediate_size_mlp": 64,
        "floor_scale": 8,
        "attn_scale": 0.2,
    },
}


def tiny(family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Return a random model with sharp logits, so attention is not flat, and with norm gains other than 1."""
    torch.manual_seed(seed)
    fields = BASE | RECORDED.get(family, {}) | changes
    for name in ("num_key_value_heads", "head_dim"):
        if fields[name] is None:
            fields.pop(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = AutoConfig.for_model(family, **fields)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "ln_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif "sinks" in name:
                parameter.copy_(torch.randn_like(parameter))
            elif any(
                part in name
                for part in ("q_proj", "k_proj", "qkv", "c_attn", "query_key_value", "q_b_proj", "kv_b_proj")
            ):
                parameter.mul_(8)
    return model.to(dtype).eval()

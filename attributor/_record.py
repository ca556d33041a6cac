"""Record a transformers model while it reads: the only file that knows transformers' attention interface.

Two functions are registered under the name "attributor", one for attention and one for masks. While a recorder is
attached, the model's configuration names them; every layer then hands over its query, key and value after rotary
embedding, and gets back the output of a fused attention whose log-sum-exp is kept beside query and key.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from attributor import _mask
from attributor._errors import InputError, RecordingError, UnsupportedModelError
from attributor._recorder import Recorder

__all__ = ["attached", "attention_modules", "check_model", "layer_names", "text_config"]

NAME = "attributor"
_active: dict[int, "Recorder"] = {}  # by id of the configuration object that the attention modules hold


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: "_mask.Mask | Tensor | None",
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: query (B, H, Q, D), key (B, G, K, D), value (B, G, K, Dv) -> (B, Q, H, Dv)."""
    if torch.compiler.is_compiling():
        raise UnsupportedModelError("a compiled forward cannot be recorded; pass disable_compile=True to generate()")
    recorder = _active.get(id(getattr(module, "config", None)))
    name = f"{type(module).__name__} (layer {getattr(module, 'layer_idx', '?')})"
    if recorder is None or getattr(module, "layer_idx", None) is None:
        raise UnsupportedModelError(f"{name} reached the recorder without a recording or a layer number")
    if position_bias is not None:
        raise UnsupportedModelError(f"{name} adds a position bias to its logits, which cannot be recorded")
    if dropout:
        raise UnsupportedModelError(f"{name} runs with dropout {dropout}; put the model in eval mode")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    Q, K = query.shape[2], key.shape[2]
    if isinstance(attention_mask, Tensor):
        mask = _mask.from_tensor(attention_mask, length=Q, keys=K)
    elif attention_mask is not None:
        mask = attention_mask
    elif causal and (Q == K or Q == 1):
        mask = _mask.causal(query.shape[0], Q, K - Q, 0, query.device)
    else:
        raise UnsupportedModelError(f"{name} attends without a mask from {Q} queries to {K} keys, which is not causal")
    if mask.first.device != query.device:
        mask = replace(mask, first=mask.first.to(query.device))
    output = recorder.layer(
        module,
        query,
        key,
        value,
        mask,
        scale=float(scaling) if scaling is not None else query.shape[-1] ** -0.5,
        softcap=softcap,
        sink=s_aux,
    )
    return output.transpose(1, 2).contiguous(), None


def _make_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: "int | Tensor" = 0,
    kv_offset: "int | Tensor" = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: "Tensor | _mask.Mask | None" = None,
    device: "torch.device | str" = "cpu",
    **_: Any,
) -> _mask.Mask:
    """Transformers' mask interface; without it padding, chunks and windows would vanish without a word."""
    if isinstance(attention_mask, _mask.Mask):  # prepared by generate() for a static cache
        return attention_mask
    start, keys_from = int(q_offset), int(kv_offset)
    if mask_function is causal_mask_function and (attention_mask is None or bool(attention_mask.all())):
        return _mask.causal(batch_size, q_length, start, keys_from, device)
    return _mask.from_function(
        mask_function,
        attention_mask,
        batch=batch_size,
        length=q_length,
        start=start,
        keys_from=keys_from,
        keys=kv_length,
        device=device,
    )


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _make_mask)


def text_config(model: Any) -> Any:
    """The configuration of the decoder that reads and writes text."""
    return model.config.get_text_config(decoder=True)


def check_model(model: Any) -> None:
    """Refuse what is known not to work before anything is computed.

    Raises:
        InputError: not a transformers model.
        UnsupportedModelError: an encoder-decoder model, or a family whose attention cannot be recorded.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
        raise InputError(f"model must be a transformers PreTrainedModel, got {type(model).__name__}")
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModelError(f"{name} is an encoder-decoder model; attributor follows decoder-only models")
    shape = tuple(getattr(text_config(model), field, None) for field in ("num_hidden_layers", "num_attention_heads"))
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise UnsupportedModelError(f"{name} does not say how many attention layers and heads it has (got {shape})")
    settable = getattr(type(model), "_can_set_attn_implementation", None)
    if settable is not None and not settable():
        raise UnsupportedModelError(
            f"{name} computes attention in its own code (all {shape[0]} layers), so it cannot be recorded; "
            "impl='reference' uses its eager attention matrices where the model returns them"
        )


@contextmanager
def attached(model: Any, recorder: Recorder) -> Iterator[Recorder]:
    """Route the model's attention through `recorder`; on the way out, however that comes, the model is as before."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    configs = {id(m.config): m.config for m in decoder.modules() if hasattr(m, "config")}
    configs[id(text_config(model))] = text_config(model)
    if any(key in _active for key in configs):
        raise RecordingError("this model is being recorded already; leave that recording first")
    embedding = model.get_input_embeddings()

    def embed(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs.get("input")
        if isinstance(ids, Tensor) and ids.ndim == 2 and not ids.is_floating_point():
            recorder.embed(ids)

    with ExitStack() as stack:
        for config in configs.values():
            stack.callback(setattr, config, "_attn_implementation_internal", config._attn_implementation_internal)
            config._attn_implementation_internal = NAME
        stack.callback(embedding.register_forward_pre_hook(embed, with_kwargs=True).remove)
        for module in model.modules():
            if module.training:
                stack.callback(setattr, module, "training", True)
                module.training = False
        for key in configs:
            _active[key] = recorder
            stack.callback(_active.pop, key, None)
        yield recorder


def attention_modules(model: Any) -> dict[int, nn.Module]:
    """The attention module of every layer of the decoder, by layer number."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    return {
        int(module.layer_idx): module
        for module in decoder.modules()
        if "Attention" in type(module).__name__ and isinstance(getattr(module, "layer_idx", None), int)
    }


def layer_names(layers: list[int]) -> str:
    """[0, 1, 2, 7] -> "layers 0-2, 7"."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    word = "layer" if len(layers) == 1 else "layers"
    return f"{word} {', '.join(f'{a}-{b}' if b > a else str(a) for a, b in runs)}"

"""Register the recorder with transformers' attention interface; no other file uses that interface.

Two functions are registered under the name "attributor", one for attention and one for masks. While a recorder is
attached, the model's configuration names them; every layer then hands over its query, key and value after rotary
embedding, and gets back the output of a fused attention whose log-sum-exp is kept beside query and key.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from attributor._errors import InputError, RecordingError, UnsupportedModelError
from attributor._models import find_empty_parameter, text_config
from attributor._record import mask as mask_module
from attributor._record.history import GenerateCall
from attributor._record.recorder import Recorder

__all__ = [
    "attach_recorder",
    "attention_modules",
    "check_decoder",
    "check_recordable",
    "layer_names",
    "use_attention_implementation",
]

NAME = "attributor"
# keywords that reach an attention function and do not change what a causal attention with its mask computes
HARMLESS = frozenset(
    [
        "cache_position",
        "cu_seq_lens_k",
        "cu_seq_lens_q",
        "max_length_k",
        "max_length_q",
        "mm_token_type_ids",
        "num_items_in_batch",
        "position_embeddings",
        "position_ids",
        "sliding_window",
        "token_type_ids",
    ]
)
# modules that move information between positions beside attention, by a part of their class's name
MIXERS = re.compile("Mamba|SSM|LinearAttn|LinearAttention|DeltaNet|(?i:rglru|rwkv)|ShortConv|Conv[12]d$|Lightning")
_active: dict[int, "Recorder"] = {}  # by id of the configuration object that the attention modules hold


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: "mask_module.Mask | Tensor | None",
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: query (B, H, Q, D), key (B, G, K, D), value (B, G, K, Dv) -> (B, Q, H, Dv)."""
    if torch.compiler.is_compiling():
        raise UnsupportedModelError("a compiled forward cannot be recorded; pass disable_compile=True to generate()")
    recorder = _active.get(id(getattr(module, "config", None)))
    name = f"{type(module).__name__} (layer {getattr(module, 'layer_idx', '?')})"
    if recorder is None or getattr(module, "layer_idx", None) is None:
        raise UnsupportedModelError(f"{name} reached the recorder without a recording or a layer number")
    dropout, is_causal = others.pop("dropout", 0.0), others.pop("is_causal", None)
    # flags and what other kernels need do not change attention; anything else might
    changes = [n for n, x in others.items() if x is not None and not isinstance(x, bool) and n not in HARMLESS]
    if changes:
        raise UnsupportedModelError(f"{name} changes its attention by {', '.join(sorted(changes))}; not recorded")
    if dropout:
        raise UnsupportedModelError(f"{name} runs with dropout {dropout}; put the model in eval mode")
    if torch.is_autocast_enabled(query.device.type):  # as the fused attention does by itself
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    Q, K = query.shape[2], key.shape[2]
    if isinstance(attention_mask, Tensor):
        mask = mask_module.from_tensor(attention_mask, length=Q, keys=K)
    elif isinstance(attention_mask, mask_module.Mask):
        mask = attention_mask
    elif attention_mask is None and causal and (Q == K or Q == 1) and (others.get("sliding_window") or K) >= K:
        mask = mask_module.causal(query.shape[0], Q, K - Q, 0, K, query.device)
    else:
        raise UnsupportedModelError(f"{name} attends without a mask from {Q} queries to {K} keys, which is not causal")
    if mask.first.shape[1] != Q or mask.keys != K:
        raise UnsupportedModelError(
            f"{name} attends from {Q} queries to {K} keys, its mask is for {mask.first.shape[1]} and {mask.keys}"
        )
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
    attention_mask: "Tensor | mask_module.Mask | None" = None,
    device: "torch.device | str" = "cpu",
    **_: Any,
) -> mask_module.Mask:
    """Transformers' mask interface; without it padding, chunks and windows would vanish without a word."""
    if isinstance(attention_mask, mask_module.Mask):  # prepared by generate() for a static cache
        return attention_mask
    start, keys_from = int(q_offset), int(kv_offset)
    if mask_function is causal_mask_function and (attention_mask is None or bool(attention_mask.all())):
        return mask_module.causal(batch_size, q_length, start, keys_from, kv_length, device)
    return mask_module.from_function(
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


def check_decoder(model: Any, *, weights: bool = True) -> None:
    """Refuse what attention does not describe, before anything is computed; `weights=False` takes a model without any.

    Raises:
        InputError: not a transformers model, or one whose weights were not loaded.
        UnsupportedModelError: an encoder-decoder model, or one whose positions meet outside of attention.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
        raise InputError(f"model must be a transformers PreTrainedModel, got {type(model).__name__}")
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModelError(f"{name} is an encoder-decoder model; attributor follows decoder-only models")
    shape = tuple(getattr(text_config(model), field, None) for field in ("num_hidden_layers", "num_attention_heads"))
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise UnsupportedModelError(f"{name} does not say how many attention layers and heads it has (got {shape})")
    mixers = sorted({type(m).__name__ for m in _decoder(model).modules() if MIXERS.search(type(m).__name__)})
    if mixers:
        raise UnsupportedModelError(
            f"{name} also moves information between positions by {', '.join(mixers)} in some of its {shape[0]} layers, "
            "which attention does not show"
        )
    if weights and (empty := find_empty_parameter(model)) is not None:
        raise InputError(
            f"{name} has no weights: its {empty} is on the meta device; load it with from_pretrained() or load_model()"
        )


def check_recordable(model: Any) -> None:
    """Refuse families whose attention does not go through transformers' interface.

    Raises:
        UnsupportedModelError: their name.
    """
    settable = getattr(type(model), "_can_set_attn_implementation", None)
    if settable is not None and not settable():
        raise UnsupportedModelError(
            f"{type(model).__name__} computes the attention of all its {text_config(model).num_hidden_layers} layers "
            "in its own code, so it cannot be recorded; impl='reference' uses its eager attention matrices"
        )


def _decoder(model: Any) -> Any:
    return model.get_decoder() if hasattr(model, "get_decoder") else model


@contextmanager
def use_attention_implementation(model: Any, name: str) -> Iterator[dict[int, Any]]:
    """Run the decoder in eval mode with the attention implementation `name`; restore both, however it ends.

    Yields the configurations that were changed, by id.
    """
    configs = {id(m.config): m.config for m in _decoder(model).modules() if hasattr(m, "config")}
    configs[id(text_config(model))] = text_config(model)
    with ExitStack() as stack:
        for config in configs.values():
            stack.callback(setattr, config, "_attn_implementation_internal", config._attn_implementation_internal)
            config._attn_implementation_internal = name
        for module in model.modules():
            if module.training:
                stack.callback(setattr, module, "training", True)
                module.training = False
        yield configs


@contextmanager
def attach_recorder(model: Any, recorder: Recorder) -> Iterator[None]:
    """Run the model's attention through `recorder`; restore the model at the end, also after an error."""
    if id(text_config(model)) in _active:
        raise RecordingError("this model is being recorded already; leave that recording first")

    def note_ids(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs.get("input")
        if isinstance(ids, Tensor) and ids.ndim == 2 and not ids.is_floating_point():
            recorder.note_ids(ids)

    def check_logits(_: nn.Module, args: Any, output: Any) -> None:
        scores = getattr(output, "logits", None)
        if isinstance(scores, Tensor):
            recorder.check_logits(scores[:, -1])

    with ExitStack() as stack:
        configs = stack.enter_context(use_attention_implementation(model, NAME))
        stack.callback(model.get_input_embeddings().register_forward_pre_hook(note_ids, with_kwargs=True).remove)
        stack.callback(model.register_forward_hook(check_logits).remove)
        if hasattr(model, "generate"):
            _watch_generate(model, recorder, stack)
        for key in configs:
            _active[key] = recorder
            stack.callback(_active.pop, key, None)
        yield


def _watch_generate(model: Any, recorder: Recorder, stack: ExitStack) -> None:
    """Note where the answer of generate() begins and what ends it, which the forward calls do not show."""
    own_generate = vars(model).get("generate")  # set on the instance, as wrappers do
    generate = model.generate

    @wraps(generate)
    def watched_generate(*args: Any, **kwargs: Any) -> Any:
        inputs = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
        settings = kwargs.get("generation_config") or model.generation_config
        end = kwargs.get("eos_token_id", settings.eos_token_id)  # None, one id or several
        pad = kwargs.get("pad_token_id", settings.pad_token_id)
        if isinstance(inputs, Tensor) and inputs.ndim == 2 and not inputs.is_floating_point():
            end_ids = () if end is None else tuple(int(i) for i in torch.as_tensor(end).reshape(-1))
            recorder.generate_call = GenerateCall(inputs.shape[1], end_ids, None if pad is None else int(pad))
        try:
            return generate(*args, **kwargs)
        finally:
            recorder.generate_call = None

    model.generate = watched_generate
    if own_generate is None:
        stack.callback(delattr, model, "generate")
    else:
        stack.callback(setattr, model, "generate", own_generate)


def attention_modules(model: Any) -> dict[int, nn.Module]:
    """The attention module of every layer of the decoder, by layer number."""
    return {
        int(module.layer_idx): module
        for module in _decoder(model).modules()
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

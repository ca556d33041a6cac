"""Register the recorder with transformers' attention interface; no other file uses that interface.

Two functions are registered under the name "attributor", one for attention and one for masks. While a recorder is
attached, the model's configuration names them. Every layer then passes query, key and value after rotary embedding, and
receives the output of a fused attention. The recorder stores query, key and log-sum-exp.

Other models may share the configuration object, and other threads the model. Their calls arrive here as well, and run
the attention and the mask function that the configuration named before.
"""

import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, causal_mask_function
from transformers.modeling_flash_attention_utils import FLASH_ATTN_KERNEL_FALLBACK
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from attributor._errors import InputError, RecordingError, UnsupportedModelError
from attributor._models import find_empty_parameter, text_config
from attributor._record import mask as mask_module

__all__ = [
    "LayerReader",
    "Session",
    "attention_modules",
    "check_decoder",
    "check_recordable",
    "decoder_of",
    "exclude_from_compile",
    "is_attached",
    "layer_names",
    "open_session",
    "use_attention_implementation",
]

NAME = "attributor"
# implementations that compute softmax(scale q.k + mask) v, as the recorder does
PLAIN = frozenset(
    ["eager", "sdpa", "flex_attention", *FLASH_ATTN_KERNEL_FALLBACK, *FLASH_ATTN_KERNEL_FALLBACK.values()]
)
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
ADAPTED = ("AdaptedAttention", "AdaptedAttentionGPT")  # of peft: attention to an additional soft prompt
# modules other than attention that move information between positions, by a part of their class's name
MIXERS = re.compile("Mamba|SSM|LinearAttn|LinearAttention|DeltaNet|(?i:rglru|rwkv)|ShortConv|Conv[12]d$|Lightning")


class ReaderCalls(Protocol):
    """Which calls of a model belong to a reader."""

    @property
    def recorded(self) -> bool:
        """Whether this thread is inside such a call."""

    @property
    def paused(self) -> bool:
        """Whether another reader may be attached at the same time."""


class LayerReader(Protocol):
    """Computes the attention of a model's layers: a recorder, or a gradient pass.

    Attributes:
        calls: which calls of the model belong to the reader.
        in_layers: whether a layer of the current forward pass has attended.
        follows_masks: whether masks refer to the reader, so that layers which run again in a backward pass find it.
    """

    follows_masks: bool

    @property
    def calls(self) -> ReaderCalls: ...

    @property
    def in_layers(self) -> bool: ...

    def layer(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: "mask_module.Mask",
        *,
        scale: float,
        softcap: float | None,
        sink: Tensor | None,
    ) -> Tensor:
        """The attention output (B, H, Q, Dv) of one layer."""


@dataclass(eq=False)
class Session:
    """An attached reader, such as a recorder.

    Attributes:
        recorder: computes the attention of the recorded calls.
        modules: the modules of the model's decoder, by id; the recorder takes attention from no other.
        configs: the configurations that name the recorder's attention, by id.
    """

    recorder: LayerReader
    modules: dict[int, nn.Module]
    configs: dict[int, Any]


@dataclass
class _Replaced:
    """The original attention implementation of a configuration, and the names that replaced it, the latest last."""

    implementation: str | None
    names: list[str] = field(default_factory=list)


_sessions: tuple[Session, ...] = ()  # a new tuple at each change, so that other threads may read it at any time
_replaced: dict[int, _Replaced] = {}  # by id of the configuration
_lock = threading.Lock()  # for both


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: "mask_module.Mask | Tensor | None",
    **options: Any,
) -> Any:
    """Transformers' attention interface: query (B, H, Q, D), key (B, G, K, D), value (B, G, K, Dv) -> (B, Q, H, Dv)."""
    if isinstance(attention_mask, mask_module.Mask) and attention_mask.reader is not None:
        return _attend_recorded(attention_mask.reader, module, query, key, value, attention_mask, **options)
    for session in _sessions:
        if session.recorder.calls.recorded and id(module) in session.modules:
            return _attend_recorded(session.recorder, module, query, key, value, attention_mask, **options)
    if isinstance(attention_mask, mask_module.Mask):  # of a recorded call, e.g. one whose layers run in another thread
        attention_mask.check(type(module).__name__)
        attention_mask = attention_mask.as_bias(key.shape[2], query.dtype)
    return _own_attention(module)(module, query, key, value, attention_mask, **options)


def _own_attention(module: nn.Module) -> Callable[..., Any]:
    """The attention function that the module's configuration named before the recorder's.

    Raises:
        RecordingError: there is none, e.g. because the configuration was copied while it named the recorder's.
    """
    replaced = _replaced.get(id(getattr(module, "config", None)))
    if replaced is None:
        raise RecordingError(
            f"{type(module).__name__} names the attention of a recording that it is not part of: was its configuration "
            "copied while another model was recorded? Call set_attn_implementation('sdpa') on it"
        )
    if replaced.implementation not in (None, "eager"):
        own: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS[replaced.implementation]
        return own
    eager = _find_eager_attention(module)
    if eager is None:
        raise RecordingError(
            f"{type(module).__name__} was called outside of the recording, and its eager attention was not found; call "
            "model.set_attn_implementation('sdpa') before record()"
        )
    return eager


def _find_eager_attention(module: nn.Module) -> Callable[..., Any] | None:
    """The eager attention of the file that defines the module, or a class that it inherits from."""
    for kind in type(module).__mro__:
        function = getattr(sys.modules.get(kind.__module__), "eager_attention_forward", None)
        if function is not None:
            return function  # type: ignore[no-any-return]
    return None


def _attend_recorded(
    recorder: LayerReader,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: "mask_module.Mask | Tensor | None",
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as the recorder computes and stores it; calls that it cannot represent are refused."""
    name = f"{type(module).__name__} (layer {getattr(module, 'layer_idx', '?')})"
    if getattr(module, "layer_idx", None) is None:
        raise UnsupportedModelError(f"{name} reached the recorder without a layer number")
    dropout, is_causal = others.pop("dropout", 0.0), others.pop("is_causal", None)
    # flags and arguments for other kernels do not change attention; anything else might
    changes = [n for n, x in others.items() if x is not None and not isinstance(x, bool) and n not in HARMLESS]
    if changes:
        raise UnsupportedModelError(f"{name} changes its attention by {', '.join(sorted(changes))}; not recorded")
    if dropout:
        raise UnsupportedModelError(f"{name} runs with dropout {dropout}; put the model in eval mode")
    if torch.is_autocast_enabled(query.device.type):  # torch's fused attention does this by itself
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    Q, K = query.shape[2], key.shape[2]
    if isinstance(attention_mask, Tensor):
        mask = mask_module.from_tensor(attention_mask, length=Q, keys=K)
    elif isinstance(attention_mask, mask_module.Mask):
        mask = attention_mask
        mask.check(name)
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


def _make_mask(*args: Any, config: Any = None, **options: Any) -> Any:
    """Transformers' mask interface, called once per forward pass and kind of layer, before the layers run."""
    for session in _sessions:
        recorder = session.recorder
        if recorder.calls.recorded and not recorder.in_layers and (config is None or id(config) in session.configs):
            mask = _make_recorded_mask(*args, **options)
            return replace(mask, reader=recorder) if recorder.follows_masks else mask
    replaced = _replaced.get(id(config))
    own = ALL_MASK_ATTENTION_FUNCTIONS[(replaced.implementation if replaced else None) or "eager"]
    return own(*args, config=config, **options)


def _make_recorded_mask(
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
    """The mask as intervals; without it padding, chunks and windows would be lost silently."""
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


def exclude_from_compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Exclude a function from torch.compile: recording is a side effect, and masks are read element by element."""
    reason = "attributor records attention, which cannot be part of a compiled graph; leave out fullgraph=True"
    eager: Callable[..., Any] = torch.compiler.disable(function, reason=reason)  # type: ignore[no-untyped-call]
    return eager


AttentionInterface.register(NAME, exclude_from_compile(_attend))
AttentionMaskInterface.register(NAME, exclude_from_compile(_make_mask))


def check_decoder(model: Any, *, weights: bool = True) -> None:
    """Refuse models that attention alone does not describe; `weights=False` accepts a model without weights.

    Raises:
        InputError: not a transformers model, or one whose weights were not loaded.
        UnsupportedModelError: an encoder-decoder model, or one that moves information between positions outside of
            attention.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
        raise InputError(f"model must be a transformers PreTrainedModel, got {type(model).__name__}")
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModelError(f"{name} is an encoder-decoder model; attributor follows decoder-only models")
    shape = tuple(getattr(text_config(model), field, None) for field in ("num_hidden_layers", "num_attention_heads"))
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise UnsupportedModelError(f"{name} does not say how many attention layers and heads it has (got {shape})")
    adapted = sorted({type(m).__name__ for m in decoder_of(model).modules() if type(m).__name__ in ADAPTED})
    if adapted:
        raise UnsupportedModelError(
            f"{name} reads a soft prompt in its attention ({', '.join(adapted)}), and no token stands for what flows "
            "from there; adapters of weights (LoRA and the like) can be followed"
        )
    for adapter in getattr(model, "peft_config", {}).values():
        if getattr(adapter, "is_prompt_learning", False) or getattr(adapter, "is_adaption_prompt", False):
            raise UnsupportedModelError(
                f"{name} reads a soft prompt ({type(adapter).__name__}) beside its tokens, and no token stands for "
                "what flows from there; adapters of weights (LoRA and the like) can be followed"
            )
    mixers = sorted({type(m).__name__ for m in decoder_of(model).modules() if MIXERS.search(type(m).__name__)})
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
    """Refuse families whose attention does not go through transformers' interface, and attention that is not plain.

    Raises:
        UnsupportedModelError: the model belongs to such a family; the message names it.
    """
    settable = getattr(type(model), "_can_set_attn_implementation", None)
    if settable is not None and not settable():
        raise UnsupportedModelError(
            f"{type(model).__name__} computes the attention of all its {text_config(model).num_hidden_layers} layers "
            "in its own code, so it cannot be recorded; impl='reference' uses its eager attention matrices"
        )
    for config in _decoder_configs(model).values():
        _check_plain(model, _implementation_of(config))


def _check_plain(model: Any, name: str | None) -> None:
    """Refuse attention that may differ from softmax(scale q.k + mask) v, which the recorder computes.

    Raises:
        UnsupportedModelError: its attention or mask function is a user's, or comes from an unknown kernel.
    """
    name = name or "eager"
    function, mask = ALL_ATTENTION_FUNCTIONS.get(name), ALL_MASK_ATTENTION_FUNCTIONS.get(name)
    from_hub = name in FLASH_ATTN_KERNEL_FALLBACK.values()
    functions = [f for f in (function, mask) if f is not None]
    if name == "eager" and function is None:
        modules = [m for m in decoder_of(model).modules() if isinstance(getattr(m, "layer_idx", None), int)]
        own = {id(f): f for f in (_find_eager_attention(module) for module in modules) if f is not None}
        functions += [f for f in own.values() if f.__module__.startswith("transformers.")]  # others are the model's own
    foreign = [f for f in functions if not _is_of_transformers(f)]
    if name not in PLAIN or (foreign and not from_hub):
        detail = f" ({foreign[0].__module__}.{foreign[0].__qualname__})" if foreign else ""
        raise UnsupportedModelError(
            f"the model's attention implementation is {name!r}{detail}, which need not compute plain softmax "
            "attention; if it does, call model.set_attn_implementation('sdpa') first: a recording computes the same, "
            "and also returns its log-sum-exp"
        )


def _is_of_transformers(function: Any) -> bool:
    """Whether transformers defines a function; a wrapper can copy its name, but not the file of its code."""
    code = getattr(function, "__code__", None)
    return code is None or code.co_filename.startswith(str(Path(transformers.__file__).parent))


def decoder_of(model: Any) -> Any:
    """The module that holds the layers, and their masks."""
    return model.get_decoder() if hasattr(model, "get_decoder") else model


def _decoder_configs(model: Any) -> dict[int, Any]:
    """The configurations of the decoder's modules, by id."""
    configs = {id(m.config): m.config for m in decoder_of(model).modules() if hasattr(m, "config")}
    configs[id(text_config(model))] = text_config(model)
    return configs


def _implementation_of(config: Any) -> str | None:
    """The attention implementation that a configuration names, or named before it was replaced."""
    replaced = _replaced.get(id(config))
    return replaced.implementation if replaced else config._attn_implementation_internal


@contextmanager
def use_attention_implementation(model: Any, name: str) -> Iterator[dict[int, Any]]:
    """Run the decoder in eval mode with the attention implementation `name`; restore both on exit.

    An implementation that is set inside the block stays. Yields the configurations that were changed, by id.
    """
    configs = _decoder_configs(model)
    with ExitStack() as stack:
        stack.callback(_restore, configs.values(), name)
        with _lock:
            for key, config in configs.items():
                _replaced.setdefault(key, _Replaced(config._attn_implementation_internal)).names.append(name)
                config._attn_implementation_internal = name
        for module in model.modules():
            if module.training:
                stack.callback(setattr, module, "training", True)
                module.training = False
        yield configs


def _restore(configs: Iterable[Any], name: str) -> None:
    with _lock:
        for config in configs:
            replaced = _replaced[id(config)]
            untouched = config._attn_implementation_internal == replaced.names[-1]
            del replaced.names[len(replaced.names) - 1 - replaced.names[::-1].index(name)]
            if untouched:
                config._attn_implementation_internal = [replaced.implementation, *replaced.names][-1]
            if not replaced.names:
                del _replaced[id(config)]


@contextmanager
def open_session(model: Any, recorder: LayerReader) -> Iterator[Session]:
    """Run the attention of the model's recorded calls through `recorder`; another recording of it must be paused.

    Raises:
        RecordingError: the model is being recorded already.
    """
    session = Session(recorder, {id(module): module for module in decoder_of(model).modules()}, {})
    with ExitStack() as stack:
        _add(session)
        stack.callback(_remove, session)
        session.configs = stack.enter_context(use_attention_implementation(model, NAME))
        yield session


def _add(session: Session) -> None:
    global _sessions
    with _lock:
        layers = {key for key, module in session.modules.items() if hasattr(module, "layer_idx")}
        if any(not layers.isdisjoint(other.modules) for other in _sessions if not other.recorder.calls.paused):
            raise RecordingError("this model is being recorded already; leave that recording first")
        _sessions = (*_sessions, session)


def _remove(session: Session) -> None:
    global _sessions
    with _lock:
        _sessions = tuple(other for other in _sessions if other is not session)


def is_attached(session: Session) -> bool:
    """Whether the model's layers use the recorder's attention; False while eager attention matrices are computed.

    Raises:
        RecordingError: another implementation was set inside the recording.
    """
    for key, config in session.configs.items():
        name, latest = config._attn_implementation_internal, _replaced[key].names[-1]
        if name != latest:
            raise RecordingError(
                f"the attention implementation was changed to {name!r} inside the recording, so nothing would pass "
                "through it; call set_attn_implementation() before record()"
            )
        if latest != NAME:
            return False
    return True


def attention_modules(model: Any) -> dict[int, nn.Module]:
    """The attention module of every layer of the decoder, by layer number."""
    return {
        int(module.layer_idx): module
        for module in decoder_of(model).modules()
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

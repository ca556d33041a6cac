"""The facts about a model that the recording, the sweep and the head weights need, without the model itself."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attributor._models.default_model import converted_folder

__all__ = [
    "ModelFacts",
    "accepts_argument",
    "adapter_state",
    "device_of",
    "find_empty_parameter",
    "model_facts",
    "model_id",
    "text_config",
    "window_of",
]


@dataclass(frozen=True)
class ModelFacts:
    """A model's name, type, shape and window.

    Attributes:
        id: the hub id or folder that it was loaded from; "" if it was made from a configuration.
        kind: the name of its class.
        dtype: of its parameters.
        layers: L.
        heads: H, query heads per layer.
        kv_heads: G, key-value heads per layer.
        head_size: D.
        vocabulary: rows of the input embedding.
        window: positions that it was made for; None if its configuration does not say.
        media_ids: placeholder ids for pieces of images, videos or sounds; the model replaces their embeddings.
    """

    id: str
    kind: str
    dtype: torch.dtype
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    window: int | None
    media_ids: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The id, or the class if there is no id."""
        return self.id or self.kind

    @property
    def shape(self) -> tuple[int, int]:
        """(L, H)."""
        return self.layers, self.heads


def model_facts(model: Any) -> ModelFacts:
    """The facts about a transformers decoder-only model that `check_decoder` accepts."""
    config = text_config(model)
    L, H = config.num_hidden_layers, config.num_attention_heads
    return ModelFacts(
        id=model_id(model),
        kind=type(model).__name__,
        dtype=getattr(model, "dtype", torch.float32),
        layers=L,
        heads=H,
        kv_heads=getattr(config, "num_key_value_heads", None) or H,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // H,
        vocabulary=getattr(model.get_input_embeddings(), "num_embeddings", config.vocab_size),  # adapters lack it
        window=window_of(model),
        media_ids=_media_ids(model.config),
    )


def _media_ids(config: Any) -> tuple[int, ...]:
    names = [f"{medium}_token_{noun}" for medium in ("image", "video", "audio", "speech") for noun in ("id", "index")]
    parts = [config, *(part for part in vars(config).values() if hasattr(part, "to_diff_dict"))]
    ids = {getattr(part, name, None) for part in parts for name in names}
    return tuple(sorted(number for number in ids if isinstance(number, int)))


def model_id(model: Any) -> str:
    """The hub id or folder that a model was loaded from; "" if it was made from a configuration.

    For the folder of the converted default model this is the hub id. Its configuration holds that id, but so does every
    copy that is saved from it, so the id counts only in this folder.
    """
    name = str(getattr(model, "name_or_path", "") or "")
    source = getattr(model.config, "attributor_source", None)
    if source and name and (folder := converted_folder()) and Path(name).resolve() == folder.resolve():
        return str(source)
    return name


def text_config(model: Any) -> Any:
    """The configuration of the decoder that reads and writes text."""
    return model.config.get_text_config(decoder=True)


def window_of(model: Any) -> int | None:
    """The positions that a model was made for; None if its configuration does not say."""
    config = text_config(model)
    for name in ("max_position_embeddings", "n_positions"):
        window = getattr(config, name, None)
        if isinstance(window, int) and window > 0:
            return window
    return None


def device_of(model: Any) -> torch.device:
    """The device on which the model takes its ids: that of its input embedding.

    An embedding that accelerate offloads (to the disk, or to CPU memory) is a placeholder between two calls. Its hook
    names the device that it is moved to.
    """
    embedding = model.get_input_embeddings()
    weight = getattr(embedding, "weight", None)  # a user's module around an embedding may have none
    weight = next(embedding.parameters(), None) if weight is None else weight
    if weight is not None and weight.device.type != "meta":
        return torch.device(weight.device)
    planned = getattr(getattr(embedding, "_hf_hook", None), "execution_device", None)
    return torch.device(model.device if planned is None else planned)


def find_empty_parameter(model: nn.Module) -> str | None:
    """The name of a parameter on the meta device, which has no numbers; None if there is none.

    Parameters that accelerate loads for each call are placeholders there too, but a hook of their module, or of a
    module around it, loads the numbers.
    """
    hooked: tuple[str, ...] = ()
    for path, module in model.named_modules():  # a module comes before its submodules
        if hasattr(module, "_hf_hook") and path:
            hooked = (*hooked, f"{path}.")
        if hasattr(module, "_hf_hook") or path.startswith(hooked):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.device.type == "meta":
                return f"{path}.{name}" if path else name
    return None


def adapter_state(module: nn.Module) -> list[Any]:
    """A peft layer's active adapters and their scaling; empty for other modules."""
    disabled = getattr(module, "disable_adapters", None)
    if not isinstance(disabled, bool):
        return []
    scaling = getattr(module, "scaling", {})
    return [disabled, list(module.active_adapters), list(module.merged_adapters), sorted(map(str, scaling.items()))]  # type: ignore[arg-type]


def accepts_argument(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an argument of that name."""
    return name in inspect.signature(function).parameters

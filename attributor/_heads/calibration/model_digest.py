"""Identify a model by samples of its weights, independent of its name and source."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from attributor._errors import UnsupportedModelError
from attributor._models import adapter_state

__all__ = ["model_digest", "weights_digest"]

SAMPLES = 512  # of each tensor
SMALLEST = 2.0**-14  # the smallest normal float16; below it float16 has fewer digits than bfloat16, so those count as 0
RULE = 4  # increase it when prompts, scores or the choice of heads change, so that heads are found again
# fields of a configuration that do not change the model's attention
IGNORED = {"architectures", "dtype", "torch_dtype", "quantization_config", "transformers_version", "use_cache"}


def model_digest(model: Any, weights: str | None = None) -> str:
    """The key of a model's heads in the cache: 64 hexadecimal digits, from its configuration and its weights.

    Args:
        model: a transformers decoder-only model.
        weights: its `weights_digest`, if that is known already.

    Raises:
        UnsupportedModelError: as `weights_digest`.
    """
    parts = [RULE, _plain_config(model.config.to_dict()), weights or weights_digest(model)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@torch.no_grad()
def weights_digest(model: Any, dtype: torch.dtype | None = None) -> str:
    """64 hexadecimal digits, of samples of all parameters and saved buffers in the order of their registration.

    Floating-point numbers are rounded to bfloat16, so a model has the same digest in float32 and in bfloat16. In
    float16 it has the same one if its file holds 16-bit numbers; numbers of a float32 file are rounded twice and
    differ. Quantised numbers are digested as bytes. The state of adapters counts, names do not.

    Args:
        model: a transformers model.
        dtype: digest the model as if its file were loaded with this dtype; None: as it is.

    Raises:
        UnsupportedModelError: a tensor whose class gives no access to its numbers.
    """
    facts: list[Any] = [state for module in model.modules() if (state := adapter_state(module))]
    samples: list[Tensor] = []
    for tensor in _saved_tensors(model):
        floating = tensor.is_floating_point() and tensor.dtype.itemsize > 1
        facts.append([list(tensor.shape), "float" if floating else str(tensor.dtype)])
        if tensor.device.type == "meta":
            facts.append("meta")
        else:
            samples.append(_sample(tensor, dtype) if floating else _take(tensor))
    digest = hashlib.sha256(json.dumps(facts).encode())
    for part in _to_cpu([sample.contiguous().view(torch.uint8) for sample in samples]):
        digest.update(part.numpy().tobytes())
    return digest.hexdigest()


def _saved_tensors(model: nn.Module) -> Iterator[Tensor]:
    """The ordinary tensors of the state dict; for tensors that accelerate offloads, the offloaded numbers."""
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and value.device.type == "meta":
            value = _offloaded_tensor(model, name, value)
        try:
            yield from _ordinary_tensors(value)
        except (NotImplementedError, RuntimeError, TypeError) as error:
            raise UnsupportedModelError(
                f"the numbers of {name} ({type(value).__name__}) cannot be read, so it is not known which model this "
                f"is ({error}); pass weights=attributor.calibrate(model, tokenizer) instead of 'retrieval'"
            ) from error


def _offloaded_tensor(model: nn.Module, name: str, placeholder: Tensor) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    try:
        hook = getattr(model.get_submodule(owner), "_hf_hook", None)
    except AttributeError:  # a state dict with other names than the modules
        return placeholder
    for part in (hook, *getattr(hook, "hooks", ())):
        numbers = getattr(part, "weights_map", None)
        if numbers is not None and leaf in numbers:
            tensor: Tensor = numbers[leaf]
            return tensor
    return placeholder


def _ordinary_tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a value of a state dict: torch's int8 modules have pairs, quantised classes several parts."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _ordinary_tensors(part)
    elif not isinstance(value, Tensor):
        return
    elif value.is_quantized:
        yield value.int_repr()
        per_channel = value.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric)
        yield value.q_per_channel_scales() if per_channel else torch.tensor(value.q_scale(), dtype=torch.float64)
    elif type(value) not in (Tensor, nn.Parameter) and hasattr(value, "__tensor_flatten__"):
        for name in value.__tensor_flatten__()[0]:
            yield from _ordinary_tensors(getattr(value, name))
    else:
        yield value.detach()


def _take(tensor: Tensor) -> Tensor:
    """SAMPLES numbers, evenly spaced; the odd step reaches every column of a matrix whose width is a power of two."""
    flat = tensor.reshape(-1)
    return flat[:: flat.numel() // SAMPLES | 1][:SAMPLES]


def _sample(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    numbers = _take(tensor).to(dtype or tensor.dtype).to(torch.bfloat16)
    return torch.where(numbers.abs() < SMALLEST, 0, numbers)


def _to_cpu(parts: list[Tensor]) -> list[Tensor]:
    """Copy the parts to the CPU, in their order, with one copy per device."""
    result: dict[int, Tensor] = {}
    for device in {part.device for part in parts}:
        here = [index for index, part in enumerate(parts) if part.device == device]
        together = torch.cat([parts[index] for index in here]).cpu()
        result |= zip(here, torch.split(together, [parts[index].numel() for index in here]), strict=True)
    return [result[index] for index in range(len(parts))]


def _plain_config(config: Any) -> Any:
    """A configuration as plain data, without the fields that change from one loading to the next."""
    if isinstance(config, dict):
        return {
            str(key): _plain_config(value)
            for key, value in config.items()
            if str(key) not in IGNORED and not str(key).startswith(("_", "attributor_"))
        }
    if isinstance(config, (list, tuple)):
        return [_plain_config(value) for value in config]
    return config if isinstance(config, (str, int, float, bool, type(None))) else str(config)

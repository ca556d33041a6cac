"""The key under which a model's calibrated heads are cached."""

import hashlib
import json
from typing import Any

import torch

from attributor._models import model_id
from attributor._record import attention_modules

__all__ = ["model_digest"]

SAMPLES = 1024  # of each projection
RULE = 3  # goes up when prompts, scores or the choice of heads change, so that heads are found anew
# what a configuration says that does not change the model's attention
IGNORED = {"architectures", "dtype", "torch_dtype", "quantization_config", "transformers_version", "use_cache"}


def model_digest(model: Any) -> str:
    """64 hexadecimal digits: of the model's name, revision and configuration, and of samples of its weights.

    Of weights only the signs are taken, so that a model is the same in float32 and in 16 bits; training moves some of
    them across 0. Quantised weights are taken as the bytes that they are.
    """
    name = model_id(model)
    commit = str(getattr(model.config, "_commit_hash", None) or "")
    config = _plain_config(model.config.to_dict())
    digest = hashlib.sha256(json.dumps([RULE, name, commit, config], sort_keys=True).encode())
    for layer, module in sorted(attention_modules(model).items()):
        for part, weight in sorted(module.named_parameters()):
            if weight.ndim < 2 or weight.device.type == "meta":  # meta: kept on disk by accelerate
                continue
            flat = weight.detach().reshape(-1)
            some = flat[:: max(1, flat.numel() // SAMPLES)][:SAMPLES].cpu()
            known = some > 0 if some.is_floating_point() else some
            digest.update(f"{layer} {part} {tuple(weight.shape)}".encode())
            digest.update(known.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain_config(config: Any) -> Any:
    """A configuration as plain data, without what changes from one loading to the next."""
    if isinstance(config, dict):
        return {
            str(key): _plain_config(value)
            for key, value in config.items()
            if str(key) not in IGNORED and not str(key).startswith(("_", "attributor_"))
        }
    if isinstance(config, (list, tuple)):
        return [_plain_config(value) for value in config]
    return config if isinstance(config, (str, int, float, bool, type(None))) else str(config)

"""The shape of a model's attention."""

from typing import Any

from attributor._models import text_config

__all__ = ["head_shape"]


def head_shape(model: Any) -> tuple[int, int]:
    """(L, H): the layers of a model and the query heads of each."""
    config = text_config(model)
    return config.num_hidden_layers, config.num_attention_heads

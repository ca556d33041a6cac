"""Attribution methods side by side: one file each, behind one interface, on one recorded forward pass.

methods = parse("flow:retrieval,max-attention,contextcite:32")
reading = Reading.read(model, tokenizer, prompt, answer, segments, union(methods, model), ablate=Ablator(...))
scores = {method.name: score(method, reading).segments for method in methods}
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attributor.methods._registry import describe, parse

if TYPE_CHECKING:
    from attributor.methods._ablation import Ablator
    from attributor.methods._masks import case_seed, shared_masks
    from attributor.methods._method import Method, Needs
    from attributor.methods._reading import Reading
    from attributor.methods._score import Scored, score, union
    from attributor.methods._without import without
    from attributor.methods.contextcite import ContextCite
    from attributor.methods.flow import Flow
    from attributor.methods.gradient import GradientXInput
    from attributor.methods.last_attention import LastAttention
    from attributor.methods.leave_one_out import LeaveOneOut
    from attributor.methods.length import Length
    from attributor.methods.max_attention import MaxAttention
    from attributor.methods.mean_attention import MeanAttention
    from attributor.methods.position import Position
    from attributor.methods.random import Random
    from attributor.methods.sharpened_attention import SharpenedAttention
    from attributor.methods.similarity import Similarity
    from attributor.methods.straight import Straight
    from attributor.methods.value_norm_attention import ValueNormAttention

__all__ = [
    "Ablator",
    "ContextCite",
    "Flow",
    "GradientXInput",
    "LastAttention",
    "LeaveOneOut",
    "Length",
    "MaxAttention",
    "MeanAttention",
    "Method",
    "Needs",
    "Position",
    "Random",
    "Reading",
    "Scored",
    "SharpenedAttention",
    "Similarity",
    "Straight",
    "ValueNormAttention",
    "case_seed",
    "describe",
    "parse",
    "score",
    "shared_masks",
    "union",
    "without",
]

# where each name lives; imported on first use, so that naming the methods costs nothing
_HOMES = {
    "Ablator": "_ablation",
    "ContextCite": "contextcite",
    "Flow": "flow",
    "GradientXInput": "gradient",
    "LastAttention": "last_attention",
    "LeaveOneOut": "leave_one_out",
    "Length": "length",
    "MaxAttention": "max_attention",
    "MeanAttention": "mean_attention",
    "Method": "_method",
    "Needs": "_method",
    "Position": "position",
    "Random": "random",
    "Reading": "_reading",
    "Scored": "_score",
    "SharpenedAttention": "sharpened_attention",
    "Similarity": "similarity",
    "Straight": "straight",
    "ValueNormAttention": "value_norm_attention",
    "case_seed": "_masks",
    "score": "_score",
    "shared_masks": "_masks",
    "union": "_score",
    "without": "_without",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'attributor.methods' has no attribute {name!r}")
    value = getattr(import_module(f"attributor.methods.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)

"""Attribution methods, one file each, with one interface, on one recorded forward pass.

methods = parse("flow:retrieval,max-attention,contextcite:32")
answer_pass = force_answer(model, prompt.ids, answer, union(methods, model), log_probs=True)
reading = Reading(model, tokenizer, prompt, answer_pass, segments, ablate=Ablator(...))
scores = {method.name: score(method, reading).segments for method in methods}
"""

from typing import TYPE_CHECKING

from attributor._literals import import_on_first_use, lazy_imports
from attributor.methods._registry import check_libraries as check_libraries
from attributor.methods._registry import describe as describe
from attributor.methods._registry import parse as parse
from attributor.methods._registry import registry

# The list of public names, for type checkers. Each name is imported on first use, so that this import is fast.
# A method's class is public without a line here; a line gives type checkers its type.
if TYPE_CHECKING:
    from attributor._ask import force_answer as force_answer
    from attributor._effects import Ablator as Ablator
    from attributor._effects import case_seed as case_seed
    from attributor._effects import draw_shared_masks as draw_shared_masks
    from attributor._prompt import remove_spans as remove_spans
    from attributor.methods._method import Fitted as Fitted
    from attributor.methods._method import InNats as InNats
    from attributor.methods._method import Method as Method
    from attributor.methods._method import Needs as Needs
    from attributor.methods._reading import Reading as Reading
    from attributor.methods._score import MethodScores as MethodScores
    from attributor.methods._score import Scored as Scored
    from attributor.methods._score import score as score
    from attributor.methods._score import union as union
    from attributor.methods.answer_string import AnswerString as AnswerString
    from attributor.methods.bm25 import BM25 as BM25
    from attributor.methods.cite_right import CiteRight as CiteRight
    from attributor.methods.contextcite import ContextCite as ContextCite
    from attributor.methods.flow import Flow as Flow
    from attributor.methods.flow import FlowMethod as FlowMethod
    from attributor.methods.gradient import GradientXInput as GradientXInput
    from attributor.methods.last_attention import LastAttention as LastAttention
    from attributor.methods.leave_one_out import LeaveOneOut as LeaveOneOut
    from attributor.methods.length import Length as Length
    from attributor.methods.max_attention import MaxAttention as MaxAttention
    from attributor.methods.mean_attention import MeanAttention as MeanAttention
    from attributor.methods.position import Position as Position
    from attributor.methods.random import Random as Random
    from attributor.methods.removal_gradient import RemovalGradient as RemovalGradient
    from attributor.methods.sharpened_attention import SharpenedAttention as SharpenedAttention
    from attributor.methods.similarity import Similarity as Similarity
    from attributor.methods.straight import Straight as Straight
    from attributor.methods.value_norm_attention import ValueNormAttention as ValueNormAttention

_HOMES = lazy_imports(__file__) | {entry.class_name: entry.module for entry in registry().values()}

__all__ = sorted(["check_libraries", "describe", "parse", *_HOMES])

__getattr__ = import_on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)

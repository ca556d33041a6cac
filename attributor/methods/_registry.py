"""Every method by the name that a user types. Imports no method before it is asked for, so that --help stays fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from attributor._errors import InputError

if TYPE_CHECKING:
    from attributor.methods._method import Method

__all__ = ["describe", "parse"]


@dataclass(frozen=True)
class Entry:
    """A line of the registry.

    Attributes:
        home: module and class, "flow.Flow".
        summary: what it is, one line.
        source: as the class has it.
        knob: the field that the text after the colon sets, "" for none.
        kind: what that text is read as.
    """

    home: str
    summary: str
    source: str = ""
    knob: str = ""
    kind: type[str] | type[int] = str

    def make(self, asked: str, argument: str | None) -> Method:
        """The method, named as it was asked for.

        Raises:
            InputError: an argument that is of no use to it.
        """
        module, _, name = self.home.partition(".")
        method: Any = getattr(import_module(f"attributor.methods.{module}"), name)
        if argument is None:
            return cast("Method", method(name=asked) if self.knob else method())
        if not self.knob:
            raise InputError(f"{asked.partition(':')[0]} takes nothing after a colon, got {asked!r}")
        try:
            value = self.kind(argument)
        except ValueError:
            raise InputError(f"{asked!r}: {self.knob} must be a whole number, got {argument!r}") from None
        return cast("Method", method(**{self.knob: value}, name=asked))


REGISTRY: dict[str, Entry] = {
    "flow": Entry(
        "flow.Flow",
        "attention composed over the layers; flow:WEIGHTS with a preset or a file, default mean",
        "https://arxiv.org/abs/2005.00928",
        "weights",
    ),
    "straight": Entry(
        "straight.Straight",
        "attention of the heads that weights choose, not composed; straight:WEIGHTS, default retrieval",
        "https://arxiv.org/abs/2404.15574",
        "weights",
    ),
    "mean-attention": Entry(
        "mean_attention.MeanAttention",
        "attention averaged over all layers and heads",
        "https://arxiv.org/abs/1906.04341",
    ),
    "max-attention": Entry("max_attention.MaxAttention", "the strongest attention of any head"),
    "last-attention": Entry(
        "last_attention.LastAttention",
        "attention of the last layer, averaged over its heads",
        "https://arxiv.org/abs/1906.04341",
    ),
    "value-norm-attention": Entry(
        "value_norm_attention.ValueNormAttention",
        "attention of all heads times the norm of the projected values",
        "https://arxiv.org/abs/2004.10102",
    ),
    "sharpened-attention": Entry(
        "sharpened_attention.SharpenedAttention",
        "attention of all heads to the fourth power, without the first position",
    ),
    "gradient-x-input": Entry(
        "gradient.GradientXInput",
        "gradient of the answer's log-probability times the embeddings; :norm (default), :signed or :absolute",
        "https://arxiv.org/abs/1605.01713",
        "reduction",
    ),
    "leave-one-out": Entry(
        "leave_one_out.LeaveOneOut",
        "fall of the answer's log-probability without each segment; one pass a segment",
        "https://arxiv.org/abs/1612.08220",
    ),
    "contextcite": Entry(
        "contextcite.ContextCite",
        "lasso on random ablations; contextcite:M for M passes, default 32",
        "https://arxiv.org/abs/2409.00729",
        "masks",
        int,
    ),
    "similarity": Entry(
        "similarity.Similarity",
        "sentence embeddings of question and answer against each segment; similarity:ID|FOLDER; needs an extra",
        "https://arxiv.org/abs/1908.10084",
        "model",
    ),
    "length": Entry("length.Length", "the segment's number of tokens"),
    "position": Entry("position.Position", "where the segment stands, later scoring higher"),
    "random": Entry("random.Random", "chance; random:SEED for other numbers", "", "seed", int),
}


def parse(asked: str | Sequence[str]) -> list[Method]:
    """Methods from their names, in the order given: "flow:retrieval,max-attention,contextcite:32".

    Args:
        asked: names with commas between them, or a list of names; what follows a colon is the method's one argument.

    Raises:
        InputError: no name, an unknown one, an argument that is of no use, or the same method twice.
    """
    names = asked.split(",") if isinstance(asked, str) else list(asked)
    found: list[Method] = []
    for name in (str(name).strip() for name in names):
        head, colon, argument = name.partition(":")
        if not name:
            raise InputError(f"a method's name is empty in {asked!r}; there are: {', '.join(REGISTRY)}")
        if head not in REGISTRY:
            near = get_close_matches(head.replace("_", "-"), REGISTRY, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise InputError(f"unknown method {name!r}; {hint}there are: {', '.join(REGISTRY)}")
        if colon and not argument:
            raise InputError(f"{name!r} ends in a colon; write {head!r}, or what should follow")
        method = REGISTRY[head].make(name, argument if colon else None)
        for other in found:
            if other == method:
                raise InputError(f"{name!r} is asked for twice" + f" (as {other.name!r})" * (other.name != name))
        found.append(method)
    if not found:
        raise InputError(f"no method was asked for; there are: {', '.join(REGISTRY)}")
    return found


def describe() -> list[tuple[str, str, str]]:
    """(name, what it is in one line, where it comes from or "") of every method, for people to choose from."""
    return [(name, entry.summary, entry.source) for name, entry in REGISTRY.items()]

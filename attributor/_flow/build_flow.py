"""Build a Flow from its rows: check their sums, add texts and meta."""

from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import Tensor

from attributor._checks import check_callable, check_flag, shorten_value
from attributor._errors import InputError, NumericsError
from attributor._flow.start_rows import start_rows
from attributor._flow.sweep import SweepOptions
from attributor._models import ModelFacts
from attributor._prompt import TokenSequence
from attributor._record import HeadWeights
from attributor._result import Flow

__all__ = ["FlowTask", "build_flow", "build_meta"]

# The largest rounding error of a row's sum, by the model's dtype. With a larger error, the recorded keys are not those
# that the model attended to (a quantised cache, say).
ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-2}
ROUNDING_16 = 0.1


@dataclass(frozen=True, eq=False)
class FlowTask:
    """The inputs of the flow of one sequence, in addition to the model's attention.

    Attributes:
        sequence: prompt and answer.
        weights: of the model's heads.
        question: (Q,) int64, the prompt tokens on which a share of each row starts; None: all of it starts on the
            answer.
        options: of the sweep.

    Raises:
        InputError: an option of the wrong type.
    """

    sequence: TokenSequence
    weights: HeadWeights
    question: Tensor | None
    options: SweepOptions

    def __post_init__(self) -> None:
        """Refuse options of the wrong type before anything is computed."""
        check_flag("normalize", self.options.normalize)
        check_callable("progress", self.options.progress)
        impl = self.options.impl
        if impl is not None and not isinstance(impl, str):
            raise InputError(f"impl must be the name of an implementation, or None, got {shorten_value(impl)}")

    @property
    def begins_on_question(self) -> bool:
        """Whether a share of each row starts on the question's tokens."""
        return self.question is not None and self.weights.question > 0

    def start_rows(self) -> Tensor:
        """R_L: (o, N) float64; plus one row, the question's part of each row, if the rows have such a part."""
        positions, share = self.sequence.positions, self.weights.question
        rows = start_rows(positions, self.sequence.read_ids.numel(), self.question, share)
        if self.question is None or not self.begins_on_question:
            return rows
        part = torch.zeros_like(rows[:1])
        part[0, self.question] = share / self.question.numel()
        return torch.cat([rows, part])


def build_flow(task: FlowTask, rows: Tensor, meta: dict[str, str], *, exact_sums: torch.dtype | None) -> Flow:
    """The Flow of a sequence, from the sweep's result for `task.start_rows()`: (o, N) or (o + 1, N).

    `exact_sums` is the model's dtype if rows must sum to 1; None if a sink takes a share of them.

    Raises:
        NumericsError: rows that should sum to 1 do not.
    """
    sequence, weights = task.sequence, task.weights
    question_scores = rows[-1, : sequence.prompt_length].float() if task.begins_on_question else None
    rows = rows[: sequence.positions.numel()]
    missing = None
    if weights.stochastic:
        full_sum = 1.0 if task.options.normalize else weights.growth
        missing = (1 - rows.double().sum(1) / full_sum).float()
        worst = float(missing.abs().max())
        if exact_sums is not None and worst > ROUNDING.get(exact_sums, ROUNDING_16):
            raise NumericsError(
                f"rows of the flow sum to 1 only within {worst:.2g}: the recorded queries and keys are not those that "
                "the model's attention used (is its cache quantised or compressed?)"
            )
    return Flow(
        scores=rows[:, : sequence.prompt_length].float(),
        ids=sequence.ids,
        missing_mass=missing,
        normalized=task.options.normalize,
        question_scores=question_scores,
        text=sequence.text,
        offsets=sequence.offsets,
        answer=sequence.answer,
        answer_offsets=sequence.answer_offsets,
        documents=sequence.documents,
        meta=meta,
    )


def build_meta(facts: ModelFacts, task: FlowTask, implementation: str) -> dict[str, str]:
    """The meta of a Flow: how it was computed, for people to read."""
    weights = task.weights
    return {
        "model": facts.name,
        "dtype": str(facts.dtype).removeprefix("torch."),
        "layers": str(facts.layers),
        "heads": str(facts.heads),
        "heads_used": str(weights.count),
        "weights": weights.name,
        "power": f"{weights.power:g}",
        "value_norms": str(weights.value_norms).lower(),
        "sink": weights.sink,
        "question": f"{0.0 if task.question is None else weights.question:g}",
        "normalize": str(task.options.normalize).lower(),
        "implementation": implementation,
        "attributor": version("attributor"),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }

"""One prompt and its answer, read once by a model: the input of every attribution method."""

import time
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from attributor._ask import AnswerPass, follow
from attributor._errors import InputError
from attributor._prompt import Prompt, TokenSequence
from attributor._record import HeadWeights
from attributor._text import Segment, assign_tokens

__all__ = ["Reading"]

Ablate = Callable[[Tensor], Tensor]
T = TypeVar("T")


class Reading:
    """A prompt of k tokens in S segments, an answer of a tokens, and the model's attention over both, recorded once.

    Attributes:
        model: the model.
        tokenizer: its tokenizer.
        prompt: text, ids and offsets of the prompt.
        answer: (a,) int64, the answer's tokens.
        segments: S spans of the prompt's text; what a segment method scores.
        question: the question's text, for methods that compare texts.
        answer_text: the answer's text.
        log_probs: (a,) float64, log p of each answer token given everything before it.
        seconds: of the recorded forward pass.
        passes: number of sequences that the model has read for methods since the recorded one. A pass that `once`
            shares counts for each method that uses it.
        shared_seconds: seconds of results that methods took from `once` after another method had computed them.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: Prompt,
        answer_pass: AnswerPass,
        segments: Sequence[Segment],
        *,
        question: str = "",
        answer_text: str = "",
        ablate: Ablate | None = None,
    ) -> None:
        """`answer_pass` is the model's pass over prompt and answer; every head that a method reads must be recorded.

        Raises:
            InputError: the pass has no log-probabilities.
        """
        if answer_pass.log_probs is None:
            raise InputError("read the answer with log_probs=True; methods compare them")
        self.model = model
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.answer = answer_pass.answer
        self.segments = tuple(segments)
        self.question = question
        self.answer_text = answer_text
        self.log_probs = answer_pass.log_probs
        self.seconds = answer_pass.seconds
        self.passes = 0
        self.shared_seconds = 0.0
        self._pass = answer_pass
        self._ablate = ablate
        self._computed: dict[Hashable, tuple[Any, float, int]] = {}

    @property
    def ids(self) -> Tensor:
        """(k + a,) int64: prompt and answer."""
        return torch.cat([self.prompt.ids, self.answer])

    @cached_property
    def question_tokens(self) -> Tensor | None:
        """(Q,) int64: the prompt's tokens of the question; None if the prompt does not locate the question."""
        return self.prompt.question_tokens

    @property
    def positions(self) -> Tensor:
        """(a,) int64: the positions that predict the answer's tokens, k - 1 to k + a - 2."""
        k = len(self.prompt.ids)
        return torch.arange(k - 1, k - 1 + self.answer.numel())

    @cached_property
    def segment_of(self) -> Tensor:
        """(k,) int64: the segment of each prompt token, -1 for tokens outside all segments."""
        return torch.from_numpy(assign_tokens(self.prompt.offsets.numpy(), self.segments))

    def once(self, name: Hashable, compute: Callable[[], T]) -> T:
        """Return the result of `compute`, which runs at the first call with this name; methods share a pass this way.

        Its seconds and passes count for every method that uses it, so costs do not depend on the order of the methods.
        The result stays in memory as long as the reading.
        """
        if name in self._computed:
            value, seconds, passes = self._computed[name]
            self.shared_seconds += seconds
            self.passes += passes
            return cast(T, value)
        before, began = self.passes, time.perf_counter()
        value = compute()
        self._computed[name] = value, time.perf_counter() - began, self.passes - before
        return value

    def flow(self, weights: HeadWeights) -> Tensor:
        """(a, k) float32: the flow through `weights`, with their question share; their heads must be recorded."""
        sequence = TokenSequence(self.ids, len(self.prompt.ids))
        scores: Tensor = follow(self._pass.recorded, sequence, weights, self.question_tokens).scores
        return scores

    def attention(self, layer: int, heads: Tensor, positions: Tensor | None = None, **options: Any) -> Tensor:
        """(a, k) float32: attention of the answer's positions in one layer, sum_h heads[h] P[h]^power c[h].

        `heads` is (H,); `positions` (R,) selects other rows than the answer's; options are those of
        `Recording.attention`.
        """
        positions = self.positions if positions is None else positions
        return self._pass.recorded.attention(layer, heads, positions, **options)[:, : len(self.prompt.ids)]

    def ablate(self, kept: Tensor) -> Tensor:
        """(M, S) bool, the segments that are kept -> (M,) float64, log p of the whole answer without the others.

        The run's convention says how they are left out: by text or by attention mask; see `Ablator`.

        Raises:
            InputError: the reading was made without `ablate`.
        """
        if self._ablate is None:
            raise InputError("this reading was made without a way to leave segments out; give it ablate=")
        before = getattr(self._ablate, "passes", None)
        log_probs = self._ablate(kept)
        self.passes += len(kept) if before is None else int(getattr(self._ablate, "passes", 0)) - before
        return log_probs

"""Compute how much an answer, or each claim, needed each sentence of the documents; add it to the citations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from attributor._ask.stage_clock import StageClock
from attributor._cite import CitedAnswer, add_needed, claim_rows, locate_citations, split_documents
from attributor._documents import keep_places
from attributor._effects import Ablator, Effects, EffectsTask, SegmentTokens, choose_rows, effects_of, read_context
from attributor._errors import DeviceMemoryError, InputError, NumericsError, RecordingError, UnsupportedModelError
from attributor._flow import is_out_of_memory
from attributor._models import model_facts
from attributor._prompt import Prompt
from attributor._result import Flow
from attributor._text import Segment

__all__ = ["EffectsOf", "NeededAnswer", "PromptReader", "compute_needed", "needs_cache"]

EXPECTED = (UnsupportedModelError, NumericsError, DeviceMemoryError, RecordingError, InputError)  # leave `needed` None
TOKENS_AT_ONCE = 16_384  # prompt tokens in one batch of prompts that lack a sentence
EffectsOf = Literal["claims"] | bool
Doubles = npt.NDArray[np.float64]
Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class PromptReader:
    """A model and a prompt that it can read again, with some text left out.

    Attributes:
        model: a transformers decoder-only model.
        tokenizer: the model's.
        prompt: with its documents.
        impl: as in `attributor.flow`.
    """

    model: Any
    tokenizer: Any
    prompt: Prompt
    impl: str | None


@dataclass(frozen=True, eq=False)
class NeededAnswer:
    """An answer whose citations hold `needed`.

    Attributes:
        cited: the answer; `needed` is None if the answer, the claim or the documents have no tokens.
        effects: of the whole answer; or one per claim; None if answer or documents have no tokens.
        notes: sentences for the user.
    """

    cited: CitedAnswer
    effects: Effects | tuple[Effects | None, ...] | None
    notes: tuple[str, ...] = ()


def needs_cache(effects: EffectsOf, prompt_length: int) -> bool:
    """Whether `compute_needed` can use the cache of an answer that was written after a prompt of k tokens."""
    return bool(effects) and choose_rows("auto", prompt_length) == "suffix"


def compute_needed(
    reader: PromptReader, flow: Flow, cited: CitedAnswer, effects: EffectsOf, clock: StageClock, cache: Any = None
) -> NeededAnswer:
    """Measure the log-probability that an answer loses without each cited sentence; estimate it for all sentences.

    The estimate takes one backward pass per answer or claim. It is a slope at the intact prompt, which is near 0 if
    attention rests on one sentence. So the model then reads the prompt once without each cited sentence. Beyond
    SUFFIX_FROM prompt tokens only the estimate is computed. The token that ends an answer does not count, as in the
    flow.

    Args:
        reader: the model, its tokenizer and the prompt.
        flow: of the answer, with the prompt's text and documents.
        cited: what `flow.cite` returned.
        effects: True for the whole answer, "claims" for each claim.
        clock: times the stages "effects", whose progress counts layers of the backward passes, and "removals".
        cache: the model's, after it wrote the answer; used if only the prompt's suffix is read again.

    Results that cannot be computed are None, and a note gives the reason: memory ran out, or the model has no gradient.
    """
    by_claim, k = effects == "claims", flow.prompt_length
    documents = keep_places(flow.text or "", flow.documents)
    sentences = split_documents(flow.text or "", documents)
    (answer_span,), of_claims = _find_spans(flow, cited, False), _find_spans(flow, cited, True)
    spans = of_claims if by_claim else [answer_span]
    answers = [span for span in spans if span is not None]
    if not sentences or not answers or answer_span is None:
        return NeededAnswer(cited, None)
    assert flow.offsets is not None  # a flow that was cited has text
    impl = reader.impl if reader.impl != "cuda" else None  # cuda has no removal_step
    task = EffectsTask(flow.ids.cpu(), k, SegmentTokens.of_text(flow.offsets, sentences), impl=impl)
    passes = _Passes(reader.model, task, clock, len(answers))
    removed = locate_citations(cited, documents, sentences) if task.start() == 0 else ()
    if by_claim:
        clock.announce(passes.describe(k + max(stop for _, stop in answers) - 1, len(removed)))
    notes = _suffix_notes(task)
    results: list[Effects | None] = [None] * len(spans)
    try:
        computed = passes.run(answers, cache)
        results = [None if span is None else computed.pop(0) for span in spans]
    except EXPECTED as error:
        notes.append(f"what the answer needed is not estimated: {error}")
    scores: list[Doubles | None] = [None if result is None else result.scores.numpy() for result in results]
    for_answer = _sum_effects(spans, scores) if by_claim else scores[0]
    for_claims = scores if by_claim else scores * len(cited.claims)
    if task.start() == 0:
        claims = of_claims if by_claim else [answer_span] * len(cited.claims)
        for_answer, for_claims = None, [None] * len(claims)
        try:
            table = _measure(reader, flow, sentences, removed, clock)
            for_answer = table[:, slice(*answer_span)].sum(1)
            for_claims = [None if span is None else table[:, slice(*span)].sum(1) for span in claims]
        except EXPECTED as error:
            notes.append(f"what the answer needed is not known: {error}")
    filled = add_needed(cited, documents, sentences, for_answer, for_claims)
    effects_found = any(result is not None for result in results)
    return NeededAnswer(filled, (tuple(results) if by_claim else results[0]) if effects_found else None, tuple(notes))


def _measure(
    reader: PromptReader, flow: Flow, sentences: Sequence[Segment], removed: Sequence[int], clock: StageClock
) -> Doubles:
    """(s, a): how much log p of each answer token falls without each sentence that is `removed`; NaN for the others.

    Raises:
        DeviceMemoryError: memory ran out.
        InputError: nothing of the prompt is left without a sentence.
    """
    try:
        losses = _read_without(reader, flow, [sentences[index] for index in removed], clock)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or isinstance(error, DeviceMemoryError):
            raise
        losses = None
    if losses is None:
        raise DeviceMemoryError(
            f"out of memory: the prompt of {flow.prompt_length:,} tokens is read without each of {len(removed)} cited "
            "sentences. What may fit: the answer without effects, 16-bit numbers, a shorter prompt"
        )
    table = np.full((len(sentences), losses.shape[1]), np.nan)
    table[list(removed)] = losses
    return table


def _read_without(reader: PromptReader, flow: Flow, removed: list[Segment], clock: StageClock) -> Doubles:
    """(C, a): how much log p of each answer token falls when the prompt is read without each of C sentences."""
    count, k = len(removed), flow.prompt_length
    answer = flow.ids[k:].cpu()
    if not count:
        return np.zeros((0, len(answer)))
    clock("removals", 0, count)
    stays = torch.ones(count + 1, count, dtype=torch.bool)
    stays[1:].fill_diagonal_(False)
    batch = max(1, min(8, TOKENS_AT_ONCE // k))
    ablator = Ablator(reader.model, reader.tokenizer, reader.prompt, answer, removed, batch=batch)
    log_probs = ablator.token_log_probs(stays)
    clock("removals", count, count)
    losses: Doubles = (log_probs[0] - log_probs[1:]).numpy()
    return losses


@dataclass(frozen=True, eq=False)
class _Passes:
    """Backward passes over one prompt and answer."""

    model: Any
    task: EffectsTask
    clock: StageClock
    count: int

    def describe(self, length: int, removals: int) -> str:
        """The cost for a sequence of this length: the passes, and the tokens that each one reads."""
        tokens = length - self.task.start()
        text = (
            f"effects of {self.count} claim{'s' * (self.count != 1)}: {self.count} backward "
            f"pass{'es' * (self.count != 1)} over {tokens:,} token{'s' * (tokens != 1)}"
        )
        return text + (f", and {removals} forward pass{'es' * (removals != 1)}" if removals else "")

    def run(self, answers: list[Span], cache: Any) -> list[Effects]:
        """One pass for each span of the answer's tokens."""
        start = self.task.start()
        try:
            self.clock("effects", 0, self.count * model_facts(self.model).layers)
            if start > 0 and self.count > 1:
                cache = read_context(self.model, self.task.ids[:start], cache)
            return [
                effects_of(
                    self.model, replace(self.task, answer=span, cache=cache, progress=partial(self._report, index))
                )
                for index, span in enumerate(answers)
            ]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or isinstance(error, DeviceMemoryError):
                raise
        # after the except block, where the error's traceback no longer holds the activations
        raise DeviceMemoryError(
            f"out of memory: removal effects take a backward pass over {len(self.task.ids) - 1 - start:,} tokens. What "
            "may fit: the answer without effects, 16-bit numbers, a shorter prompt"
        )

    def _report(self, index: int, _: str, done: int, total: int) -> None:
        self.clock("effects", index * total + done, self.count * total)


def _find_spans(flow: Flow, cited: CitedAnswer, by_claim: bool) -> list[Span | None]:
    """(start, stop) of the answer tokens with text, for each claim or the whole answer; None without such tokens."""
    offsets = flow.arrays.answer_offsets
    assert offsets is not None  # a flow that was cited has them
    if by_claim:
        return [_cover_rows(claim_rows(offsets, claim.start, claim.stop)) for claim in cited.claims]
    return [_cover_rows(np.flatnonzero(offsets[:, 0] < offsets[:, 1]))]


def _cover_rows(rows: npt.NDArray[np.int64]) -> Span | None:
    return (int(rows[0]), int(rows[-1]) + 1) if rows.size else None


def _sum_effects(spans: list[Span | None], scores: list[Doubles | None]) -> Doubles | None:
    """The effects on all claims together, which are the sum over the claims; None if two claims share a token."""
    ordered = sorted(span for span in spans if span is not None)
    if any(first[1] > second[0] for first, second in pairwise(ordered)):
        return None
    total: Doubles = np.sum([score for score in scores if score is not None], axis=0)
    return total


def _suffix_notes(task: EffectsTask) -> list[str]:
    k = task.prompt_length
    if choose_rows(task.rows, k) == "all":
        return []
    return [
        f"the prompt has {k:,} tokens, so what was needed is estimated from what question and answer read of a "
        "sentence; answer.without(n) measures it for one"
    ]

"""effects(): what an answer would lose without each segment of its prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from attributor._checks import check_callable, check_index, shorten_value
from attributor._effects.ablation import Ablator, TokenAblator
from attributor._effects.ablation_masks import case_seed, count_masks, draw_antithetic_masks
from attributor._effects.gradient_run import GradientTask, KeyEffects, run_gradient
from attributor._effects.posterior import fit_least_squares, fit_posterior
from attributor._effects.result import ROWS, Effects
from attributor._effects.segments import SegmentTokens
from attributor._errors import InputError
from attributor._models import model_facts
from attributor._prompt import Prompt, TokenSequence, encode, parse_prompts
from attributor._record import (
    check_decoder,
    check_ids,
    check_no_media,
    check_recordable,
    check_tokenizer,
    parse_sequences,
    resolve_prompt_lengths,
)
from attributor._text import Segment, find_segments

__all__ = ["EffectsTask", "choose_rows", "decode_prompt", "effects", "effects_of", "locate_segments"]

ABLATIONS_AT_ONCE = 8  # prompts between two calls of `progress`
SUFFIX_FROM = 8192  # prompt tokens; for more, rows="auto" means "suffix"

Progress = Callable[[str, int, int], None]
Ablate = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class EffectsTask:
    """The parsed arguments of `effects`.

    Attributes:
        ids: (k + a,) int64, prompt and answer.
        prompt_length: k.
        segments: of the prompt.
        answer: (start, stop) of the answer's tokens that count; None: all of them.
        rows: "all", "suffix", or "auto".
        impl: an implementation of removal_step.
        progress: as in `effects`.
        cache: as in `run_gradient`.
    """

    ids: Tensor
    prompt_length: int
    segments: SegmentTokens
    answer: tuple[int, int] | None = None
    rows: str = "auto"
    impl: str | None = None
    progress: Progress | None = None
    cache: Any = None

    def answer_span(self) -> tuple[int, int]:
        """(start, stop) of the answer's tokens that count.

        Raises:
            InputError: no answer, or a span that is not inside of it.
        """
        count = len(self.ids) - self.prompt_length
        if count < 1:
            raise InputError(
                f"the ids end with the prompt (prompt_length {self.prompt_length} of {len(self.ids)}), so there is no "
                "answer to explain; append its tokens"
            )
        if self.answer is None:
            return 0, count
        try:
            start, stop = (check_index("answer", place) for place in self.answer)
        except (TypeError, ValueError):
            raise InputError(f"answer must be (start, stop) of its tokens, got {shorten_value(self.answer)}") from None
        if not 0 <= start < stop <= count:
            raise InputError(f"answer must be tokens of the answer, within 0 to {count}, got {start} to {stop}")
        return start, stop

    def counted_ids(self) -> Tensor:
        """(k + stop,) int64 on the CPU: the prompt, and the answer up to the last token that counts.

        Raises:
            InputError: as `answer_span`.
        """
        return self.ids[: self.prompt_length + self.answer_span()[1]].cpu()

    def start(self) -> int:
        """The first row that counts: 0 for rows "all"; for "suffix" the one after the last segment.

        Raises:
            InputError: as `choose_rows`.
        """
        k = self.prompt_length
        return 0 if choose_rows(self.rows, k) == "all" else min(self.segments.last, k - 1)


def effects(
    model: Any,
    ids: Any,
    segments: Sequence[Any],
    *,
    prompt_length: int | None = None,
    answer: tuple[int, int] | None = None,
    rows: str = "auto",
    ablations: int = 0,
    tokenizer: Any = None,
    prompt: Prompt | None = None,
    impl: str | None = None,
    progress: Progress | None = None,
) -> Effects:
    """Estimate how much log-probability the answer would lose without each segment, from one backward pass.

    With f = sum log p(answer token), dO the gradient of f at each head's attention output o, and P the attention:

        c_j = sum_(l, h, i >= stop(j)) P_ij (dO_i . v_j - dO_i . o_i)       scores[s] = sum_(j in s) c_j

    the gradient of f with respect to a gate on key j, for all rows after the segment that holds j (docs/effects.md).
    Rows inside a segment do not count for it. So the effects of sentences do not add up to those of their document;
    call it once for each granularity.

    Args:
        model: a transformers decoder-only model, on any devices. Its state is restored, also after an error.
        ids: (n,) or (1, n) integer tensor or list: the prompt and its answer.
        segments: (start, stop) tokens of the prompt that do not overlap; or `Segment`s of its text, with `tokenizer` or
            `prompt`.
        prompt_length: k, the tokens of the prompt; needed unless `prompt` is given.
        answer: (start, stop) of the answer's tokens over which f sums, counted from the answer's first. None: all.
        rows: "all"; or "suffix", only the rows after the last segment, usually question and answer. Then the backward
            pass is short at any length. "auto" means "suffix" from 8,193 prompt tokens on.
        ablations: M, how many prompts with segments left out the model reads. A posterior combines them with the
            gradient, and `errors` are its standard deviations. 0: the gradient alone.
        tokenizer: the model's; needed for `Segment`s, and to remove text instead of tokens.
        prompt: what `attributor.build_prompt` returned, instead of `prompt_length`; removal then uses its text.
        impl: an implementation of removal_step; None: the best one that is usable.
        progress: called with (stage, done, total), stages "gradient", once per layer, and "ablations".

    Raises:
        InputError: arguments that cannot be used; segments that overlap; no answer.
        UnsupportedModelError: attention that cannot be recorded, or a module without a gradient, by name.
        NumericsError: a gradient that is NaN or infinite.
    """
    check_decoder(model)
    check_recordable(model)
    check_callable("progress", progress)
    (tokens, *others), _ = parse_sequences(ids, None)
    if others:
        raise InputError(f"effects take one sequence, (n,) or (1, n), got {1 + len(others)} rows; call it for each")
    parse_prompts(prompt, 1, prompt_length=prompt_length, documents=None, question=None)
    if prompt is None and prompt_length is None:
        raise InputError("effects need to know where the answer begins; pass prompt_length= or prompt=")
    (k,) = resolve_prompt_lengths(prompt_length if prompt is None else len(prompt.ids), [tokens])
    facts = model_facts(model)
    check_ids(tokens, facts)
    check_no_media(tokens, facts)
    check_tokenizer(tokenizer, None)
    if check_index("ablations", ablations) < 0:
        raise InputError(f"ablations must be >= 0, got {ablations}")
    choose_rows(rows, k)
    if prompt is not None:
        prompt.sequence(tokens)  # check that the ids begin with the prompt's
    segments = _list_segments(segments)
    readable = prompt or decode_prompt(tokenizer, tokens, k)
    located = locate_segments(segments, readable, k)
    task = EffectsTask(tokens, k, located, answer, rows, impl, progress)
    first, stop = task.answer_span()
    if ablations and located.count == 1 and bool((located.owners == 0).all()):
        raise InputError(
            "the one segment is the whole prompt, so nothing is left to read without it; leave ablations out"
        )
    ablate: Ablate | None = None
    if ablations and prompt is not None and tokenizer is None:
        raise InputError("removing text needs the tokenizer that reads what is left; pass tokenizer=")
    if ablations and readable is not None and (prompt is not None or _is_reread(tokenizer, readable)):
        spans = [_characters(one, readable) for one in segments]
        ablate = Ablator(model, tokenizer, readable, tokens[k : k + stop], spans, first=first)
    elif ablations:
        ablate = TokenAblator(model, tokens[:k], tokens[k : k + stop], located, first=first)
    return effects_of(model, task, ablations=ablations, ablate=ablate)


def gradient_of(model: Any, task: EffectsTask) -> KeyEffects:
    """The gradient of the answer's log-probability with respect to a gate on each key: one forward and backward pass.

    Args:
        model: a transformers decoder-only model that can be recorded.
        task: the parsed arguments of `effects`.

    Raises:
        InputError: rows or an answer that cannot be used, no segments.
        UnsupportedModelError, NumericsError, RecordingError: as `run_gradient`.
    """
    if not task.segments.count:
        raise InputError("there are no segments, so there is nothing to leave out; pass at least one")
    first, _ = task.answer_span()
    ids = task.counted_ids()
    gradient_task = GradientTask(
        ids=ids,
        prompt_length=task.prompt_length,
        first=first,
        stops=task.segments.find_stops(len(ids) - 1),
        start=task.start(),
        impl=task.impl,
        progress=task.progress,
    )
    return run_gradient(model, gradient_task, task.cache)


def effects_of(
    model: Any,
    task: EffectsTask,
    *,
    ablations: int = 0,
    ablate: Ablate | None = None,
    gradient: KeyEffects | None = None,
) -> Effects:
    """As `effects`, for a sequence whose segments are located already.

    Args:
        model: a transformers decoder-only model that can be recorded.
        task: the parsed arguments of `effects`.
        ablations: M.
        ablate: maps kept segments, (M, S) bool, to log p of the answer's tokens that count, (M,); needed for M > 0.
        gradient: what `gradient_of` returned for the same task; None: it is computed.

    Raises:
        InputError: rows or an answer that cannot be used, no segments.
        UnsupportedModelError, NumericsError, RecordingError: as `gradient_of`.
    """
    k, segments = task.prompt_length, task.segments
    effect = gradient_of(model, task) if gradient is None else gradient
    tokens, log_prob = effect.tokens[:k], float(effect.log_probs.sum())
    scores, errors, meta = segments.sum(tokens), None, _meta(model)
    if ablations and ablate is not None:
        stays = draw_antithetic_masks(case_seed(0, task.counted_ids()), ablations, segments.count)
        log_probs = _ablate_all(ablate, stays, task.progress)
        intact = torch.ones(1, segments.count, dtype=torch.bool)
        readings = torch.cat([intact, stays])
        log_probs = torch.cat([torch.tensor([log_prob], dtype=torch.float64), log_probs])
        ablations = len(stays)
        if ablations == count_masks(segments.count):
            scores, errors = fit_least_squares(readings, log_probs)
        else:
            posterior = fit_posterior(scores, readings, log_probs)
            scores, errors = posterior.mean, posterior.deviation
            meta |= {"alpha": f"{posterior.alpha:g}", "tau/sigma": f"{posterior.ratio:g}"}
        meta |= {"removal": str(getattr(ablate, "convention", ""))}
    rows = choose_rows(task.rows, k)
    return Effects(scores, tokens, segments.spans, log_prob, rows, ablations, errors, meta)


def choose_rows(rows: str, k: int) -> str:
    """The rows that count, "all" or "suffix", for a prompt of k tokens.

    Raises:
        InputError: `rows` is not "all", "suffix" or "auto".
    """
    if rows not in (*ROWS, "auto"):
        raise InputError(f"rows must be 'all', 'suffix' or 'auto', got {shorten_value(rows)}")
    return rows if rows != "auto" else "suffix" if k > SUFFIX_FROM else "all"


def _ablate_all(ablate: Ablate, stays: Tensor, progress: Progress | None) -> Tensor:
    """(M,) float64, log p for each set; with a callback, a few sets at a time."""
    if progress is None:
        return ablate(stays).double()
    parts = []
    for low in range(0, len(stays), ABLATIONS_AT_ONCE):
        progress("ablations", low, len(stays))
        parts.append(ablate(stays[low : low + ABLATIONS_AT_ONCE]).double())
    progress("ablations", len(stays), len(stays))
    return torch.cat(parts)


def _list_segments(segments: Any) -> list[Any]:
    """The segments as a list, also of an array, a tensor or an iterator.

    Raises:
        InputError: `segments` cannot be iterated.
    """
    try:
        return list(segments.tolist() if hasattr(segments, "tolist") else segments)
    except TypeError:
        raise InputError(f"segments must be a list, got {shorten_value(segments)}") from None


def decode_prompt(tokenizer: Any, tokens: Tensor, k: int) -> Prompt | None:
    """The prompt's text with the characters of each token; None without a tokenizer."""
    if tokenizer is None:
        return None
    sequence = TokenSequence.of(tokens[:k], k, tokenizer)
    if sequence.text is None or sequence.offsets is None:
        return None
    return Prompt(sequence.text, tokens[:k].cpu(), sequence.offsets)


def _is_reread(tokenizer: Any, prompt: Prompt) -> bool:
    """Whether the tokenizer encodes a decoded text to the same tokens again.

    If not, removing text would also change the tokens of the rest, so tokens are dropped instead.
    """
    try:
        return torch.equal(encode(tokenizer, prompt.text)[0], prompt.ids)
    except InputError:
        return False


def locate_segments(segments: Sequence[Any], readable: Prompt | None, k: int) -> SegmentTokens:
    """The tokens of the segments, which are spans of tokens or of text.

    Raises:
        InputError: a mix of both kinds, text without a tokenizer, spans that cannot be used.
    """
    segments = _list_segments(segments)
    texts = [isinstance(one, Segment) for one in segments]
    if any(texts) and not all(texts):
        raise InputError("segments must all be Segments of the text, or all (start, stop) tokens; got both")
    if not any(texts):
        return SegmentTokens.of_spans(segments, k)
    if readable is None:
        raise InputError("Segments are spans of the prompt's text; pass tokenizer= or prompt= as well")
    checked = find_segments(readable.text, segments)
    return SegmentTokens.of_text(readable.offsets, checked)


def _characters(segment: Any, readable: Prompt) -> Segment:
    """Convert a segment of tokens to a segment of the text."""
    if isinstance(segment, Segment):
        return segment
    low, high = (int(place) for place in segment)
    start, stop = int(readable.offsets[low, 0]), int(readable.offsets[high - 1, 1])
    return Segment(start, stop, readable.text[start:stop])


def _meta(model: Any) -> dict[str, str]:
    facts = model_facts(model)
    return {
        "model": facts.name,
        "dtype": str(facts.dtype).removeprefix("torch."),
        "attributor": version("attributor"),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }

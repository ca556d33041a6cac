"""ask(): documents and a question in, an answer and its flow out."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from attributor._ask.answer_pass import AnswerCounter, force_answer
from attributor._ask.needed import EffectsOf, PromptReader, compute_needed, needs_cache
from attributor._ask.notes import Hints, cut_off_note, fit_answer, question_notes
from attributor._ask.prompt_source import PromptSource
from attributor._ask.recorded_flow import WriteOptions, read_and_follow, share_tokens
from attributor._ask.stage_clock import StageClock
from attributor._checks import check_callable, check_index, shorten_value
from attributor._cite import Citation, CitedAnswer, find_claims
from attributor._effects import Effects
from attributor._errors import InputError
from attributor._flow import Recording, SweepOptions, flow_of
from attributor._heads import Weights, resolve
from attributor._models import DEFAULT_MODEL, load_model, model_facts
from attributor._prompt import Prompt, remove_spans
from attributor._record import HeadWeights, check_decoder, check_ids
from attributor._result import Flow
from attributor._step import choose_impl
from attributor._text import SegmentLike

__all__ = ["MAX_NEW_TOKENS", "Answer", "AnswerWithout", "AskOptions", "answer_prompt", "ask", "check_impl"]

MAX_NEW_TOKENS = 64
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Answer(CitedAnswer):
    """An answer with its citations, its flow, and what a user should know about them.

    Attributes:
        question: the question's text; None if it is unknown.
        flow: with the text and the documents of the prompt, and the answer.
        weights: of the model's heads.
        model: the model's id, or its class if it has none.
        uses_question: whether a share of each row starts on the question's tokens.
        written: whether the model wrote the answer; False if it was given.
        notes: sentences for the user.
        seconds: by stage.
        effects: how much log-probability the answer owes to each sentence of the documents; with "claims" one `Effects`
            per claim, None for a claim without tokens. None if they were not computed, or if the documents or the
            answer have no tokens.
        recording: of a written answer. None for a given answer: the sweep frees each recorded layer after use.
        reader: the model and the prompt that `without` reads again; it keeps the model in memory. None: `without`
            raises.
    """

    question: str | None
    flow: Flow
    weights: HeadWeights
    model: str
    uses_question: bool
    written: bool
    notes: tuple[str, ...]
    seconds: dict[str, float]
    effects: Effects | tuple[Effects | None, ...] | None = None
    recording: Recording | None = None
    reader: "Reader | None" = None

    def to_json(self) -> dict[str, Any]:
        """A dict for `json.dump`; docs/citations.md documents each key. Metadata are not converted."""
        return {
            **super().to_json(),
            "question": self.question,
            "written": self.written,
            "model": self.model,
            "weights": self.weights.name,
            "prompt_tokens": self.flow.prompt_length,
            "answer_tokens": len(self.flow.arrays.scores),
            "notes": list(self.notes),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "meta": dict(self.flow.meta),
        }

    def _repr_html_(self) -> str:
        return self.flow._repr_html_()

    def without(self, citation: Citation | int, *, progress: Progress | None = None) -> "AnswerWithout":
        """Have the model answer again without one of the cited sentences.

        Args:
            citation: one of `citations`, or its number.
            progress: as in `ask`.

        Raises:
            InputError: a citation that this answer does not have.
            UnsupportedModelError, NumericsError, DeviceMemoryError: as `ask`.
        """
        if self.reader is None:
            raise InputError("this answer holds no model to read its prompt again; ask() gives one that does")
        return self.reader.without(self, _pick_citation(self.citations, citation), progress)


@dataclass(frozen=True, eq=False)
class AnswerWithout:
    """What the model answers without one of the cited sentences.

    Attributes:
        citation: the sentence that was left out.
        answer: what the model writes without it, with citations at characters of the documents as they were given.
        log_prob: of the old answer, the sum over its tokens of log p, natural logarithm.
        log_prob_without: the same without the sentence.
    """

    citation: Citation
    answer: Answer
    log_prob: float
    log_prob_without: float

    @property
    def change(self) -> float:
        """How much more (or, below 0, less) probable the old answer is without the sentence, in log p."""
        return self.log_prob_without - self.log_prob

    def to_json(self) -> dict[str, Any]:
        """A dict for `json.dump`; docs/citations.md documents each key."""
        return {
            "number": self.citation.number,
            "answer": self.answer.to_json(),
            "log_prob": self.log_prob,
            "log_prob_without": self.log_prob_without,
            "change": self.change,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class Reader(PromptReader):
    """A `PromptReader` with a limit on the tokens that the model writes."""

    max_new_tokens: int

    def without(self, answer: Answer, citation: Citation, progress: Progress | None) -> AnswerWithout:
        """As `Answer.without`."""
        document = next(d for d in self.prompt.documents if d.index == citation.document)
        span = document.prompt_span(citation.start, citation.stop)
        shorter = remove_spans(self.tokenizer, self.prompt, [span])
        ids = answer.flow.ids[answer.flow.prompt_length :]
        before, after = (
            force_answer(self.model, prompt.ids, ids, None, log_probs=True).log_prob
            for prompt in (self.prompt, shorter)
        )
        options = AskOptions(max_new_tokens=self.max_new_tokens, impl=self.impl, progress=progress)
        written = answer_prompt(self.model, self.tokenizer, shorter, answer.weights, options, question=answer.question)
        return AnswerWithout(citation, written, before, after)


@dataclass(frozen=True)
class AskOptions:
    """How a prompt is answered, and how the answer is cited.

    Attributes:
        answer: the answer to attribute; None: the model writes one.
        max_new_tokens: the most tokens that the model writes.
        claims: spans of the answer that are cited; None: its sentences.
        impl: as in `attributor.flow`.
        progress: called with (stage, done, total). The seconds of a `StageClock` become those of the result.
        hints: the names of options in notes; by default those of `ask`.
        effects: whether `needed` is computed, as in `ask`.

    Raises:
        InputError: `effects` is neither a bool nor "claims".
    """

    answer: str | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    claims: Sequence[SegmentLike] | None = None
    impl: str | None = None
    progress: Progress | None = None
    hints: Hints = field(default_factory=Hints)
    effects: EffectsOf = False

    def __post_init__(self) -> None:
        """Check `effects` now, not after the model has answered."""
        if not isinstance(self.effects, bool) and not (isinstance(self.effects, str) and self.effects == "claims"):
            raise InputError(f"effects must be True, False or 'claims', got {shorten_value(self.effects)}")


def ask(
    documents: Any,
    question: str | None = None,
    *,
    model: Any = None,
    tokenizer: Any = None,
    answer: str | None = None,
    claims: Sequence[SegmentLike] | None = None,
    weights: Any = "retrieval",
    max_new_tokens: int = MAX_NEW_TOKENS,
    effects: EffectsOf = False,
    system: str | None = None,
    instruction: str | None = None,
    impl: str | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Have a model answer a question about documents, and cite the sentences that the answer came from::

        answer = attributor.ask([("Lighthouse", "It has 164 steps."), "Boats leave at dawn."], "How many steps?")
        print(answer)

    Args:
        documents: a list of texts, (title, text) pairs, dicts, objects of LangChain or LlamaIndex, paths of files and
            folders; or chat messages, whose tool results are the documents.
        question: about the documents; None with chat messages, which hold it.
        model: a transformers decoder-only model, or what `attributor.load_model` takes, which is loaded at each call;
            None: the default model.
        tokenizer: the model's; needed with a model that is loaded already.
        answer: an answer to attribute, written by any model; None: this model writes one.
        claims: the parts of a given answer to cite: (start, stop) characters of it, or text that occurs in it once;
            None: its sentences.
        weights: as in `attributor.flow`. "retrieval" finds more sources than the other presets (docs/quality.md).
        max_new_tokens: the most tokens that the model writes.
        effects: True also computes `needed` of each citation: the log-probability that the answer loses without that
            sentence. This costs one forward pass per cited sentence. One backward pass estimates the loss for every
            sentence (`Answer.effects`). "claims" does so for each claim, with one backward pass per claim, and logs
            their number first. Beyond 8,192 prompt tokens `needed` is an estimate as well.
        system: the system turn's text; None leaves it to the chat template.
        instruction: the line after the question that says how to answer; None: `INSTRUCTION`; "": no line.
        impl: as in `attributor.flow`.
        progress: called with (stage, done, total), stages "calibrate", "prompt", "answer", "sweep", "effects" and
            "removals".

    Raises:
        InputError: an empty document, question or answer, a prompt that does not fit, options that cannot be used.
        ModelLoadError: the model cannot be loaded.
        UnsupportedModelError, NumericsError, DeviceMemoryError: as `attributor.flow`.
    """
    source = PromptSource.of(documents, question, system=system, instruction=instruction, answer=answer)
    _check_options(max_new_tokens, claims, source.answer, weights, progress)
    if impl is not None:
        check_impl(impl)
    clock = StageClock.of(progress)
    options = AskOptions(source.answer, max_new_tokens, claims, impl, clock, effects=effects)
    clock.begin("load")
    if model is None or isinstance(model, str | os.PathLike):
        model, own_tokenizer = load_model(DEFAULT_MODEL if model is None else model)
        tokenizer = own_tokenizer if tokenizer is None else tokenizer
    else:
        check_decoder(model)
    if tokenizer is None:
        raise InputError("pass tokenizer= with model=, or the model's name")
    # without a callback, `resolve` shows its own progress while it finds retrieval heads
    resolved = resolve(weights, model, tokenizer, progress=None if progress is None else clock)
    clock.begin("tokenize")
    prompt = source.build(tokenizer)
    return answer_prompt(model, tokenizer, prompt, resolved, options, question=source.question)


def _check_options(max_new_tokens: Any, claims: Any, answer: str | None, weights: Any, progress: Any) -> None:
    """Check those arguments of `ask` that need no model.

    Raises:
        InputError: an argument that cannot be used.
    """
    if check_index("max_new_tokens", max_new_tokens) < 1:
        raise InputError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    check_callable("progress", progress)
    if claims is not None:
        if answer is None:
            raise InputError("claims are spans of an answer that is given; pass answer= too, or leave claims= out")
        find_claims(answer, claims)
    if not isinstance(weights, HeadWeights):
        Weights.of(weights)


def check_impl(impl: Any) -> None:
    """Check that an implementation exists and is usable here, before the model's dtype and device are known.

    Raises:
        InputError: `impl` is not a str.
        ImplementationError: it is unknown, or missing here.
    """
    if not isinstance(impl, str):
        raise InputError(f"impl must be the name of an implementation, or None, got {shorten_value(impl)}")
    # every implementation accepts bfloat16
    choose_impl(impl, torch.device("cuda" if impl in ("cuda", "triton") else "cpu"), torch.bfloat16)


def answer_prompt(
    model: Any,
    tokenizer: Any,
    prompt: Prompt,
    weights: HeadWeights,
    options: AskOptions | None = None,
    *,
    question: str | None = None,
) -> Answer:
    """As `ask`, with a finished prompt (of documents, messages or text) and a loaded model.

    Args:
        model: a transformers decoder-only model.
        tokenizer: the model's.
        prompt: with its documents.
        weights: resolved for the model.
        options: None: the defaults.
        question: the question's text, for the result; None: what `prompt.question` spans.

    Raises:
        InputError, UnsupportedModelError, NumericsError, DeviceMemoryError: as `ask`.
    """
    options = options or AskOptions()
    clock, facts = StageClock.of(options.progress), model_facts(model)
    tokens = prompt.question_tokens
    notes = [prompt.note] if prompt.note else []
    notes += question_notes(weights, tokens, options.hints.question)
    recording = cache = None
    if options.answer is not None:
        sequence = prompt.with_given_answer(options.answer, tokenizer)
        sweep = SweepOptions(impl=options.impl, progress=clock)
        flow = flow_of(model, sequence, weights, question=share_tokens(weights, tokens), options=sweep)
    else:
        check_ids(prompt.ids, facts)
        window = f"the model has {facts.window or 0:,} positions"
        count, shortened = fit_answer(len(prompt.ids), options.max_new_tokens, facts.window, window)
        writing = WriteOptions(count, AnswerCounter(clock, count), needs_cache(options.effects, len(prompt.ids)))
        answer_pass, _, flow = read_and_follow(
            model, tokenizer, prompt, writing, weights, impl=options.impl, progress=clock
        )
        recording, cache = answer_pass.recorded, answer_pass.cache
        notes += [*shortened, *([cut_off_note(count, options.hints.longer)] if answer_pass.cut_off else [])]
    if not flow.answer:
        notes.append("the model wrote nothing" if options.answer is None else "the answer is a control token alone")
    clock.begin("cite")
    cited, effects = flow.cite(None if prompt.documents else (), claims=options.claims), None
    reader = Reader(
        model=model, tokenizer=tokenizer, prompt=prompt, impl=options.impl, max_new_tokens=options.max_new_tokens
    )
    if options.effects:
        needed = compute_needed(reader, flow, cited, options.effects, clock, cache)
        cited, effects, notes = needed.cited, needed.effects, [*notes, *needed.notes]
    clock.finish()
    return Answer(
        **{part.name: getattr(cited, part.name) for part in fields(cited)},
        question=prompt.text[slice(*prompt.question)] if question is None and prompt.question else question,
        flow=flow,
        weights=weights,
        model=facts.name,
        uses_question=share_tokens(weights, tokens) is not None,
        written=options.answer is None,
        notes=tuple(notes),
        seconds=dict(clock.seconds),
        effects=effects,
        recording=recording,
        reader=reader,
    )


def _pick_citation(citations: Sequence[Citation], wanted: Citation | int) -> Citation:
    for citation in citations:
        if isinstance(wanted, Citation):
            same = (wanted.document, wanted.start, wanted.stop) == (citation.document, citation.start, citation.stop)
        else:
            same = not isinstance(wanted, bool) and wanted == citation.number
        if same:
            return citation
    there = f"1 to {len(citations)}" if citations else "none"
    name = f"of {shorten_value(wanted.quote)}" if isinstance(wanted, Citation) else shorten_value(wanted)
    raise InputError(f"the answer has no citation {name}; its citations are {there}")

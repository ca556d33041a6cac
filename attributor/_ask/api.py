"""ask(): documents and a question in, an answer and its flow out."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attributor._ask.answer_pass import AnswerCounter
from attributor._ask.notes import Hints, cut_off_note, fit_answer, question_notes
from attributor._ask.recorded_flow import read_and_follow, share_tokens
from attributor._ask.stage_clock import StageClock
from attributor._errors import InputError
from attributor._flow import Recording, SweepOptions, flow_of
from attributor._heads import resolve
from attributor._models import DEFAULT_MODEL, load_model, model_facts
from attributor._prompt import INSTRUCTION, Prompt, build_prompt, encode_answer
from attributor._record import HeadWeights, check_ids
from attributor._result import Flow

__all__ = ["MAX_NEW_TOKENS", "Answer", "answer_prompt", "ask"]

MAX_NEW_TOKENS = 64
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer, its flow, and what a user should know about them.

    Attributes:
        flow: with the text and the documents of the prompt, and the answer.
        weights: of the model's heads.
        model: the model's id, or its class where it has none.
        uses_question: whether a share of each row starts on the question's tokens.
        written: whether the model wrote the answer; False where it was given.
        notes: sentences for the user.
        seconds: by stage.
        recording: of a written answer. A given one has none: its layers are released as the flow passes them.
    """

    flow: Flow
    weights: HeadWeights
    model: str
    uses_question: bool
    written: bool
    notes: tuple[str, ...]
    seconds: dict[str, float]
    recording: Recording | None = None


def ask(
    documents: Sequence[str | tuple[str, str]],
    question: str,
    *,
    model: Any = None,
    tokenizer: Any = None,
    answer: str | None = None,
    weights: Any = "retrieval",
    max_new_tokens: int = MAX_NEW_TOKENS,
    system: str | None = None,
    instruction: str = INSTRUCTION,
    impl: str | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Have a model answer a question about documents, and follow the answer back to them.

    Args:
        documents: texts, or (title, text) pairs.
        question: about the documents.
        model: a transformers decoder-only model, or what `attributor.load_model` takes; None: the default model.
        tokenizer: the model's; needed with a model that is loaded already.
        answer: an answer to attribute; None: the model writes one.
        weights: as in `attributor.flow`.
        max_new_tokens: the most tokens that the model writes.
        system: the system turn's text; None leaves it to the chat template.
        instruction: the line after the question that says how to answer; "" for none.
        impl: as in `attributor.flow`.
        progress: called with (stage, done, total), stages "calibrate", "prompt", "answer" and "sweep".

    Raises:
        InputError: an empty document, question or answer, a prompt that does not fit, options that cannot be used.
        ModelLoadError: the model cannot be loaded.
        UnsupportedModelError, NumericsError, DeviceMemoryError: as `attributor.flow`.
    """
    clock = StageClock.of(progress)
    clock.begin("load")
    if model is None or isinstance(model, str | os.PathLike):
        model, own_tokenizer = load_model(DEFAULT_MODEL if model is None else model)
        tokenizer = own_tokenizer if tokenizer is None else tokenizer
    elif tokenizer is None:
        raise InputError("pass tokenizer= with model=, or the model's name")
    # without a callback, finding a model's heads shows a line of its own
    resolved = resolve(weights, model, tokenizer, progress=None if progress is None else clock)
    clock.begin("tokenize")
    prompt = build_prompt(tokenizer, documents, question, system, instruction=instruction)
    return answer_prompt(
        model, tokenizer, prompt, resolved, answer=answer, max_new_tokens=max_new_tokens, impl=impl, progress=clock
    )


def answer_prompt(
    model: Any,
    tokenizer: Any,
    prompt: Prompt,
    weights: HeadWeights,
    *,
    answer: str | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    impl: str | None = None,
    progress: Progress | None = None,
    hints: Hints | None = None,
) -> Answer:
    """As `ask`, with a prompt that is built already (of documents, messages or text), for a model that is loaded.

    Args that `ask` has not: `weights` are resolved for the model; where `progress` is a `StageClock`, its seconds are
    those of the result; `hints` are the options that notes name, None those of `ask`.
    """
    clock, hints, facts = StageClock.of(progress), hints or Hints(), model_facts(model)
    question = prompt.question_tokens
    notes = [prompt.note] if prompt.note else []
    notes += question_notes(weights, question, hints.question)
    recording = None
    if answer is not None:
        sequence = prompt.with_answer(encode_answer(tokenizer, answer), tokenizer)
        options = SweepOptions(impl=impl, progress=clock)
        flow = flow_of(model, sequence, weights, question=share_tokens(weights, question), options=options)
    else:
        check_ids(prompt.ids, facts)
        window = f"the model has {facts.window or 0:,} positions"
        count, shortened = fit_answer(len(prompt.ids), max_new_tokens, facts.window, window)
        streamer = AnswerCounter(clock, count)
        answer_pass, _, flow = read_and_follow(
            model, tokenizer, prompt, count, weights, impl=impl, streamer=streamer, progress=clock
        )
        recording = answer_pass.recorded
        notes += [*shortened, *([cut_off_note(count, hints.longer)] if answer_pass.cut_off else [])]
    clock.finish()
    return Answer(
        flow=flow,
        weights=weights,
        model=facts.name,
        uses_question=share_tokens(weights, question) is not None,
        written=answer is None,
        notes=tuple(notes),
        seconds=dict(clock.seconds),
        recording=recording,
    )

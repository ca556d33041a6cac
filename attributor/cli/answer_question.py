"""A source in, a model's answer and its flow out: what `attributor flow` and `attributor demo` run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attributor import _flow, _heads, _models, _record
from attributor._flow import Recording, SweepOptions
from attributor._heads import Weights
from attributor._models import ModelFacts, converted_folder, generate, model_facts, strip_end_token
from attributor._prompt import Prompt, encode_answer
from attributor._record import HeadWeights
from attributor._result import Flow
from attributor._step import choose_impl
from attributor.cli.progress import StageProgress
from attributor.cli.prompt_input import PromptInput

__all__ = ["MAX_NEW_TOKENS", "Answered", "Settings", "answer", "check_settings", "describe"]

MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class Settings:
    """Which model, and how it is read: the options that `attributor flow` and `attributor demo` share."""

    model: str
    dtype: str = "auto"
    device_map: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    weights: str = "mean"
    power: float | None = None
    impl: str | None = None
    max_new_tokens: int = MAX_NEW_TOKENS


@dataclass(frozen=True)
class Answered:
    """An answer, its flow, and what should be said about them.

    Attributes:
        flow: with the text and the documents of the prompt that was built, and the answer.
        weights: of the model's heads.
        model: the model's id, or its class where it has none.
        question: whether the question's tokens are known, on which a share of each row starts.
        written: whether the model wrote the answer; False where it was given.
        notes: sentences for the user.
        seconds: by stage.
    """

    flow: Flow
    weights: HeadWeights
    model: str
    question: bool
    written: bool
    notes: tuple[str, ...]
    seconds: dict[str, float]


def check_settings(settings: Settings) -> Weights:
    """Everything that can be known to be wrong before a model is loaded; returns the weights.

    Raises:
        InputError: unknown weights, a power that is not > 0.
        ImplementationError: an implementation that is unknown or missing here.
    """
    if settings.impl is not None:
        # The model's type is not known yet; bfloat16 is one that every implementation takes.
        choose_impl(
            settings.impl, torch.device("cuda" if settings.impl in ("cuda", "triton") else "cpu"), torch.bfloat16
        )
    weights = Weights.of(settings.weights)
    return weights if settings.power is None else replace(weights, power=settings.power)


def describe(answered: Answered) -> str:
    """Which weights were used, in words."""
    weights = answered.weights
    heads = weights.heads.numel()
    some = f"{weights.count} of {heads} heads"
    words = {
        "mean": f"mean: every one of the {heads} heads counts the same, the plain definition",
        "output_norm": f"output_norm: {heads} heads by the norm of their output projections",
        "retrieval": f"retrieval: {some}, found without labels in "
        f"{(weights.source or answered.model).rstrip('/').rpartition('/')[2]}; "
        "--weights mean shows the plain definition",
    }
    said = words.get(weights.name, f"{some}, {weights.note or 'your own weights'}")
    if answered.question:
        said += f"; {weights.question:.0%} of each row begins on the question"
    return said if weights.power == 1 else f"{said}; attention to the power {weights.power:g}"


def answer(source: PromptInput, settings: Settings, stages: StageProgress) -> Answered:
    """Load the model, have it answer (or take the given answer), and follow its attention back to the prompt."""
    weights = check_settings(settings)
    stages.begin("load", f"Loading {settings.model}" if _here(settings) else None)
    model, tokenizer = _models.load_model(
        settings.model,
        dtype=settings.dtype,
        device_map=settings.device_map,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )
    # finding the heads of a model may take minutes: with a bar of this command's, or a line where there is no terminal
    resolved = _heads.resolve(weights, model, tokenizer, progress=stages if stages.shown else None)
    stages.begin("tokenize")
    prompt = source.build_prompt(tokenizer)
    notes = [prompt.note] if prompt.note else []
    question = _question(prompt, resolved, notes)
    options = SweepOptions(impl=settings.impl, progress=stages)
    facts = model_facts(model)
    if source.answer is not None:
        sequence = prompt.with_answer(encode_answer(tokenizer, source.answer), tokenizer)
        flow = _flow.flow_of(model, sequence, resolved, question=question, options=options)
    else:
        _record.check_ids(prompt.ids, facts)
        count = _room(len(prompt.ids), settings.max_new_tokens, facts, notes)
        recording, written = _write(model, prompt, resolved, count, stages, notes)
        flow = recording.flow_of(prompt.with_answer(written, tokenizer), question=question, options=options)
    stages.finish()
    return Answered(
        flow=flow,
        weights=resolved,
        model=facts.name,
        question=question is not None,
        written=source.answer is None,
        notes=tuple(notes),
        seconds=dict(stages.seconds),
    )


def _here(settings: Settings) -> bool:
    """Whether nothing needs fetching; where something does, load_model shows bars of its own."""
    name = settings.model
    if Path(name).exists():
        return True
    try:
        cached = _models.is_in_hub_cache(name, settings.revision)
    except ValueError:  # not the name of a model; load_model will say so
        return True
    return cached or (name == _models.DEFAULT_MODEL and converted_folder() is not None)


def _question(prompt: Prompt, weights: HeadWeights, notes: list[str]) -> Tensor | None:
    """(Q,) the question's tokens, where the weights take a share from them and the prompt says where they stand."""
    if not weights.question:
        return None
    if prompt.question is None:
        notes.append(
            f"these weights begin {weights.question:.0%} of each row on the question, and only --question says where "
            "it stands; here all of it begins at the answer"
        )
        return None
    return prompt.question_tokens


def _room(k: int, count: int, facts: ModelFacts, notes: list[str]) -> int:
    """How many tokens of an answer fit behind a prompt of k tokens, at most `count`."""
    if facts.window is not None and k + count > facts.window:
        count = max(facts.window - k, 1)  # one always: the last token of an answer is never read
        notes.append(
            f"the model has {facts.window:,} positions, so the answer was kept to {count} token{'s' * (count != 1)}"
        )
    return count


def _write(
    model: Any, prompt: Prompt, weights: HeadWeights, count: int, stages: StageProgress, notes: list[str]
) -> tuple[Recording, Tensor]:
    """Write at most `count` tokens greedily while recording, so that the flow needs no second forward pass."""
    with _flow.record(model, weights=weights, progress=stages) as recording:
        out = generate(model, prompt.ids, count, streamer=_Counter(stages, count))
    written, ended = strip_end_token(model, out[0, len(prompt.ids) :].cpu())
    if not ended and written.numel() >= count:
        notes.append(f"the answer was cut off after {count} token{'s' * (count != 1)}; --max-new-tokens N allows more")
    return recording, written


class _Counter:
    """A streamer for generate() that only counts."""

    def __init__(self, stages: StageProgress, total: int) -> None:
        self._stages, self._total, self._done = stages, total, -1  # the first call brings the prompt

    def put(self, _: Tensor) -> None:
        self._done += 1
        if self._done > 0:
            self._stages("answer", self._done, self._total)

    def end(self) -> None:
        """Nothing is left to show."""

"""Answer a prompt and attribute the answer: the computation of `attributor ask` and `attributor demo`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from attributor import _heads, _models
from attributor._ask import MAX_NEW_TOKENS, Answer, AskOptions, Hints, PromptSource, answer_prompt, check_impl
from attributor._heads import PRESETS, Weights
from attributor._models import converted_folder
from attributor.cli.progress import StageProgress

__all__ = ["Settings", "answer", "check_settings", "describe"]

HINTS = Hints(question="only --question says where it stands", longer="--max-new-tokens N allows more")


@dataclass(frozen=True)
class Settings:
    """The options of the model, the weights and the answer, which `attributor ask` and `attributor demo` share."""

    model: str
    dtype: str = "auto"
    device_map: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    weights: str = "mean"
    power: float | None = None
    impl: str | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    effects: Literal["claims"] | bool = False


def check_settings(settings: Settings) -> Weights:
    """Check all that can be checked before a model is loaded; returns the weights.

    Raises:
        InputError: unknown weights, a power that is not > 0.
        ImplementationError: an implementation that is unknown or missing here.
    """
    if settings.impl is not None:
        check_impl(settings.impl)
    weights = Weights.of(settings.weights)
    return weights if settings.power is None else replace(weights, power=settings.power)


def describe(answered: Answer) -> str:
    """The sentence that describes the weights of an answer."""
    weights = answered.weights
    heads = weights.heads.numel()
    preset = PRESETS.get(weights.name)
    if preset is None:
        text = f"{weights.count} of {heads} heads, {weights.note or 'your own weights'}"
    else:
        model = (weights.source or answered.model).rstrip("/").rpartition("/")[2]
        text = f"{weights.name}: {preset.report.format(heads=heads, count=weights.count, model=model)}"
        if preset.derived_from == "calibration":
            text += "; --weights mean shows the plain definition"
    if answered.uses_question:
        text += f"; {weights.question:.0%} of each row begins on the question"
    return text if weights.power == 1 else f"{text}; attention to the power {weights.power:g}"


def answer(source: PromptSource, settings: Settings, stages: StageProgress) -> Answer:
    """Load the model, let it answer or read the given answer, and follow its attention back to the prompt."""
    weights = check_settings(settings)
    source.check()
    stages.begin("load", f"Loading {settings.model}" if _here(settings) else None)
    model, tokenizer = _models.load_model(
        settings.model,
        dtype=settings.dtype,
        device_map=settings.device_map,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )
    # calibration may take minutes: this command's bar shows its progress, or `resolve` prints a line without a terminal
    resolved = _heads.resolve(weights, model, tokenizer, progress=stages if stages.shown else None)
    stages.begin("tokenize")
    options = AskOptions(
        source.answer,
        settings.max_new_tokens,
        impl=settings.impl,
        progress=stages,
        hints=HINTS,
        effects=settings.effects,
    )
    prompt = source.build(tokenizer)
    answered = answer_prompt(model, tokenizer, prompt, resolved, options, question=source.question)
    return replace(answered, notes=(*source.notes, *answered.notes))


def _here(settings: Settings) -> bool:
    """Whether the model is on this machine. If it is not, load_model shows the bars of the download."""
    name = settings.model
    if Path(name).exists():
        return True
    try:
        cached = _models.is_in_hub_cache(name, settings.revision)
    except ValueError:  # not the name of a model; load_model raises the error
        return True
    return cached or (name == _models.DEFAULT_MODEL and converted_folder() is not None)

"""calibrate() finds the retrieval heads of a model on generated prompts."""

from collections.abc import Sequence
from typing import Any

from attributor._checks import check_callable, shorten_value
from attributor._errors import InputError
from attributor._heads.calibration.choose import choose_heads
from attributor._heads.calibration.head_scores import HeadScores, Progress, score_heads
from attributor._heads.calibration.prompts import MOST, STANDARD, Case, make_cases
from attributor._heads.calibration.tokenized_case import tokenize_case
from attributor._heads.weights import Weights
from attributor._models import window_of
from attributor._record import check_decoder, check_recordable

__all__ = ["COUNT", "SEED", "calibrate", "measure_heads"]

COUNT, SEED = 24, 0
SIZES = (MOST, 6, 4, 2)  # documents per prompt; fewer for windows that are too short for ten


def calibrate(
    model: Any, tokenizer: Any, *, count: int = COUNT, seed: int = SEED, progress: Progress | None = None
) -> Weights:
    """Find the retrieval heads of a model, as ``weights="retrieval"`` does once per model.

    The model reads `count` generated prompts of about ten documents. The sentences with the answer are known, because
    they are planted: a fact, two linked facts, a code to copy, or a fact whose question uses other words. All sentences
    are ranked by a head's attention, half from the answer's rows and half from the question's rows. The head's score is
    the average precision of the planted sentences. The four best heads get 1/16 each. This needs no data set and no
    labels.

        weights = attributor.calibrate(model, tokenizer)
        weights.save("heads.safetensors")

    Args:
        model: a transformers decoder-only model.
        tokenizer: its tokenizer.
        count: how many prompts; each takes one forward pass.
        seed: another seed gives other prompts.
        progress: called with ("calibrate", done, total), total = count x layers.

    Raises:
        InputError: a model whose window is too short for any prompt, or a count below 1.
        UnsupportedModelError: attention that cannot be recorded.
    """
    return choose_heads(measure_heads(model, tokenizer, count=count, seed=seed, progress=progress), seed=seed)


def measure_heads(
    model: Any,
    tokenizer: Any,
    *,
    count: int = COUNT,
    seed: int = SEED,
    kinds: Sequence[str] = STANDARD,
    progress: Progress | None = None,
) -> HeadScores:
    """Score all heads on `count` cases, with as many documents as fit into the model's window."""
    check_decoder(model)
    check_recordable(model)
    check_callable("progress", progress)
    if not callable(tokenizer) or not hasattr(tokenizer, "decode"):
        raise InputError(f"tokenizer must be the model's tokenizer, got {shorten_value(tokenizer)}")
    cases = _make_fitting_cases(model, tokenizer, count, seed, kinds)
    return score_heads(model, tokenizer, cases, progress)


def _make_fitting_cases(model: Any, tokenizer: Any, count: int, seed: int, kinds: Sequence[str]) -> list[Case]:
    limit = window_of(model)
    longest = 0
    for documents in SIZES:
        cases = make_cases(count, seed, kinds=kinds, documents=documents)
        longest = max(tokenize_case(tokenizer, case).ids.numel() for case in cases)
        if limit is None or longest <= limit:
            return cases
    raise InputError(
        f"the model's window of {limit} tokens is too short for prompts that show which heads retrieve (the shortest "
        f"that there are need {longest}); use weights='mean' or your own (L, H) tensor"
    )

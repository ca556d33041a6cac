"""One pass of a model over a prompt and its answer, which is forced or written, recorded and timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError, RecordingError
from attributor._flow import Recording, record
from attributor._models import accepts_argument, device_of, generate, strip_end_token, use_eval_mode

__all__ = ["AnswerCounter", "AnswerPass", "force_answer", "write_answer"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class AnswerPass:
    """The result of one pass over a prompt and its answer.

    Attributes:
        answer: (a,) int64.
        log_probs: (a,) float64, log p of each answer token; None if they were not computed.
        seconds: of the pass.
        recording: None if no heads were recorded.
        cut_off: whether a written answer did not end within the tokens allowed.
        cache: the model's keys and values, if they were kept.
    """

    answer: Tensor
    log_probs: Tensor | None = None
    seconds: float = 0.0
    recording: Recording | None = None
    cut_off: bool = False
    cache: Any = None

    @property
    def log_prob(self) -> float:
        """The sum of `log_probs`.

        Raises:
            RecordingError: they were not computed.
        """
        if self.log_probs is None:
            raise RecordingError("the answer was read without its log-probabilities; pass log_probs=True")
        return float(self.log_probs.sum())

    @property
    def recorded(self) -> Recording:
        """The recording.

        Raises:
            RecordingError: there is none.
        """
        if self.recording is None:
            raise RecordingError("the answer was read without recording attention; read it with weights (see union)")
        return self.recording


@torch.no_grad()
def force_answer(
    model: Any,
    prompt: Tensor,
    answer: Tensor,
    weights: Any,
    *,
    log_probs: bool = False,
    cache: bool = False,
    progress: Progress | None = None,
) -> AnswerPass:
    """Read a prompt followed by a given answer.

    The answer's last token is not read, because nothing is predicted from it.

    Args:
        model: a transformers decoder-only model; it runs in evaluation mode.
        prompt: (k,) int64.
        answer: (a,) int64, a >= 1.
        weights: as `attributor.record` takes them; heads with weight > 0 are recorded. None: no heads.
        log_probs: compute the answer's log-probabilities.
        cache: keep keys and values.
        progress: as in `attributor.record`.

    Raises:
        InputError: an answer without tokens.
        UnsupportedModelError, RecordingError: as `attributor.record`.
    """
    a = answer.numel()
    if not a:
        raise InputError("the answer has no tokens, so it has no source")
    ids = torch.cat([prompt, answer])[None, :-1].to(device_of(model))
    # one row of logits is enough for the recorder to see that they are finite
    options = {"logits_to_keep": a if log_probs else 1} if accepts_argument(model.forward, "logits_to_keep") else {}
    began = time.perf_counter()
    with use_eval_mode(model) if weights is None else record(model, weights=weights, progress=progress) as recording:
        out = model(input_ids=ids, use_cache=cache, **options)
    values = _log_probs(out.logits[0, -a:], answer) if log_probs else None
    seconds = time.perf_counter() - began
    read = getattr(out, "past_key_values", None) if cache else None
    return AnswerPass(answer, values, seconds, recording, cache=read)


@torch.no_grad()
def write_answer(
    model: Any,
    prompt: Tensor,
    count: int,
    weights: Any,
    *,
    log_probs: bool = False,
    keep_end: bool = False,
    cache: bool = False,
    streamer: Any = None,
    progress: Progress | None = None,
) -> AnswerPass:
    """Let the model write an answer greedily and record it, so that the flow needs no second forward pass.

    Args beside those of `force_answer`:
        count: the most tokens that are written, at least 1.
        keep_end: include the token that ends the answer. Otherwise it is kept only if the answer has no other token.
        streamer: as `model.generate` takes it.
    """
    began = time.perf_counter()
    with use_eval_mode(model) if weights is None else record(model, weights=weights, progress=progress) as recording:
        out = generate(model, prompt, count, output_logits=log_probs, return_dict_in_generate=True, streamer=streamer)
    written = out.sequences[0, len(prompt) :].cpu()
    answer, ended = strip_end_token(model, written)
    answer = written if keep_end else answer
    values = _log_probs(torch.stack([row[0] for row in out.logits[: len(answer)]]), answer) if log_probs else None
    seconds = time.perf_counter() - began
    cut_off = not ended and len(answer) >= count
    return AnswerPass(answer, values, seconds, recording, cut_off, out.past_key_values if cache else None)


class AnswerCounter:
    """A streamer for `generate` that reports ("answer", tokens written, tokens allowed) to a progress callback."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self.done = -1  # the first call brings the prompt

    def put(self, tokens: Tensor) -> None:
        """Called with the prompt, then with each token."""
        self.done += 1
        if self.done > 0:
            self._progress("answer", self.done, self._total)

    def end(self) -> None:
        """Called after the last token."""


def _log_probs(logits: Tensor, answer: Tensor) -> Tensor:
    """(a,) float64 on the CPU, from the logits (a, vocabulary) that predict the answer's tokens."""
    return logits.double().log_softmax(-1).cpu()[torch.arange(len(answer)), answer]

"""The work of run jobs: record all heads while the model writes or reads the answer, then follow it back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from attributor import _flow, _record
from attributor._ask import (
    AnswerCounter,
    WriteOptions,
    cut_off_note,
    fit_answer,
    follow,
    question_notes,
    read_and_follow,
)
from attributor._models import end_token_ids
from attributor._prompt import Prompt, encode_answer
from attributor._record import HeadWeights
from attributor.web.http import ApiError
from attributor.web.live import memory, prompts
from attributor.web.live.jobs import Job
from attributor.web.live.model import LoadedModel
from attributor.web.live.runs import LiveRun, SharedRecording, explain_too_large
from attributor.web.live.schema import RunRequest, WeighRequest
from attributor.web.live.text import Decoder

if TYPE_CHECKING:
    from attributor.web.live.service import LiveService

__all__ = ["run_work", "weigh_work"]

Work = Callable[[Job], Callable[[], dict[str, Any]]]


def run_work(live: "LiveService", request: RunRequest) -> Work:
    """The work of `POST /api/runs`: write an answer and attribute it, or attribute the given answer."""

    def work(job: Job) -> Callable[[], dict[str, Any]]:
        loaded = live.models.require_loaded()
        if request.model is not None and request.model != loaded.spec.id:
            raise ApiError(
                409,
                "model_changed",
                f"{loaded.spec.id} was loaded meanwhile, and this was meant for {request.model}: run it again, or "
                "load that one first",
            )
        run = _run(live, loaded, request, job)
        return lambda: _keep(live, run)

    return work


def weigh_work(live: "LiveService", source: LiveRun, request: WeighRequest) -> Work:
    """The work of `POST /api/runs/{id}/weigh`: the flow of the same recording with other weights."""

    def work(job: Job) -> Callable[[], dict[str, Any]]:
        shared = live.runs.get_shared(source)
        heads = tuple(dict.fromkeys(request.heads)) if request.heads else None
        if heads is not None:
            weights, name = source.presets.of_heads(list(heads)), "heads"
        else:
            name = str(request.weights)
            weights = source.presets.of(name, job.stage)
        replaced = _question_notes(source.weights, source.question)
        run = LiveRun(
            title=source.title,
            model=source.model,
            flow=follow(shared.recording, shared.sequence, weights, source.question, progress=job.stage),
            presets=source.presets,
            weights=weights,
            weights_name=name,
            heads=heads,
            question=source.question,
            question_text=source.question_text,
            notes=(
                *(note for note in source.notes if note not in replaced),
                *_question_notes(weights, source.question),
            ),
            shared=shared,
        )
        return lambda: _keep(live, run)

    return work


def _keep(live: "LiveService", run: LiveRun) -> dict[str, Any]:
    live.runs.add(run)
    return {"run": run.id, "flow": run.flow_id}


@dataclass(frozen=True)
class _Plan:
    """What the model will read: the prompt's tokens (k,), and the given answer's (a,) or the most tokens to write."""

    prompt: Prompt
    answer: Tensor | int
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        return self.answer if isinstance(self.answer, int) else self.answer.numel()

    @property
    def length(self) -> int:
        return len(self.prompt.ids) + self.count


def _run(live: "LiveService", loaded: LoadedModel, request: RunRequest, job: Job) -> LiveRun:
    job.stage("tokenize", label="Splitting the text into tokens")
    plan = _plan(loaded, request)
    weights = loaded.presets.of(request.weights, job.stage)
    question = plan.prompt.question_tokens
    every = loaded.presets.of("mean")
    nbytes = _flow.recorded_bytes(loaded.presets.facts, every.heads, plan.length)
    free = memory.available()
    if free is not None:
        free += live.runs.used  # older runs can be dropped
    fits = nbytes <= live.runs.budget and (free is None or nbytes <= free)
    gone = "" if fits else explain_too_large(nbytes, live.runs.budget, free)
    live.runs.reserve(nbytes if fits else 0)
    writing = _Writing(loaded, plan.count, job)
    answer_pass, sequence, flow = read_and_follow(
        loaded.model,
        loaded.tokenizer,
        plan.prompt,
        WriteOptions(plan.answer, writing) if isinstance(plan.answer, int) else plan.answer,
        weights,
        recorded=every if fits else weights,
        progress=writing.report,
    )
    recording = answer_pass.recorded
    return LiveRun(
        title=prompts.make_title(request),
        model=loaded.presets.model_id,
        flow=flow,
        presets=loaded.presets,
        weights=weights,
        weights_name=request.weights,
        question=question,
        question_text=request.question,
        notes=(
            *plan.notes,
            *_question_notes(weights, question),
            *([cut_off_note(plan.count)] if answer_pass.cut_off else []),
            *([gone] if gone else []),
        ),
        shared=None if gone else SharedRecording(recording, sequence, recording.nbytes),
        gone=gone,
    )


def _question_notes(weights: HeadWeights, question: Tensor | None) -> list[str]:
    return question_notes(
        weights, question, "a chat does not say where it stands", " (documents with a question say it)"
    )


def _plan(loaded: LoadedModel, request: RunRequest) -> _Plan:
    """The prompt, and an answer that fits behind it.

    Raises:
        InputError: a prompt that cannot be built.
        ApiError: a prompt that is too long; the message has the numbers.
    """
    prompts.check_one_prompt(request)
    prompt = prompts.make_prompt(loaded.tokenizer, request)
    forced = None if request.answer is None else encode_answer(loaded.tokenizer, request.answer)
    k, limit = len(prompt.ids), loaded.max_tokens
    if k + (1 if forced is None else forced.numel()) > limit:
        what = "at least one token of an answer" if forced is None else f"{forced.numel():,} of the answer"
        window = loaded.window
        more = (
            f"load the model with more (its window is {window:,})"
            if window is not None and window > limit
            else "take a model with a larger window"
        )
        raise ApiError(
            422,
            "too_long",
            f"the prompt has {k:,} tokens, with {what} more than max tokens, {limit:,}: shorten it, or {more}",
        )
    for ids in (prompt.ids, forced) if forced is not None else (prompt.ids,):
        _record.check_ids(ids, loaded.presets.facts)
    notes = [prompt.note] if prompt.note else []
    if forced is not None:
        return _Plan(prompt, forced, tuple(notes))
    count, shortened = fit_answer(k, request.max_new_tokens, limit, f"max tokens is {limit:,}")
    return _Plan(prompt, count, (*notes, *shortened))


class _Writing(AnswerCounter):
    """Reports every layer and every token of a job, with its text; raises Cancelled if the job was cancelled."""

    def __init__(self, loaded: LoadedModel, total: int, job: Job) -> None:
        super().__init__(job.stage, total)
        self._job = job
        self._decoder = Decoder(loaded.tokenizer, end_token_ids(loaded.model))

    def report(self, stage: str, done: int, total: int) -> None:
        """Report the progress of reading and following, without the layers of single written tokens."""
        if stage == "prompt" and self.done > 0:
            self._job.check()
        else:
            self._job.stage(stage, done, total)

    def put(self, tokens: Tensor) -> None:
        """Called with the prompt, then with each token."""
        super().put(tokens)
        if self.done > 0:
            self._say(self._decoder.add([int(token) for token in tokens.reshape(-1)]))

    def end(self) -> None:
        """Called after the last token."""
        self._say(self._decoder.rest())

    def _say(self, text: str) -> None:
        if text:
            self._job.token(text)

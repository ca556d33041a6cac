"""A request in, a run out: the answer is written or taken as given while every head is recorded, then followed back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attributor import _flow, _record
from attributor._errors import DeviceMemoryError
from attributor._flow import Recording, SweepOptions
from attributor._models import end_token_ids, generate, strip_end_token
from attributor._prompt import Prompt, TokenSequence, encode_answer
from attributor._record import HeadWeights, Recorder, attach_recorder, forward
from attributor._result import Flow
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


def run_work(live: "LiveService", asked: RunRequest) -> Work:
    """The work of `POST /api/runs`: generate and attribute, or attribute the answer that was given."""

    def work(job: Job) -> Callable[[], dict[str, Any]]:
        loaded = live.models.require_loaded()
        if asked.model is not None and asked.model != loaded.spec.id:
            raise ApiError(
                409,
                "model_changed",
                f"{loaded.spec.id} was loaded meanwhile, and this was meant for {asked.model}: run it again, or load "
                "that one first",
            )
        run = _run(live, loaded, asked, job)
        return lambda: _keep(live, run)

    return work


def weigh_work(live: "LiveService", source: LiveRun, asked: WeighRequest) -> Work:
    """The work of `POST /api/runs/{id}/weigh`: the same reading under other weights."""

    def work(job: Job) -> Callable[[], dict[str, Any]]:
        shared = live.runs.get_shared(source)
        heads = tuple(dict.fromkeys(asked.heads)) if asked.heads else None
        if heads is not None:
            weights, name = source.presets.of_heads(list(heads)), "heads"
        else:
            name = str(asked.weights)
            weights = source.presets.of(name, job.stage)
        flow = _follow(shared, weights, source.question, job)
        run = LiveRun(
            title=source.title,
            model=source.model,
            flow=flow,
            presets=source.presets,
            weights=weights,
            weights_name=name,
            heads=heads,
            question=source.question,
            question_text=source.question_text,
            notes=(
                *(note for note in source.notes if note not in _unasked(source.weights, source.question)),
                *_unasked(weights, source.question),
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
    """What will be read: the prompt's tokens (k,), the given answer's (a,) or how many may be written."""

    prompt: Prompt
    given: Tensor | None
    count: int
    notes: tuple[str, ...]

    @property
    def length(self) -> int:
        return len(self.prompt.ids) + self.count


def _run(live: "LiveService", loaded: LoadedModel, asked: RunRequest, job: Job) -> LiveRun:
    job.stage("tokenize", label="Splitting the text into tokens")
    plan = _plan(loaded, asked)
    weights = loaded.presets.of(asked.weights, job.stage)
    question = plan.prompt.question_tokens
    notes = [*plan.notes, *_unasked(weights, question)]
    every = loaded.presets.of("mean")
    wanted = _flow.recorded_bytes(loaded.presets.facts, every.heads, plan.length)
    free = memory.available()
    if free is not None:
        free += live.runs.used  # what older runs take can be had
    fits = wanted <= live.runs.budget and (free is None or wanted <= free)
    recorded = every if fits else weights
    gone = "" if fits else explain_too_large(wanted, live.runs.budget, free)
    live.runs.reserve(wanted if fits else 0)
    try:
        recording, sequence, more = _read(loaded, plan, recorded, job)
        shared = SharedRecording(recording, sequence, recording.nbytes)
        flow = _follow(shared, weights, question, job)
    except (RuntimeError, MemoryError) as error:
        if not _flow.is_out_of_memory(error) or isinstance(error, DeviceMemoryError):
            raise
        full = True
    else:
        full = False
    if full:  # out here, where the error's traceback no longer holds what was recorded
        raise _flow.out_of_memory_error(loaded.model, recorded.heads, plan.length, "auto")
    return LiveRun(
        title=prompts.make_title(asked),
        model=loaded.presets.model_id,
        flow=flow,
        presets=loaded.presets,
        weights=weights,
        weights_name=asked.weights,
        question=question,
        question_text=asked.question,
        notes=(*notes, *more, *([gone] if gone else [])),
        shared=None if gone else shared,
        gone=gone,
    )


def _unasked(weights: HeadWeights, question: Tensor | None) -> list[str]:
    """What to say of weights that begin in part on a question, where nobody knows which tokens that is."""
    if not weights.question or question is not None:
        return []
    return [
        f"these weights begin {weights.question:.0%} of each row on the question, and a chat does not say where it "
        "stands; here all of it begins at the answer (documents with a question say it)"
    ]


def _plan(loaded: LoadedModel, asked: RunRequest) -> _Plan:
    """The prompt, and an answer that fits behind it.

    Raises:
        InputError: a prompt that cannot be built.
        ApiError: one that is too long, with the numbers.
    """
    prompts.check_one_prompt(asked)
    prompt = prompts.make_prompt(loaded.tokenizer, asked)
    given = None if asked.answer is None else encode_answer(loaded.tokenizer, asked.answer)
    k, limit = len(prompt.ids), loaded.max_tokens
    notes = [prompt.note] if prompt.note else []
    count = asked.max_new_tokens if given is None else given.numel()
    if k + (1 if given is None else count) > limit:
        what = "at least one token of an answer" if given is None else f"{count:,} of the answer"
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
    if given is None and k + count > limit:
        count = limit - k
        notes.append(f"max tokens is {limit:,}, so the answer was kept to {count:,} token{'s' * (count != 1)}")
    for ids in (prompt.ids, given) if given is not None else (prompt.ids,):
        _record.check_ids(ids, loaded.presets.facts)
    return _Plan(prompt, given, count, tuple(notes))


def _read(
    loaded: LoadedModel, plan: _Plan, weights: HeadWeights, job: Job
) -> tuple[Recording, TokenSequence, list[str]]:
    """The recording, prompt and answer as they were read, and what should be said about the answer."""
    writing = _Writing(loaded, plan.count, job)
    recorder = Recorder(weights, progress=writing.layer)
    notes: list[str] = []
    with attach_recorder(loaded.model, recorder):
        if plan.given is not None:
            answer = plan.given
            forward(loaded.model, torch.cat([plan.prompt.ids, answer])[:-1])  # nothing is predicted from the last
        else:
            out = generate(loaded.model, plan.prompt.ids, plan.count, streamer=writing)
            answer, ended = strip_end_token(loaded.model, out[0, len(plan.prompt.ids) :].cpu())
            if not ended and answer.numel() >= plan.count:
                notes.append(f"the answer was cut off after {plan.count:,} token{'s' * (plan.count != 1)}")
    recorder.progress = None  # it belongs to a job that will have ended
    recording = Recording(recorder, loaded.presets.facts)
    return recording, plan.prompt.with_answer(answer, loaded.tokenizer), notes


def _follow(shared: SharedRecording, weights: HeadWeights, question: Tensor | None, job: Job) -> Flow:
    asked = question if weights.question else None
    options = SweepOptions(progress=job.stage)
    return shared.recording.flow_of(shared.sequence, weights=weights, question=asked, options=options)


class _Writing:
    """Told of every layer and of every token; leaves, by an exception, where the job was cancelled."""

    def __init__(self, loaded: LoadedModel, total: int, job: Job) -> None:
        self._job, self._total = job, total
        self._decoder = Decoder(loaded.tokenizer, end_token_ids(loaded.model))
        self._done = -1  # the first tokens that come are the prompt's

    def layer(self, stage: str, done: int, total: int) -> None:
        """One more layer has read what it was given; of single tokens nobody wants to hear that."""
        if self._done <= 0:
            self._job.stage(stage, done, total)
        else:
            self._job.check()

    def put(self, tokens: Tensor) -> None:
        """generate() hands over the prompt, then token after token."""
        self._done += 1
        if self._done == 0:
            return
        self._job.stage("answer", self._done, self._total)
        self._say(self._decoder.add([int(token) for token in tokens.reshape(-1)]))

    def end(self) -> None:
        """The last token was handed over."""
        self._say(self._decoder.rest())

    def _say(self, text: str) -> None:
        if text:
            self._job.token(text)

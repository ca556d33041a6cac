"""The addresses of the live door, under /api. They answer at once: what takes a while is a job."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent

from attributor.web.http import ApiError
from attributor.web.live import generate, prompts, views
from attributor.web.live.jobs import Job
from attributor.web.live.runs import Run
from attributor.web.live.schema import (
    Counted,
    CountRequest,
    JobStarted,
    LoadRequest,
    ModelState,
    RunInfo,
    RunRequest,
    Runs,
    WeighRequest,
)
from attributor.web.live.service import Live

__all__ = ["router"]


def router(live: Live) -> APIRouter:
    """Every route of the live door, the views of layers and heads included."""
    made = APIRouter(prefix="/api")
    _model(made, live)
    _runs(made, live)
    _jobs(made, live)
    made.include_router(views.router(live))
    return made


def _model(made: APIRouter, live: Live) -> None:
    counter = prompts.Counter()
    counting = asyncio.Lock()  # asked for at every keystroke; more at once would only slow each other down

    @made.get("/model")
    async def model() -> ModelState:
        """The model, and what may be asked for."""
        return live.state()

    @made.post("/model", status_code=202)
    async def load(asked: LoadRequest) -> JobStarted:
        """Load a model; it takes the place of the one before."""
        return JobStarted(job=live.load(asked).id)

    @made.post("/count")
    async def count(asked: CountRequest) -> Counted:
        """How many tokens a prompt and its answer have; both may be unfinished."""
        loaded = live.models.need()
        async with counting:
            prompt, answer = await run_in_threadpool(counter, loaded.tokenizer, asked)
        return Counted(prompt_tokens=prompt, answer_tokens=answer, window=loaded.window, max_tokens=loaded.max_tokens)


def _runs(made: APIRouter, live: Live) -> None:
    @made.get("/runs")
    async def runs() -> Runs:
        """Every run, the newest first."""
        return Runs(runs=[_info(run) for run in live.runs.all()], budget=live.runs.budget, used=live.runs.used)

    @made.post("/runs", status_code=202)
    async def run(asked: RunRequest) -> JobStarted:
        """Have the model answer, or take the given answer, and follow it back to the prompt."""
        prompts.check_one_prompt(asked)
        if not live.jobs.pending("load"):  # a run may wait for the model that is being loaded
            live.models.need()
        return JobStarted(job=live.jobs.submit("run", generate.run_work(live, asked)).id)

    @made.delete("/runs/{run_id}", status_code=204)
    async def remove(run_id: str) -> None:
        """Forget a run, and its recording unless another run shares it."""
        live.runs.remove(run_id)

    @made.post("/runs/{run_id}/weigh", status_code=202)
    async def weigh(run_id: str, asked: WeighRequest) -> JobStarted:
        """The flow of the same recording under other weights: a new run that shares the recording."""
        if (asked.weights is None) == (asked.heads is None):
            raise ApiError(422, "one_choice", "give either weights, by name, or heads, as [layer, head] pairs")
        source = live.runs.get(run_id)
        live.runs.shared(source)
        return JobStarted(job=live.jobs.submit("weigh", generate.weigh_work(live, source, asked)).id)


def _jobs(made: APIRouter, live: Live) -> None:
    def found(job_id: str) -> Job:  # as a dependency, so that an unknown job is answered before a stream begins
        return live.jobs.get(job_id)

    @made.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
    async def events(
        job: Annotated[Job, Depends(found)], last_event_id: Annotated[str | None, Header()] = None
    ) -> AsyncIterator[ServerSentEvent]:
        """What the job says, from the first event on (after Last-Event-ID, where a browser reconnects)."""
        known = re.fullmatch("[0-9]{1,9}", last_event_id or "")
        start = 0 if known is None else int(known[0]) + 1
        async for number, event in job.listen(start):
            yield ServerSentEvent(event=event.name, data=event.data, id=str(number))

    @made.delete("/jobs/{job_id}", status_code=202)
    async def cancel(job_id: str) -> JobStarted:
        """Cancel a job that waits or runs; one that has ended stays as it is."""
        return JobStarted(job=live.jobs.cancel(job_id).id)


def _info(run: Run) -> RunInfo:
    return RunInfo(
        id=run.id,
        flow=run.flow_id,
        title=run.title,
        model=run.model,
        weights=run.weights_name,
        prompt_tokens=run.flow.prompt_length,
        answer_tokens=run.answer_tokens,
        created=run.created,
        bytes=run.own_bytes + (run.shared.nbytes if run.shared is not None else 0),
        recorded=run.shared is not None,
        heads=list(run.heads) if run.heads is not None else None,
        notes=list(run.notes),
    )

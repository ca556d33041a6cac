"""The routes of `attributor serve` under /api. They respond immediately: long work runs as a job."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent

from attributor.web.http import ApiError
from attributor.web.live import prompts, run_jobs, views
from attributor.web.live.jobs import Job
from attributor.web.live.runs import LiveRun
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
from attributor.web.live.service import LiveService

__all__ = ["create_router"]


def create_router(live: LiveService) -> APIRouter:
    """Every route of `attributor serve`, the views of layers and heads included."""
    api = APIRouter(prefix="/api")
    _add_model_routes(api, live)
    _add_run_routes(api, live)
    _add_job_routes(api, live)
    api.include_router(views.create_router(live))
    return api


def _add_model_routes(api: APIRouter, live: LiveService) -> None:
    counter = prompts.TokenCounter()
    counting = asyncio.Lock()  # the page counts at every keystroke; parallel counts slow each other down

    @api.get("/model")
    async def model() -> ModelState:
        """The model, and the options of load requests."""
        return live.state()

    @api.post("/model", status_code=202)
    async def load(request: LoadRequest) -> JobStarted:
        """Load a model; it replaces the previous one."""
        return JobStarted(job=live.load(request).id)

    @api.post("/count")
    async def count(request: CountRequest) -> Counted:
        """Count the tokens of a prompt and its answer; both may be unfinished."""
        loaded = live.models.require_loaded()
        async with counting:
            prompt, answer = await run_in_threadpool(counter, loaded.tokenizer, request)
        return Counted(prompt_tokens=prompt, answer_tokens=answer, window=loaded.window, max_tokens=loaded.max_tokens)


def _add_run_routes(api: APIRouter, live: LiveService) -> None:
    @api.get("/runs")
    async def runs() -> Runs:
        """Every run, the newest first."""
        return Runs(runs=[_describe_run(run) for run in live.runs.all()], budget=live.runs.budget, used=live.runs.used)

    @api.post("/runs", status_code=202)
    async def run(request: RunRequest) -> JobStarted:
        """Let the model answer, or read the given answer, and follow it back to the prompt."""
        prompts.check_one_prompt(request)
        if not live.jobs.is_pending("load"):  # a run may wait for the model that is being loaded
            live.models.require_loaded()
        return JobStarted(job=live.jobs.submit("run", run_jobs.run_work(live, request)).id)

    @api.delete("/runs/{run_id}", status_code=204)
    async def remove(run_id: str) -> None:
        """Remove a run, and its recording unless another run shares it."""
        live.runs.remove(run_id)

    @api.post("/runs/{run_id}/weigh", status_code=202)
    async def weigh(run_id: str, request: WeighRequest) -> JobStarted:
        """Compute the flow of the same recording with other weights: a new run that shares the recording."""
        if (request.weights is None) == (request.heads is None):
            raise ApiError(422, "one_choice", "give either weights, by name, or heads, as [layer, head] pairs")
        source = live.runs.get(run_id)
        live.runs.get_shared(source)
        return JobStarted(job=live.jobs.submit("weigh", run_jobs.weigh_work(live, source, request)).id)


def _add_job_routes(api: APIRouter, live: LiveService) -> None:
    def find_job(job_id: str) -> Job:  # a dependency, so that an unknown job gets a 404 before a stream begins
        return live.jobs.get(job_id)

    @api.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
    async def events(
        job: Annotated[Job, Depends(find_job)], last_event_id: Annotated[str | None, Header()] = None
    ) -> AsyncIterator[ServerSentEvent]:
        """The events of a job, from the first one on, or after Last-Event-ID if a browser reconnects."""
        known = re.fullmatch("[0-9]{1,9}", last_event_id or "")
        start = 0 if known is None else int(known[0]) + 1
        async for number, event in job.listen(start):
            yield ServerSentEvent(event=event.name, data=event.data, id=str(number))

    @api.delete("/jobs/{job_id}", status_code=202)
    async def cancel(job_id: str) -> JobStarted:
        """Cancel a waiting or running job; a job that has ended stays unchanged."""
        return JobStarted(job=live.jobs.cancel(job_id).id)


def _describe_run(run: LiveRun) -> RunInfo:
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

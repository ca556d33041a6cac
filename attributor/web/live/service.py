"""Holds the state of one `attributor serve`: its settings, its jobs, the model, and the runs."""

import threading
from dataclasses import dataclass

from pydantic import ValidationError

from attributor._result import FlowView
from attributor.web.http import ApiError
from attributor.web.live import memory
from attributor.web.live.jobs import Job, Jobs
from attributor.web.live.model import Models, check_request
from attributor.web.live.runs import RunStore
from attributor.web.live.schema import LoadRequest, Memory, ModelState

__all__ = ["LiveService", "ServerSettings"]


@dataclass(frozen=True)
class ServerSettings:
    """The options of the command line.

    Attributes:
        model: loaded at the start: a hub id, a folder or a GGUF file; None loads nothing.
        max_tokens: prompt and answer together; None: the model's window.
        trust_remote_code: run Python code that comes with a model; an HTTP request cannot set it.
        allow_pickle: read weights in formats that can run code; an HTTP request cannot set it.
        memory_budget: bytes for recordings and flows; None: a quarter of the memory, at most 4 GiB.
    """

    model: str | None = None
    revision: str | None = None
    dtype: str = "auto"
    device_map: str | None = None
    max_tokens: int | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    memory_budget: int | None = None


class LiveService:
    """All state behind the routes of `attributor serve`.

    Attributes:
        settings: of the command line.
        runs: flows and recordings by opaque ids.
        jobs: the running job and the queue.
        models: the model in memory.
        compute: the lock of view computations: one runs at a time, in parallel with the running job.
    """

    def __init__(self, settings: ServerSettings | None = None) -> None:
        """Nothing is loaded before `start`."""
        self.settings = settings or ServerSettings()
        budget = self.settings.memory_budget
        self.runs = RunStore(memory.budget() if budget is None else budget)
        self.jobs = Jobs()
        self.models = Models(self.settings)
        self.compute = threading.Lock()

    def start(self) -> Job | None:
        """Start to load the model of the command line.

        Raises:
            ApiError: as `load`.
        """
        if self.settings.model is None:
            return None
        settings = self.settings
        try:
            request = LoadRequest(
                id=settings.model or "",
                revision=settings.revision,
                dtype=settings.dtype,  # type: ignore[arg-type]  # pydantic checks it
                device_map=settings.device_map,
                max_tokens=settings.max_tokens,
            )
        except ValidationError as error:
            problems = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())
            raise ApiError(400, "invalid_input", problems) from None
        return self.load(request)

    def load(self, request: LoadRequest) -> Job:
        """Queue the loading of a model.

        Raises:
            ApiError: a request that is refused, or a full queue.
        """
        return self.models.begin(check_request(request, self.settings), self.jobs.submit)

    def state(self) -> ModelState:
        """The model, and the options of load requests."""
        return self.models.state(Memory(budget=self.runs.budget, used=self.runs.used, total=memory.total()))

    def get_view(self, flow_id: str) -> FlowView:
        """A flow for the views; raises ApiError 404."""
        return self.runs.get_view(flow_id)

    def close(self) -> None:
        """End all jobs as failed, and accept no more."""
        self.jobs.close()

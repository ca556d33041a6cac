"""Holds the one model in memory: checks load requests, replaces the model and reports its state."""

import contextlib
import gc
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch

from attributor import _models
from attributor._heads import PresetName
from attributor.web.http import ApiError
from attributor.web.live import loading, memory
from attributor.web.live.jobs import Job, describe_failure
from attributor.web.live.loading import ModelSpec
from attributor.web.live.resolved_presets import ResolvedPresets
from attributor.web.live.schema import Dtype, LoadRequest, Memory, ModelState

if TYPE_CHECKING:
    from attributor.web.live.service import ServerSettings

__all__ = ["DTYPES", "LoadedModel", "Models", "check_request", "device_maps"]

DTYPES: tuple[Dtype, ...] = ("auto", "float32", "bfloat16", "float16")
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
NO_WINDOW = 8192  # tokens of prompt and answer together, for a model without a stated window


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that is ready.

    Attributes:
        model: in evaluation mode.
        tokenizer: its own.
        spec: the request that it was loaded for.
        presets: its head weights by name; they stay in use after the model is unloaded.
        window: the number of its positions, or None if it is unknown.
        max_tokens: prompt and answer together.
        parameters: how many numbers it has.
    """

    model: Any
    tokenizer: Any
    spec: ModelSpec
    presets: ResolvedPresets
    window: int | None
    max_tokens: int
    parameters: int
    device: str
    kv_heads: int
    nbytes: int = field(default=0)

    @classmethod
    def of(cls, model: Any, tokenizer: Any, spec: ModelSpec) -> "LoadedModel":
        """Collect the facts of a model that was just read."""
        presets = ResolvedPresets(model, tokenizer)
        window = presets.facts.window
        devices = sorted({str(parameter.device) for parameter in model.parameters()})
        return cls(
            model=model,
            tokenizer=tokenizer,
            spec=spec,
            presets=presets,
            window=window,
            max_tokens=spec.max_tokens or window or NO_WINDOW,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            device=", ".join(devices),
            kv_heads=presets.facts.kv_heads,
            nbytes=memory.weights_bytes(model),
        )


class Models:
    """Holds at most one model; the next one replaces it."""

    def __init__(self, settings: "ServerSettings") -> None:
        """`settings`: of the server; they hold the options that an HTTP request may not set."""
        self._settings = settings
        self._lock = threading.Lock()
        self._loaded: LoadedModel | None = None
        self._spec: ModelSpec | None = None
        self._error: str | None = None
        self._job: Job | None = None
        self._abandoned: threading.Thread | None = None  # still reads a model whose load was cancelled

    @property
    def loaded(self) -> LoadedModel | None:
        """The model that is ready, or None."""
        return self._loaded

    def require_loaded(self) -> LoadedModel:
        """The model that is ready.

        Raises:
            ApiError: 409, no model is loaded.
        """
        loaded = self._loaded
        if loaded is None:
            job = self._job
            wait = job is not None and not job.ended
            raise ApiError(
                409, "model_not_loaded", f"no model is loaded{' yet: wait for it' if wait else ': load one'}"
            )
        return loaded

    def begin(self, spec: ModelSpec, submit: Callable[[str, Any], Job]) -> Job:
        """Queue the loading of a model."""
        job = submit("load", lambda job: self._load_in_thread(spec, job))
        with self._lock:
            self._job, self._spec = job, spec
        return job

    def state(self, memory_state: Memory) -> ModelState:
        """The response of `GET /api/model`."""
        with self._lock:
            loaded, job, spec, error = self._loaded, self._job, self._spec, self._error
        loading_now = job is not None and not job.ended
        shown = spec if loading_now or loaded is None else loaded.spec
        ready = None if loading_now else loaded
        return ModelState(
            state="loading" if loading_now else "ready" if loaded else "failed" if error else "none",
            id=shown.id if shown else None,
            revision=shown.revision if shown else None,
            dtype=shown.dtype if shown else self._settings.dtype,
            device_map=shown.device_map if shown else self._settings.device_map or "cpu",
            device=ready.device if ready else None,
            layers=ready.presets.shape[0] if ready else None,
            heads=ready.presets.shape[1] if ready else None,
            kv_heads=ready.kv_heads if ready else None,
            window=ready.window if ready else None,
            max_tokens=ready.max_tokens if ready else shown.max_tokens if shown else self._settings.max_tokens,
            parameters=ready.parameters if ready else None,
            weights=list(get_args(PresetName)),
            default_model=self._settings.model or _models.DEFAULT_MODEL,
            dtypes=list(DTYPES),
            device_maps=device_maps(),
            job=job.id if job else None,
            error=None if loading_now else error,
            memory=memory_state,
        )

    def _load_in_thread(self, spec: ModelSpec, job: Job) -> Callable[[], dict[str, Any]]:
        """Load in a new thread; if the job is cancelled, the thread is abandoned, because it cannot be stopped."""
        with self._lock:
            self._error = None
        abandoned = self._abandoned
        while abandoned is not None and abandoned.is_alive():  # two models at once might not fit into memory
            job.stage("wait", label="Waiting for the model that was cancelled to stop loading")
            abandoned.join(0.05)
        box: list[Any] = []
        thread = threading.Thread(target=self._load, args=(spec, job, box), name="attributor load", daemon=True)
        self._abandoned = thread
        thread.start()
        while thread.is_alive():
            thread.join(0.05)
            job.check()
        job.check()
        result = box.pop()
        if isinstance(result, BaseException):
            with self._lock:
                self._error = describe_failure(result, "loading a model")["message"]
            raise result
        model, tokenizer = result
        loaded = LoadedModel.of(model, tokenizer, spec)

        def commit() -> dict[str, Any]:
            with self._lock:
                self._loaded = loaded
            return {"run": None, "flow": None}

        return commit

    def _load(self, spec: ModelSpec, job: Job, box: list[Any]) -> None:
        held = self._loaded.nbytes if self._loaded is not None else 0  # without a reference to the model
        try:
            result: Any = loading.load(spec, job, held, lambda: self._unload(job))
        except BaseException as error:  # raised again in the job's thread; Cancelled too
            result = error
        if not job.ended:
            box.append(result)

    def _unload(self, job: Job) -> None:
        job.check()
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.presets.forget_model()
            del loaded
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def device_maps() -> list[str]:
    """The values of device_map that this machine supports."""
    names = ["cpu", "auto"]
    with contextlib.suppress(RuntimeError):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names += ["cuda"] * bool(count)
        names += [f"cuda:{index}" for index in range(count)] if count > 1 else []
        if torch.backends.mps.is_available():
            names.append("mps")
    return names


def check_request(request: LoadRequest, settings: "ServerSettings") -> ModelSpec:
    """The model that an HTTP request names, checked before any file or hub access.

    Raises:
        ApiError: 400, an id, revision or device_map that is refused.
    """
    started = settings.model is not None and request.id == settings.model
    if not started:
        _check_id(request.id)
    revision = request.revision or None
    if revision is not None and (not REVISION.fullmatch(revision) or ".." in revision or revision.endswith(".lock")):
        raise ApiError(400, "invalid_revision", f"a revision is a branch, a tag or a commit, got {_quote(revision)}")
    device_map = request.device_map or "cpu"
    allowed = device_maps()
    if device_map not in (*allowed, settings.device_map):
        raise ApiError(
            400, "invalid_device_map", f"device_map must be one of {', '.join(allowed)}, got {_quote(device_map)}"
        )
    return ModelSpec(
        id=request.id,
        revision=revision,
        dtype=request.dtype,
        device_map=device_map,
        max_tokens=request.max_tokens,
        remote_code=settings.trust_remote_code,
        pickle=settings.allow_pickle,
    )


def _check_id(name: str) -> None:
    """Refuse everything but a hub id, also names that could be read as a path."""
    plain = HUB_ID.fullmatch(name) and ".." not in name and "--" not in name and not name.endswith((".git", ".gguf"))
    if not plain or not _models.is_hub_id(name):
        raise ApiError(
            400,
            "invalid_model",
            f"{_quote(name)} is no hub id (such as {_models.DEFAULT_MODEL}); a folder or a file can only be named on "
            "the command line: attributor serve --model PATH",
        )
    if Path(name).exists():
        raise ApiError(
            400,
            "invalid_model",
            f"{_quote(name)} is also a folder where this server runs; name it on the command line, or start elsewhere",
        )


def _quote(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")

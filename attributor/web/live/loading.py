"""Loads a model by its name in stages; a job reports each stage and can cancel it."""

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attributor import _models
from attributor._errors import AttributorError, DeviceMemoryError, InputError, ModelLoadError
from attributor._flow import is_out_of_memory
from attributor._models import accepts_argument, silence_transformers, window_of
from attributor._record import check_decoder, check_recordable
from attributor.web.live import memory
from attributor.web.live.jobs import Job
from attributor.web.live.runs import format_bytes

__all__ = ["ModelSpec", "load"]

SMALL = (".json", ".model", ".txt", ".jinja", ".tiktoken")  # configuration and tokenizer


@dataclass(frozen=True)
class ModelSpec:
    """The model that was requested, every field checked.

    Attributes:
        id: hub id, or the folder or GGUF file that the server was started with.
        device_map: "cpu", or as transformers takes it.
        max_tokens: prompt and answer together; None: the model's window.
        remote_code: run code that comes with the model.
        pickle: read weights that are not safetensors; these may run code too.
    """

    id: str
    revision: str | None = None
    dtype: str = "auto"
    device_map: str = "cpu"
    max_tokens: int | None = None
    remote_code: bool = False
    pickle: bool = False


def load(spec: ModelSpec, job: Job, held: int, unload: Callable[[], None]) -> tuple[Any, Any]:
    """Find the model, download it if it is not on this machine, and read it: (model, tokenizer).

    Args:
        spec: the model.
        job: reports the stages find, download, read and check.
        held: bytes of the previous model.
        unload: drops the previous model; called after all checks that need no weights.

    Raises:
        AttributorError: the model cannot be loaded.
        Cancelled: at the next step after the job was cancelled.
    """
    job.stage("find", label=f"Looking for {spec.id}")
    place = _models.locate_model(spec.id, spec.revision, False)
    job.check()
    if place.network:
        _download(spec, job, held)
        place = _models.locate_model(spec.id, spec.revision, False)
    folder = _find_folder(spec, place.target)
    counts = memory.count_stored_numbers(folder) if folder is not None and place.gguf_file is None else {}
    if folder is not None and place.gguf_file is None:
        _check_family(folder, spec)
    if folder is not None and place.gguf_file is None and not spec.pickle:
        check_safetensors(spec.id, (path.name for path in folder.iterdir()))
    job.check()
    memory.check_fits(spec.id, counts, spec.dtype, spec.device_map, held)
    unload()
    job.stage("read", label="Reading the weights")
    model, tokenizer = _read(spec, job)
    job.stage("check", label="Checking that its attention can be recorded")
    check_decoder(model)
    check_recordable(model)
    check_max_tokens(spec, window_of(model))
    return model, tokenizer


def _read(spec: ModelSpec, job: Job) -> tuple[Any, Any]:
    try:
        with _report_reading(job):
            return _models.load_model(
                spec.id,
                dtype=spec.dtype,
                device_map=None if spec.device_map == "cpu" else spec.device_map,
                revision=spec.revision,
                trust_remote_code=spec.remote_code,
                progress=False,
                safetensors_only=not spec.pickle,
            )
    except ModelLoadError as error:
        if error.__cause__ is not None and is_out_of_memory(error.__cause__):
            raise DeviceMemoryError(
                f"{spec.id}: memory ran out while its weights were read: take dtype bfloat16 or a smaller model, or "
                "free memory"
            ) from None
        message = str(error).replace("pass trust_remote_code=True if", "start the server with --trust-remote-code if")
        raise ModelLoadError(message) from error


def check_max_tokens(spec: ModelSpec, window: int | None) -> None:
    """Refuse more tokens than the model has positions.

    Raises:
        InputError: more tokens than positions; the message has both numbers.
    """
    if spec.max_tokens is not None and window is not None and spec.max_tokens > window:
        raise InputError(
            f"max tokens {spec.max_tokens:,} is more than the window of {spec.id}, {window:,} tokens: give "
            f"{window:,} or less, or none at all"
        )


def check_safetensors(name: str, files: Iterable[str]) -> None:
    """Refuse a model whose weights are in a format that can run code while it is read.

    Raises:
        ModelLoadError: all weights are in such a format.
    """
    names = list(files)
    pickles = [file for file in names if file.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
    if pickles and not any(file.endswith(".safetensors") for file in names):
        raise ModelLoadError(
            f"{name}: its weights ({pickles[0]}) are in a format that can run code while it is read; take a model with "
            "safetensors weights, or start the server with --allow-pickle if you trust it"
        )


def _check_family(folder: Path, spec: ModelSpec) -> None:
    """Refuse models by their configuration alone, before weights are downloaded and read.

    Raises:
        UnsupportedModelError: a family that cannot be recorded.
        InputError: more max tokens than the model has positions.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    kinds: Any = AutoModelForCausalLM
    try:
        with silence_transformers(), torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            empty = kinds.from_config(config)
    except Exception:  # a broken configuration, or one that needs a flag: loading raises its own error
        return
    check_decoder(empty, weights=False)
    check_recordable(empty)
    check_max_tokens(spec, window_of(empty))


def _find_folder(spec: ModelSpec, target: str) -> Path | None:
    """The folder of the model's files."""
    path = Path(target).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import try_to_load_from_cache

    config_file = try_to_load_from_cache(target, "config.json", revision=spec.revision)
    return Path(config_file).parent if isinstance(config_file, str) else None


def _download(spec: ModelSpec, job: Job, held: int) -> None:
    """Download configuration, tokenizer and weights from the hub into its cache, with progress in bytes."""
    import huggingface_hub as hub

    place = _models.ModelLocation(spec.id, network=True)
    try:
        with silence_transformers():
            info = hub.HfApi().model_info(spec.id, revision=spec.revision, files_metadata=True, timeout=20)
            job.check()
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
            if not spec.pickle:
                check_safetensors(spec.id, sizes)
            parameters = getattr(info.safetensors, "parameters", None) or {}
            memory.check_fits(spec.id, parameters, spec.dtype, spec.device_map, held)
            small, weights = _list_needed_files(sizes, spec)
            total = sum(sizes[name] for name in [*small, *weights])
            done = 0
            for name in [*small, *weights]:
                if name in weights[:1]:
                    folder = _find_folder(spec, spec.id)
                    if folder is not None:
                        _check_family(folder, spec)
                _fetch(spec, name, job, done, total)
                done += sizes[name]
    except Exception as error:  # the hub's client raises many kinds of errors
        if isinstance(error, AttributorError):
            raise
        if _models.is_default_model(spec.id, spec.revision) and _models.is_connection_failure(error, place):
            return  # load_model has another source for this model
        reason = _models.failure_reason(error, spec.id, place, None)
        raise ModelLoadError(f"{spec.id}: {reason}") from error


def _list_needed_files(sizes: dict[str, int], spec: ModelSpec) -> tuple[list[str], list[str]]:
    """The needed files of a repository: small files, and the weights in one format."""
    weights = [name for name in sizes if name.endswith(".safetensors")]
    weights = [name for name in weights if name.startswith("model")] or weights
    if not weights and spec.pickle:
        weights = [name for name in sizes if name.startswith("pytorch_model") and name.endswith(".bin")]
    small = [name for name in sizes if name.endswith(SMALL) or (spec.remote_code and name.endswith(".py"))]
    return sorted(small), sorted(weights)


def _fetch(spec: ModelSpec, name: str, job: Job, done: int, total: int) -> None:
    """Download one file; its progress is reported in bytes of all files."""
    import huggingface_hub as hub

    label = f"Downloading {format_bytes(total)}"
    job.stage("download", done, total, label)
    options: dict[str, Any] = {}
    if accepts_argument(hub.hf_hub_download, "tqdm_class"):
        shown: Any = importlib.import_module("huggingface_hub.utils").tqdm

        class DownloadProgress(shown):  # type: ignore[misc]
            """An invisible progress bar that reports to the job."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs["disable"] = True
                super().__init__(*args, **kwargs)
                self.reached = int(kwargs.get("initial") or 0)

            def update(self, n: float | None = 1) -> bool | None:
                self.reached += int(n or 0)
                job.stage("download", min(done + self.reached, total), total, label)
                return None

        options["tqdm_class"] = DownloadProgress
    hub.hf_hub_download(spec.id, name, revision=spec.revision, **options)


@contextlib.contextmanager
def _report_reading(job: Job) -> Iterator[None]:
    """Report to the job how many weights were read, if transformers' progress bars can be replaced."""
    chatter: Any = importlib.import_module("transformers.utils.logging")
    replace = getattr(chatter, "set_tqdm_hook", None)
    if replace is None:
        yield
        return
    before = replace(lambda factory, args, kwargs: _ReadingProgress(job, *args, **kwargs))
    try:
        yield
    finally:
        replace(before)


class _ReadingProgress:
    """Replaces transformers' progress bar and reports to the job."""

    def __init__(self, job: Job, items: Any = None, *_: Any, **options: Any) -> None:
        self._job, self._items, self._done = job, items, 0
        total = options.get("total")
        self._total = int(total) if total is not None else len(items) if hasattr(items, "__len__") else 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._items or ():
            yield item
            self.update()

    def update(self, n: float | None = 1) -> None:
        self._done += int(n or 0)
        self._job.stage("read", self._done, self._total, "Reading the weights")

    def __enter__(self) -> "_ReadingProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None  # other methods of a bar: set_description, refresh, close ...

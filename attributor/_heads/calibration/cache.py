"""Calibrate models without shipped heads once, and keep their heads in the user's cache folder."""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from attributor import _models
from attributor._errors import FileFormatError, InputError, OutputError, UnsupportedModelError
from attributor._heads.calibration.calibrate import COUNT, SEED, measure_heads
from attributor._heads.calibration.choose import choose_heads, rank_heads
from attributor._heads.calibration.head_scores import Progress
from attributor._heads.calibration.model_digest import model_digest
from attributor._heads.calibration.progress_bar import ProgressBar
from attributor._heads.weights import Weights
from attributor._models import cache_folder, model_id, silence_transformers
from attributor._record import check_decoder, check_recordable

__all__ = ["cache_path", "load_or_calibrate", "save_weights"]

log = logging.getLogger("attributor")
_weights_by_digest: dict[str, Weights] = {}  # of this process; also used if the folder cannot be written to


def cache_path(model: Any) -> Path:
    """The file in which the heads of this model are cached."""
    return _path(model, model_digest(model))


def _path(model: Any, key: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9.]+", "-", Path(model_id(model)).name or type(model).__name__).strip("-.")
    return cache_folder() / "heads" / f"{name[:60]}-{key[:16]}.safetensors"


def load_or_calibrate(
    model: Any, tokenizer: Any = None, *, digest: str | None = None, progress: Progress | None = None
) -> Weights:
    """The retrieval heads of this model: from the cache, else found now and cached.

    Concurrent processes wait for the first one and share its result. If the folder cannot be written to, a note is
    logged, and the heads are kept only until the process ends.

    Args:
        model: a transformers decoder-only model.
        tokenizer: its tokenizer; None loads it from the model's source.
        digest: its `weights_digest`, if that is known already.
        progress: as in `calibrate`; None shows a bar if stderr is a terminal, else logs one line.

    Raises:
        InputError: there is no tokenizer, or the model cannot be calibrated.
        UnsupportedModelError: attention that cannot be recorded, or weights that cannot be read.
    """
    check_decoder(model)
    key = model_digest(model, digest)
    if key in _weights_by_digest:
        return _weights_by_digest[key]
    path = _path(model, key)
    weights = _load(path)
    if weights is None:
        _check_recordable(model)
        tokenizer = _load_tokenizer(model) if tokenizer is None else tokenizer
        with _lock(path) as can_save:
            weights = _load(path) if can_save else None  # another process was first
            if weights is None:
                weights = _calibrate(model, tokenizer, path if can_save else None, progress)
                if can_save:
                    _try_to_save(weights, path)
    _weights_by_digest[key] = weights
    return weights


def _check_recordable(model: Any) -> None:
    try:
        check_recordable(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"retrieval heads can only be found in models that can be recorded: {error}"
        ) from error


def save_weights(weights: Weights, path: Path) -> None:
    """Save weights; create the folder if it does not exist.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write weights to {path}: {error.strerror or error}") from error
    weights.save(path)


def _load(path: Path) -> Weights | None:
    try:
        return Weights.load(path)
    except FileNotFoundError:
        return None
    except FileFormatError as error:  # of a newer version, or damaged: the file is replaced
        log.warning("%s; the heads are found anew", error)
        return None


def _try_to_save(weights: Weights, path: Path) -> None:
    try:
        save_weights(weights, path)
    except OutputError as error:
        log.warning("the heads that were found are not kept: %s", error)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold the lock of `path`; yields False if the folder cannot be written to, so that nothing can be cached."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("waiting for another process that finds the heads of the same model")
            lock.acquire()
    except OSError as error:
        log.warning(
            "the heads that are found now cannot be kept in %s (%s); set ATTRIBUTOR_CACHE to a folder that can be "
            "written to",
            path.parent,
            error.strerror or error,
        )
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _calibrate(model: Any, tokenizer: Any, path: Path | None, progress: Progress | None) -> Weights:
    name = model_id(model) or type(model).__name__
    with ProgressBar(f"Finding the heads of {name} that retrieve", delay=2.0) as bar:
        if progress is None and not bar.shown:
            log.warning(
                "finding the heads of %s that retrieve, once, by having it read %d generated prompts%s",
                name,
                COUNT,
                f"; they are kept in {path}" if path else "",
            )
        scores = measure_heads(model, tokenizer, progress=progress or bar)
    best, chance = rank_heads(scores)[0][2], float(scores.chance.mean())
    if best < 2 * chance:
        log.warning(
            "no head of %s finds what it should in the generated prompts (average precision %.2f at best, %.2f by "
            "chance), so its flow through retrieval heads says little",
            name,
            best,
            chance,
        )
    return choose_heads(scores, seed=SEED)


def _load_tokenizer(model: Any) -> Any:
    """Load the tokenizer from the model's source, by the rules of `load_model`."""
    name = str(getattr(model, "name_or_path", "") or "")
    revision = getattr(model.config, "_commit_hash", None)
    try:
        if not name:
            raise InputError("the model was not loaded from anywhere")
        place = _models.locate_model(name, revision, False)
        options = {"revision": revision} if revision else {}
        with silence_transformers():
            return _models.load_tokenizer(place.target, local_files_only=not place.network, **options)
    except Exception as error:  # transformers raises many kinds if there is no tokenizer
        raise InputError(
            f"no retrieval heads are known for {name or 'this model'} yet, and finding them needs its tokenizer "
            f"({(str(error).splitlines() or [type(error).__name__])[0]}): pass tokenizer=, or pass the file that "
            "`attributor calibrate --model MODEL --out FILE` writes as weights="
        ) from error

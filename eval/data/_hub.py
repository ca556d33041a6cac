"""Reads the examples of a data set on the Hugging Face hub."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from attributor._errors import InputError
from attributor.eval.data._fields import Example
from attributor.eval.data._registry import DataSet

__all__ = ["read_hub"]

LOCAL = "name a local .json or .jsonl file of it instead"


def read_hub(data_set: DataSet, config: str, split: str, limit: int | None) -> tuple[str, Iterator[Example]]:
    """Return a name for reports, and the examples.

    With a limit, only that many examples are fetched, unless the data set is in the cache.

    Raises:
        InputError: an unknown configuration or split, or a hub that cannot be reached.
    """
    hub, splits = data_set.hub, data_set.splits
    if config not in splits:
        raise InputError(f"unknown configuration {config!r} of {hub}; there are {', '.join(splits)}")
    if split.partition("[")[0] not in splits[config]:
        raise InputError(f"unknown split {split!r} of {hub}, {config}; there are {', '.join(splits[config])}")
    try:
        import datasets  # type: ignore[import-untyped]  # takes seconds, and local files do not need it
    except ImportError as error:
        raise InputError(f"{hub} needs the package datasets: pip install 'attributor[eval]'; or {LOCAL}") from error
    label = f"{hub}, {config}, {split}"
    cached = Path(datasets.config.HF_DATASETS_CACHE, hub.replace("/", "___"), config).is_dir()
    streaming = limit is not None and not cached and "[" not in split  # a slice cannot be streamed
    try:
        examples = datasets.load_dataset(hub, config, split=split, streaming=streaming)
        return label, iter(list(islice(examples, limit)) if streaming else examples)
    except Exception as error:  # each layer (hub, http, file systems, arrow) raises its own errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{label} cannot be loaded from the hub ({reason}); {LOCAL}") from error

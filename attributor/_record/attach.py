"""Attach a recorder to a model: its forward passes, its generate(), and the ids that it reads."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel

from attributor._record.attention_interface import Session, decoder_of, exclude_from_compile, is_attached, open_session
from attributor._record.embedding import EmbeddingWatch, are_ids
from attributor._record.history import GenerateCall, ReadIds
from attributor._record.model_state import model_state
from attributor._record.recorder import Recorder

__all__ = ["attach_recorder", "override"]


@contextmanager
def attach_recorder(model: Any, recorder: Recorder) -> Iterator[None]:
    """Run the attention of the model's outermost calls through `recorder`; restore the model on exit.

    Raises:
        RecordingError: the model is being recorded already.
    """
    with ExitStack() as stack:
        session = stack.enter_context(open_session(model, recorder))
        watch = _ForwardPasses(session, recorder, model)
        stack.callback(watch.close)
        for module in _models_around_decoder(model):
            override(stack, module, "forward", watch.wrap(module))
        generating = next((m for m in model.modules() if isinstance(m, GenerationMixin)), model)
        recorder.calls.generator = generating
        stack.callback(setattr, recorder, "cache", None)
        stack.callback(setattr, recorder.calls, "generator", None)
        if hasattr(generating, "generate"):
            override(stack, generating, "generate", _watch_generate(generating, recorder))
        if hasattr(generating, "prepare_inputs_for_generation"):
            override(stack, generating, "prepare_inputs_for_generation", _watch_preparation(generating, recorder))
        yield


def _models_around_decoder(model: Any) -> list[Any]:
    """The transformers models that hold the decoder, outermost first, and the decoder itself."""
    decoder = decoder_of(model)
    models = [m for m in model.modules() if isinstance(m, PreTrainedModel) and any(x is decoder for x in m.modules())]
    return models if any(m is decoder for m in models) else [*models, decoder]


def override(stack: ExitStack, owner: Any, name: str, function: Callable[..., Any]) -> None:
    """Set a function on an instance until the stack unwinds."""
    if name in vars(owner):  # as wrappers set it
        stack.callback(setattr, owner, name, vars(owner)[name])
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, function)


class _ForwardPasses:
    """Wraps each forward pass of a recorded model."""

    def __init__(self, session: Session, recorder: Recorder, model: Any) -> None:
        self._session = session
        self._recorder = recorder
        self._model = model
        self._decoder = decoder_of(model)
        self._embedding = EmbeddingWatch(model, recorder.calls)
        self._ids: Tensor | None = None  # the input of the outermost module

    def close(self) -> None:
        """Remove the hook of the embedding."""
        self._embedding.close()

    def wrap(self, module: Any) -> Callable[..., Any]:
        """A forward pass of `module` that reports recorded calls to the recorder."""
        inner = module.forward
        names = list(inspect.signature(inner).parameters)

        def read(*args: Any, **kwargs: Any) -> Any:
            with self._recorder.calls.track_read(module) as (recorded, outermost):
                if not recorded or not is_attached(self._session):
                    return inner(*args, **kwargs)
                arguments = dict(zip(names, args, strict=False)) | kwargs
                if outermost:
                    self._begin(arguments)
                if module is self._decoder:
                    with self._recorder.forward_pass(partial(self._read_ids, arguments)):
                        output = inner(*args, **kwargs)
                else:
                    output = inner(*args, **kwargs)
                if outermost:
                    self._recorder.cache = getattr(output, "past_key_values", None)
                logits = getattr(output, "logits", None)
                if outermost and isinstance(logits, Tensor):
                    self._recorder.check_logits(logits[:, -1])
                return output

        uncompiled = exclude_from_compile(read)

        @wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:  # torch.compile traces this one and shows the reason
            return uncompiled(*args, **kwargs)

        return forward

    def _begin(self, arguments: dict[str, Any]) -> None:
        ids, recorder = arguments.get("input_ids"), self._recorder
        if recorder.weights.value_norms or not (are_ids(ids) and ids.shape[1] == 1):  # not for each written token
            recorder.note_state(model_state(self._model))
        self._ids = ids.detach() if are_ids(ids) else None
        self._embedding.begin()
        if arguments.get("output_attentions") or getattr(self._decoder.config, "output_attentions", False):
            warn_of_attentions()

    def _read_ids(self, arguments: dict[str, Any], start: int) -> ReadIds | None:
        """The ids that the decoder reads from cache position `start` on, called after it has embedded them.

        None if its embeddings do not belong to as many ids.
        """
        embeddings, lookup = arguments.get("inputs_embeds"), self._embedding.last
        if lookup is None:
            return None
        replaced = None
        if isinstance(embeddings, Tensor):
            ids = self._ids
            if lookup.vectors.shape != embeddings.shape:
                return None
            replaced = (self._embedding.original(lookup).to(embeddings.device) != embeddings.detach()).any(-1)
        else:
            ids = arguments.get("input_ids")
            if not are_ids(ids) or ids.shape != lookup.ids.shape:
                return None
        if ids is None or ids.shape != lookup.ids.shape:
            ids = lookup.ids
        elif ids is not lookup.ids:  # some models embed another id for an image
            changed = ids.to(lookup.ids.device) != lookup.ids
            replaced = changed if replaced is None else replaced | changed.to(replaced.device)
        begins_with_one = ids.shape[1] == 1 and start == 0
        varying = self._embedding.compare_orders(lookup) if begins_with_one else self._embedding.varying
        return ReadIds(ids.detach(), replaced, varying)


def _watch_generate(model: Any, recorder: Recorder) -> Callable[..., Any]:
    """A generate() that also records where its answer begins and which ids end it; forward passes do not show this."""
    generate = model.generate

    @wraps(generate)
    def watched_generate(*args: Any, **kwargs: Any) -> Any:
        with recorder.calls.track_generate() as recorded:
            if not recorded:
                return generate(*args, **kwargs)
            named = dict(zip(("inputs", "generation_config"), args, strict=False)) | kwargs
            if _setting(model, named, "output_attentions"):
                warn_of_attentions()
            end, pad = (_setting(model, named, name) for name in ("eos_token_id", "pad_token_id"))
            recorder.generate_call = GenerateCall(
                prompt_length=_prompt_length(named),
                end_ids=() if end is None else tuple(int(i) for i in torch.as_tensor(end).reshape(-1)),
                pad_id=None if pad is None else int(pad),
            )
            try:
                out = generate(*args, **kwargs)
            finally:
                recorder.generate_call = None
            recorder.note_written(getattr(out, "sequences", out))
            return out

    return watched_generate


def _setting(model: Any, arguments: dict[str, Any], name: str) -> Any:
    """A setting of generate(): from its arguments, their generation_config, or the model's."""
    if name in arguments:
        return arguments[name]
    value = getattr(arguments.get("generation_config"), name, None)
    return getattr(model.generation_config, name, None) if value is None else value


def _prompt_length(arguments: dict[str, Any]) -> int | None:
    """Positions of the prompt, including those in a cache; None if generate() was given no ids."""
    ids = arguments.get("inputs")
    ids = arguments.get("input_ids") if ids is None else ids
    if not are_ids(ids):
        return None
    length, mask = ids.shape[1], arguments.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return max(length, mask.shape[1])
    cache = arguments.get("past_key_values")
    cached = 0 if cache is None or not hasattr(cache, "get_seq_length") else int(cache.get_seq_length())
    return cached + length if length <= cached else length  # else the ids include the cached tokens


def _watch_preparation(model: Any, recorder: Recorder) -> Callable[..., Any]:
    """A prepare_inputs_for_generation() that is recorded: it makes a static cache's masks before the forward pass."""
    prepare = model.prepare_inputs_for_generation

    @wraps(prepare)
    def watched_preparation(*args: Any, **kwargs: Any) -> Any:
        with recorder.calls.track_preparation():
            return prepare(*args, **kwargs)

    return watched_preparation


def warn_of_attentions() -> None:
    """Warn that a recorded call returns no attention matrices."""
    warnings.warn(
        "output_attentions=True returns no attention matrices inside a recording, which never forms them; "
        "recording.attention(layer, heads, positions) gives rows of them",
        stacklevel=4,
    )

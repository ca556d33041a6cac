"""Read a prompt and its answer; compute the gradient of the answer's log-probability for a gate on every key."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from attributor._effects.gradient_pass import GradientPass, attach_gradient_pass
from attributor._errors import NumericsError, UnsupportedModelError
from attributor._models import text_config, token_log_probs
from attributor._record import decoder_of, override

__all__ = ["GradientTask", "KeyEffects", "read_context", "run_gradient"]

CHECKPOINT_FROM = 4 << 30  # bytes of activations; for more, layers are checkpointed

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class GradientTask:
    """The inputs of one gradient pass.

    Attributes:
        ids: (k + a,) int64, the prompt and the answer's tokens up to the last one that counts.
        prompt_length: k.
        first: the first of the answer's tokens that counts, from 0.
        stops: (k + a - 1,) int64, for each position the first row that counts for its key.
        start: the first row that counts at all; earlier rows are read without a gradient.
        impl: an implementation of removal_step.
        progress: called with ("gradient", layers done, layers).
    """

    ids: Tensor
    prompt_length: int
    first: int
    stops: Tensor
    start: int = 0
    impl: str | None = None
    progress: Progress | None = None

    @property
    def read_ids(self) -> Tensor:
        """(N,) what the model reads: nothing is predicted from the last token."""
        return self.ids[:-1]

    @property
    def answer(self) -> Tensor:
        """(a',) the answer's tokens that count."""
        return self.ids[self.prompt_length + self.first :]

    @property
    def rows(self) -> Tensor:
        """(a',) the positions that predict them."""
        return torch.arange(self.prompt_length + self.first - 1, len(self.ids) - 1)


@dataclass(frozen=True, eq=False)
class KeyEffects:
    """The result of one gradient pass.

    Attributes:
        tokens: (N,) float64, c of each position that was read.
        log_probs: (a',) float64, log p of the answer's tokens that count.
    """

    tokens: Tensor
    log_probs: Tensor


def run_gradient(model: Any, task: GradientTask, cache: Any = None) -> KeyEffects:
    """One forward and one backward pass.

    Args:
        model: a transformers decoder-only model that can be recorded.
        task: what is read, and what counts.
        cache: of the model, with at least the keys and values of the positions before `task.start`; it is not changed.
            If it is None or unusable, these positions are read again.

    Raises:
        UnsupportedModelError: a module without a gradient, by name; attention that cannot be recorded.
        NumericsError: a gradient that is NaN or infinite.
        RecordingError: the model is being recorded.
    """
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise UnsupportedModelError(
            f"{type(model).__name__} was made in torch.inference_mode(), so its parameters take part in no gradient; "
            "load it outside of inference mode"
        )
    dtype = getattr(model, "dtype", torch.float32)
    reader = GradientPass(task.stops, dtype=dtype, impl=task.impl, progress=task.progress)
    options: dict[str, Any] = {}
    with ExitStack() as stack:
        # the caller may compute without gradients; autograd rejects tensors that were made in inference mode
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        task = replace(task, ids=task.ids.clone())
        ids, start = task.read_ids, task.start
        stack.enter_context(attach_gradient_pass(model, reader))
        if start > 0 and activation_bytes(model, len(ids) - start) > CHECKPOINT_FROM:
            # layers that write to a cache cannot be checkpointed: read all rows, but count none before `start`
            reader.stops, start = reader.stops.clamp(min=start), 0
        if start > 0:
            context = None if cache is None else copy_context(cache, start)
            if context is None:
                context = _read_context(model, reader, ids[:start])
            options = {"past_key_values": context, "use_cache": True}
        elif activation_bytes(model, len(ids)) > CHECKPOINT_FROM:
            stack.enter_context(_checkpoint_layers(model))
        leaf = stack.enter_context(_start_graph(model, reader))
        with reader.forward_pass():
            log_probs = token_log_probs(model, ids[None, start:], task.rows[None] - start, task.answer, **options)[0]
        total = log_probs.sum()
        if not total.requires_grad or not leaf:
            raise UnsupportedModelError(
                f"the answer's log-probability has no gradient with respect to the embeddings of {type(model).__name__}"
            )
        if not bool(torch.isfinite(total)):
            raise NumericsError(f"the answer's log-probability is {float(total.detach())}, so nothing can explain it")
        try:
            torch.autograd.grad(total * reader.loss_scale, leaf[-1])
        except (NotImplementedError, RuntimeError) as error:
            if "derivative" not in str(error) and "not implemented" not in str(error):
                raise
            raise UnsupportedModelError(
                f"{type(model).__name__} has a module without a gradient: {str(error).splitlines()[0]}"
            ) from error
    return KeyEffects(reader.result(), log_probs.detach())


@contextmanager
def _start_graph(model: Any, reader: GradientPass) -> Iterator[list[Tensor]]:
    """Start the graph at the embedding's output, in the pass's own calls; yields the list of these outputs."""
    outputs: list[Tensor] = []

    def begin(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        if not reader.calls.recorded:  # a call of another thread
            return output
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    handle = model.get_input_embeddings().register_forward_hook(begin)
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def _checkpoint_layers(model: Any) -> Iterator[None]:
    """Keep only the input of every decoder layer; the backward pass runs the layer again."""
    with ExitStack() as stack:
        for module in decoder_of(model).modules():
            if isinstance(module, GradientCheckpointingLayer):
                override(stack, module, "forward", partial(checkpoint, module.forward, use_reentrant=False))
        yield


def activation_bytes(model: Any, count: int) -> int:
    """Estimate the bytes that a backward pass keeps for `count` tokens.

    A layer keeps about eight tensors of the hidden size and four of the MLP's; more with several experts per token.
    """
    config = text_config(model)
    hidden = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    inner = inner if isinstance(inner, int) else max(inner)
    size = getattr(model, "dtype", torch.float32).itemsize
    return int(config.num_hidden_layers * count * (8 * hidden + 4 * inner) * size)


def read_context(model: Any, ids: Tensor, cache: Any = None) -> DynamicCache:
    """A cache of the tokens ids (n,), which `run_gradient` can use for several answers after them.

    Args:
        model: as in `run_gradient`.
        ids: n >= 1 tokens, from the first one on.
        cache: of the model, with their keys and values; if it is None or unusable, they are read.

    Raises:
        UnsupportedModelError, RecordingError: as `run_gradient`.
    """
    context = None if cache is None else copy_context(cache, len(ids))
    if context is None:
        reader = GradientPass(torch.arange(1, len(ids) + 1), dtype=getattr(model, "dtype", torch.float32))
        with attach_gradient_pass(model, reader):
            context = _read_context(model, reader, ids)
    return context


@torch.no_grad()
def _read_context(model: Any, reader: GradientPass, ids: Tensor) -> DynamicCache:
    """Read the ids (n,) into a cache that drops no keys, also of layers with a window."""
    cache = DynamicCache()
    with reader.forward_pass():
        token_log_probs(
            model, ids[None], torch.tensor([[len(ids) - 1]]), ids[-1:], past_key_values=cache, use_cache=True
        )
    return cache


def copy_context(cache: Any, length: int) -> DynamicCache | None:
    """A cache of the first `length` positions that shares its tensors with the model's cache.

    None if the model's cache does not hold their original keys, e.g. because it drops keys outside a window or rounds.
    """
    layers = getattr(cache, "layers", None)
    if not layers or not all(type(layer).__name__ in ("DynamicLayer", "StaticLayer") for layer in layers):
        return None
    context = DynamicCache()
    for index, layer in enumerate(layers):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if (
            not isinstance(keys, Tensor)
            or not isinstance(values, Tensor)
            or keys.ndim != 4
            or keys.shape[0] != 1
            or layer.get_seq_length() < length
        ):
            return None
        context.update(keys[:, :, :length].detach(), values[:, :, :length].detach(), index)
    return context

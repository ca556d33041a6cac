"""One forward and one backward pass that add up c, the gradient with respect to a gate on each key.

While a `GradientPass` is attached, attention runs forward as in a recording. In the backward pass each layer receives
dO, the gradient of its output. It calls `removal_step` with dO, query, key and value, and passes the gradient on.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attributor._errors import NumericsError, UnsupportedModelError
from attributor._record import (
    Mask,
    attention,
    attention_gradient,
    classify_mask,
    layer_names,
    open_session,
)
from attributor._step import removal_step

__all__ = ["GradientPass", "attach_gradient_pass"]

Progress = Callable[[str, int, int], None]
NODES = 8  # nodes of the graph behind a module's output that are checked; its own operation is among them
LOSS_SCALE = {torch.float16: 1024.0}  # gradients below 2^-24 would be 0 in float16


@dataclass(eq=False)
class GradientCalls:
    """Which calls of the model belong to a gradient pass: those of its thread, while it runs forward."""

    active: bool = False
    paused = False
    _owner: threading.Thread = field(default_factory=threading.current_thread)

    @property
    def recorded(self) -> bool:
        """Whether this thread is inside the forward pass."""
        return self.active and threading.current_thread() is self._owner


@dataclass(frozen=True, eq=False)
class LayerCall:
    """The parameters of one layer's attention that the backward pass needs, in addition to tensors."""

    index: int
    mask: Mask
    scale: float
    softcap: float | None
    sink: Tensor | None


class GradientPass:
    """Adds up c[j] = sum_(l, h, i >= stops[j]) P_ij (dO_i . v_j - dO_i . o_i) over the layers of a backward pass.

    Attributes:
        stops: (N,) int64, for each position j the first row that counts for it, more than j.
        loss_scale: the factor on the incoming gradient.
    """

    follows_masks = True  # checkpointed layers run again in the backward pass, perhaps in another thread

    def __init__(
        self,
        stops: Tensor,
        *,
        dtype: torch.dtype = torch.float32,
        impl: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Nothing is computed yet; `dtype` is the model's."""
        self.stops = stops
        self.loss_scale = LOSS_SCALE.get(dtype, 1.0)
        self.calls = GradientCalls()
        self._impl = impl
        self._progress = progress
        self._ran: list[int] = []
        self._counted: list[int] = []
        self._sums: dict[torch.device, Tensor] = {}  # (N,) float64
        self._finite: dict[int, Tensor] = {}  # 0-dim bool, by layer

    @property
    def in_layers(self) -> bool:
        """Whether a layer of the forward pass has attended."""
        return bool(self._ran)

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Model calls inside this context belong to the pass."""
        self.calls.active, self._ran = True, []
        try:
            yield
        finally:
            self.calls.active = False

    def layer(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask,
        *,
        scale: float,
        softcap: float | None,
        sink: Tensor | None,
    ) -> Tensor:
        """The attention output (1, H, Q, Dv) of one layer, with a gradient."""
        index = int(module.layer_idx)  # type: ignore[arg-type]
        if self.calls.active:
            if index in self._ran:
                raise UnsupportedModelError(
                    f"layer {index} attends twice in one forward pass; effects follow models that run each layer once"
                )
            self._ran.append(index)
        call = LayerCall(index, mask, scale, softcap, None if sink is None else sink.detach())
        output: Tensor = _Attention.apply(query, key, value, call, self)  # type: ignore[no-untyped-call]
        return output

    def count(
        self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, d_output: Tensor
    ) -> None:
        """Add one layer's share: tensors as `attention_gradient` takes them."""
        self._finite[call.index] = torch.isfinite(d_output).all()
        wide = torch.promote_types(d_output.dtype, torch.float32)
        delta = (d_output.to(wide) * output.to(wide)).sum(-1)[0]
        start, base, Q = call.mask.start, call.mask.keys_from, query.shape[2]
        stops = self.stops.to(query.device)
        sums = self._sums.get(query.device)
        if sums is None:
            sums = self._sums[query.device] = torch.zeros(len(stops), dtype=torch.float64, device=query.device)
        pattern = classify_mask(call.mask.first[0], start)
        for chunk_start, chunk_stop in pattern.chunks:
            low, stop = max(chunk_start, base), min(chunk_stop, start + Q)
            rows = slice(max(low, start) - start, stop - start)
            keys = slice(low - base, stop - base)
            sums[low:stop] += removal_step(
                query[0, :, rows],
                key[0, :, keys],
                value[0, :, keys],
                d_output[0, :, rows],
                lse[0, :, rows],
                delta[:, rows],
                stops[low:stop] - low,
                scale=call.scale,
                window=pattern.window,
                softcap=call.softcap,
                impl=self._impl,
            )
        self._counted.append(call.index)
        if self._progress is not None:
            self._progress("gradient", len(self._counted), len(self._ran))

    def result(self) -> Tensor:
        """(N,) float64 on the CPU, once the backward pass is done.

        Raises:
            NumericsError: a gradient that is NaN or infinite.
            UnsupportedModelError: the gradient did not reach every layer once.
        """
        broken = sorted(layer for layer, finite in self._finite.items() if not bool(finite))
        if broken:
            raise NumericsError(
                f"the gradient of the answer's log-probability is NaN or infinite in {layer_names(broken)}; load the "
                "model in float32 or bfloat16"
            )
        if sorted(self._ran) != sorted(self._counted):
            missing = sorted(set(self._ran).symmetric_difference(self._counted)) or sorted(self._counted)
            raise UnsupportedModelError(
                f"the gradient of the answer's log-probability did not pass once through {layer_names(missing)}"
            )
        total = sum((sums.to("cpu") for sums in self._sums.values()), torch.zeros(len(self.stops), dtype=torch.float64))
        return total / self.loss_scale


class _Attention(torch.autograd.Function):
    """The recorder's attention; its backward also adds up the removal effects."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, call: LayerCall, reader: GradientPass) -> Tensor:
        output, lse = attention(query, key, value, call.mask, scale=call.scale, softcap=call.softcap, sink=call.sink)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.call, ctx.reader = call, reader
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, output, lse = ctx.saved_tensors
        call, (d_output,) = ctx.call, gradients
        ctx.reader.count(call, query, key, value, output, lse, d_output)
        d_query, d_key, d_value = attention_gradient(
            query, key, value, output, lse, d_output, call.mask, scale=call.scale, softcap=call.softcap
        )
        return d_query, d_key, d_value, None, None


@contextmanager
def attach_gradient_pass(model: Any, gradient_pass: GradientPass) -> Iterator[None]:
    """Run the model's attention through a gradient pass, with frozen parameters; restore both on exit.

    Calls in other threads compute the same values, but no gradients of the parameters during this time.

    Raises:
        RecordingError: the model is being recorded.
        UnsupportedModelError: a forward pass inside this context meets a module without a gradient, which is named.
    """
    with ExitStack() as stack:
        stack.enter_context(open_session(model, gradient_pass))
        for parameter in model.parameters():
            if parameter.requires_grad:
                stack.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        for name, module in model.named_modules():
            if _has_numbers(module):
                stack.callback(module.register_forward_hook(_check_gradient(name, gradient_pass.calls)).remove)
        yield


def _has_numbers(module: nn.Module) -> bool:
    """Whether a module has weights; quantised modules have them without parameters."""
    return hasattr(module, "in_features") or next(module.parameters(recurse=False), None) is not None


def _check_gradient(name: str, calls: GradientCalls) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    """A forward hook that refuses a module whose output passes no gradient to its input."""

    def check(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if (
            not calls.recorded
            or not torch.is_grad_enabled()
            or not any(isinstance(x, Tensor) and x.requires_grad for x in args)
        ):
            return
        outputs = [x for x in (output if isinstance(output, tuple) else (output,)) if isinstance(x, Tensor)]
        floating = [x for x in outputs if x.is_floating_point()]
        if floating and not any(x.requires_grad and _is_differentiable(x) for x in floating):
            raise UnsupportedModelError(
                f"{name} ({type(module).__module__}.{type(module).__name__}) has no gradient with respect to its "
                "input, as quantised modules have none; load the model in 16 or 32 bits"
            )

    return check


def _is_differentiable(output: Tensor) -> bool:
    """Whether all operations behind a module's output have a backward; only NODES of them are checked.

    For an operation without one, torch puts a node named NotImplemented into the graph and returns 0.
    """
    nodes = [output.grad_fn]
    for node in nodes:
        if node is not None:
            if "NotImplemented" in node.name():
                return False
            nodes += [parent for parent, _ in node.next_functions][: NODES - len(nodes)]
    return True

"""Which implementations of flow_step can run here, and why the others cannot."""

import os
from dataclasses import dataclass

import torch

from attributor._errors import ImplementationError

__all__ = ["IMPLEMENTATIONS", "Availability", "availability", "choose"]

IMPLEMENTATIONS = ("cuda", "triton", "cpu", "reference")  # best first


@dataclass(frozen=True)
class Availability:
    """Whether one implementation can run here.

    Attributes:
        name: one of ``IMPLEMENTATIONS``.
        usable: True when calls with ``impl=name`` can run.
        reason: what was found when usable, what is missing when not.
    """

    name: str
    usable: bool
    reason: str


def _core() -> Availability:
    try:
        from attributor import _core
    except ImportError as error:
        return Availability(
            "cpu", False, f"the C++ extension is not installed ({error}); pip install . with a C++ compiler"
        )
    return Availability("cpu", True, f"C++, {_core.isa()} of {', '.join(_core.isas())}")


def availability() -> tuple[Availability, ...]:
    """One entry an implementation, best first."""
    return (
        Availability("cuda", False, "this version has no CUDA C++ kernel"),
        Availability("triton", False, "this version has no Triton kernel"),
        _core(),
        Availability("reference", True, f"pure torch {torch.__version__}, any device"),
    )


def choose(impl: str | None, device: torch.device, dtype: torch.dtype, *, gradient: bool = False) -> str:
    """The implementation for queries of `dtype` on `device`: `impl`, ``ATTRIBUTOR_IMPL``, or the best usable one.

    Raises:
        ImplementationError: a named implementation is unknown, not usable here, cannot run on `device` or `dtype`, or
            has no `gradient` where one is needed.
    """
    asked = impl or os.environ.get("ATTRIBUTOR_IMPL") or None
    found = {entry.name: entry for entry in availability()}
    if asked is None:
        native = device.type == "cpu" and dtype != torch.float64 and not gradient and found["cpu"].usable
        return "cpu" if native else "reference"
    if asked not in found:
        raise ImplementationError(f"unknown implementation {asked!r}; there are {', '.join(IMPLEMENTATIONS)}")
    if not found[asked].usable:
        raise ImplementationError(f"implementation {asked!r} cannot be used here: {found[asked].reason}")
    if asked == "cpu" and device.type != "cpu":
        raise ImplementationError(f"implementation 'cpu' needs tensors on the CPU, got {device}; use impl='reference'")
    if asked == "cpu" and dtype == torch.float64:
        raise ImplementationError("implementation 'cpu' computes in float32; float64 queries need impl='reference'")
    if asked == "cpu" and gradient:
        raise ImplementationError(
            "implementation 'cpu' has no gradient; use impl='reference', or call it under torch.no_grad()"
        )
    return asked

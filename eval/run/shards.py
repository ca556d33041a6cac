"""Shares the cases of a run among the processes that `torchrun` or `accelerate launch` started."""

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from attributor._errors import AttributorError, InputError

__all__ = ["OtherProcessError", "Shards"]

T = TypeVar("T")
LONGEST = timedelta(days=30)  # longest wait for the slowest process; a dead process is noticed at once


class OtherProcessError(AttributorError):
    """The run ended because of an error that another process has reported."""


class Shards:
    """The place of this process among all processes of a run.

    The processes communicate through gloo on the CPU, even if the models run on GPUs, because their messages are short.

    Attributes:
        rank: number of this process, from 0.
        count: number of all processes.
        local: number of this process on its machine, which is also the number of its GPU.
    """

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0) -> None:
        self.rank, self.count, self.local = rank, count, local

    @classmethod
    def join(cls) -> "Shards":
        """Join the other processes, if a launcher started more than one.

        Raises:
            InputError: accelerate is not installed, or the environment is not that of a launcher.
        """
        world = os.environ.get("WORLD_SIZE", "1")
        if world in ("", "0", "1"):
            return cls()
        try:
            from accelerate import PartialState  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            raise InputError(
                f"WORLD_SIZE is {world}: sharing rows out needs the package accelerate; pip install 'attributor[eval]'"
            ) from None
        try:
            os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does; otherwise accelerate warns
            state = PartialState(cpu=True, timeout=LONGEST)
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"WORLD_SIZE is {world}, but the other processes cannot be reached ({error}); start the run with "
                "torchrun or accelerate launch, or unset WORLD_SIZE"
            ) from error
        return cls(state.process_index, state.num_processes, state.local_process_index)

    @property
    def is_first(self) -> bool:
        """Whether this is the process of rank 0, which reports for all."""
        return self.rank == 0

    @property
    def is_shared(self) -> bool:
        """Whether the run is shared by several processes."""
        return self.count > 1

    def own_share(self, items: Sequence[T]) -> Sequence[T]:
        """Return every count-th of the items, so that all processes end at about the same time."""
        return items[self.rank :: self.count]

    def device_map(self, requested: str | None) -> str | None:
        """Return the device map of this process; "cuda" becomes one GPU for each process.

        Raises:
            InputError: "auto" and similar maps, which would put the models of all processes on the same devices.
        """
        if int(os.environ.get("LOCAL_WORLD_SIZE", self.count)) == 1:  # no other process on this machine
            return requested
        if requested in ("auto", "balanced", "balanced_low_0", "sequential"):
            raise InputError(
                f"--device-map {requested} spreads one model over every GPU of a machine, and {self.count} processes "
                "run here; give --device-map cuda (one GPU a process), or start a single process"
            )
        return f"cuda:{self.local}" if requested == "cuda" else requested

    def run_in_first(self, work: Callable[[], T]) -> T:
        """Run `work` in the first process; return its result in all processes.

        Raises:
            AttributorError: in the first process, the error of `work`.
            OtherProcessError: in the other processes, if `work` failed or a process ended.
        """
        if not self.is_shared:
            return work()
        failure: BaseException | None = None
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome = [True, work()]
            except BaseException as error:
                failure, outcome = error, [False, None]
        self._broadcast(outcome)
        if failure is not None:
            raise failure
        if not outcome[0]:
            raise OtherProcessError("the first process could not begin")
        result: T = outcome[1]
        return result

    def wait(self, meanwhile: Callable[[], None] | None = None, every: float = 0.5) -> None:
        """Wait until all processes have called this; call `meanwhile` every `every` seconds.

        Raises:
            OtherProcessError: a process has ended.
        """
        if not self.is_shared:
            return
        import torch.distributed as dist

        try:
            work = dist.barrier(async_op=True)
            while not work.is_completed():
                if meanwhile is not None:
                    meanwhile()
                time.sleep(every)
            work.wait()
            if meanwhile is not None:
                meanwhile()
        except RuntimeError as error:
            raise OtherProcessError(f"another process of this run has ended: {error}") from error

    def _broadcast(self, outcome: list[Any]) -> None:
        import torch.distributed as dist

        try:
            dist.broadcast_object_list(outcome, src=0)
        except RuntimeError as error:
            raise OtherProcessError(f"another process of this run has ended: {error}") from error

    def leave(self) -> None:
        """Leave the group of processes."""
        if self.is_shared:
            import torch.distributed as dist

            dist.destroy_process_group()

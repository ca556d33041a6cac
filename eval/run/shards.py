"""The rows of a run shared out over the processes that `torchrun` or `accelerate launch` started, or kept by one."""

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from attributor._errors import AttributorError, InputError

__all__ = ["ElsewhereError", "Shards"]

T = TypeVar("T")
LONGEST = timedelta(days=30)  # how long one process may wait for the slowest; a dead one is noticed at once


class ElsewhereError(AttributorError):
    """The run ended because of an error that another process has reported."""


class Shards:
    """Which process this is, out of how many.

    The processes speak through gloo on the CPU, also where the models run on GPUs: all they share is a few words.

    Attributes:
        rank: of this process, from 0.
        count: of all processes.
        local: its number on this machine, which is the number of its GPU.
    """

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0) -> None:
        self.rank, self.count, self.local = rank, count, local

    @classmethod
    def join(cls) -> "Shards":
        """Meet the other processes, where a launcher started more than one.

        Raises:
            InputError: there is no accelerate, or the environment is not that of a launcher.
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
            os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does; accelerate warns without
            state = PartialState(cpu=True, timeout=LONGEST)
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"WORLD_SIZE is {world}, but the other processes cannot be reached ({error}); start the run with "
                "torchrun or accelerate launch, or unset WORLD_SIZE"
            ) from error
        return cls(state.process_index, state.num_processes, state.local_process_index)

    @property
    def main(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    @property
    def shared(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def mine(self, rows: Sequence[T]) -> Sequence[T]:
        """Every count-th of the rows, so that all processes end at about the same time."""
        return rows[self.rank :: self.count]

    def device_map(self, asked: str | None) -> str | None:
        """Where this process puts its model: "cuda" becomes one GPU a process.

        Raises:
            InputError: "auto" and its like, which would put the models of all processes on the same devices.
        """
        if int(os.environ.get("LOCAL_WORLD_SIZE", self.count)) == 1:  # no other process on this machine
            return asked
        if asked in ("auto", "balanced", "balanced_low_0", "sequential"):
            raise InputError(
                f"--device-map {asked} spreads one model over every GPU of a machine, and {self.count} processes run "
                "here; give --device-map cuda (one GPU a process), or start a single process"
            )
        return f"cuda:{self.local}" if asked == "cuda" else asked

    def first(self, work: Callable[[], T]) -> T:
        """What `work` returns in the first process, for all of them.

        Raises:
            AttributorError: whatever it raised there.
            ElsewhereError: in the other processes, which leave the words to the first.
        """
        if not self.shared:
            return work()
        failure: BaseException | None = None
        said: list[Any] = [None, None]
        if self.main:
            try:
                said = [True, work()]
            except BaseException as error:
                failure, said = error, [False, None]
        self._broadcast(said)
        if failure is not None:
            raise failure
        if not said[0]:
            raise ElsewhereError("the first process could not begin")
        found: T = said[1]
        return found

    def wait(self, meanwhile: Callable[[], None] | None = None, every: float = 0.5) -> None:
        """Until all processes are here, calling `meanwhile` now and then.

        Raises:
            ElsewhereError: one of them has ended.
        """
        if not self.shared:
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
            raise ElsewhereError(f"another process of this run has ended: {error}") from error

    def _broadcast(self, said: list[Any]) -> None:
        import torch.distributed as dist

        try:
            dist.broadcast_object_list(said, src=0)
        except RuntimeError as error:
            raise ElsewhereError(f"another process of this run has ended: {error}") from error

    def leave(self) -> None:
        """Take leave of the other processes."""
        if self.shared:
            import torch.distributed as dist

            dist.destroy_process_group()

"""Stores runs: their flows and, within a memory budget, the recordings that they were computed from."""

import itertools
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attributor._flow import Recording
from attributor._prompt import TokenSequence
from attributor._record import HeadWeights
from attributor._result import Flow, FlowView
from attributor.web.http import ApiError
from attributor.web.live.resolved_presets import ResolvedPresets

__all__ = ["MAX_RUNS", "LiveRun", "RecordedRun", "RecordingGone", "RunStore", "SharedRecording", "format_bytes"]

MAX_RUNS = 200
_clock = itertools.count()


class RecordingGone(ApiError):  # noqa: N818 - what happened, as the code says it
    """The recording of a run is no longer in memory; its flow still is."""

    def __init__(self, message: str) -> None:
        super().__init__(409, "recording_gone", message)


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """The data from which the views of layers and heads are computed.

    Attributes:
        recording: of all heads; `recording.layer(index)` and `recording.attention(...)` need no model.
        flow: the run's flow.
        weights: of this run.
        question: (Q,) int64, the tokens on which a share of the rows starts, or None.
        positions: (o,) int64, the position that predicts each row of the answer.
        length: N, the positions that the model read: k + o - 1.
    """

    recording: Recording
    flow: Flow
    weights: HeadWeights
    question: Tensor | None
    positions: Tensor
    length: int


@dataclass(eq=False)
class SharedRecording:
    """A recording, which several runs with different weights may share.

    Attributes:
        recording: it holds no model.
        sequence: prompt and answer that the model read, with their text.
        nbytes: the memory that it takes.
    """

    recording: Recording
    sequence: TokenSequence
    nbytes: int
    used: int = field(default_factory=lambda: next(_clock))


@dataclass(eq=False)
class LiveRun:
    """One answer and its flow under one choice of weights.

    Attributes:
        title: for a list of runs.
        model: its hub id or folder.
        presets: the weights of the model, by name.
        weights: those of this run.
        weights_name: the preset, or "heads" for heads that were chosen by hand.
        heads: the heads chosen by hand, (layer, head) each; None otherwise.
        question: (Q,) int64, the question's tokens in the prompt, or None.
        question_text: the question as text, or None.
        notes: sentences for the user.
        shared: the recording, or None after it was dropped.
        gone: the reason why it was dropped.
        id: opaque.
        flow_id: opaque.
        created: seconds since 1970.
    """

    title: str
    model: str
    flow: Flow
    presets: ResolvedPresets
    weights: HeadWeights
    weights_name: str
    heads: tuple[tuple[int, int], ...] | None = None
    question: Tensor | None = None
    question_text: str | None = None
    notes: tuple[str, ...] = ()
    shared: SharedRecording | None = None
    gone: str = ""
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    flow_id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    created: float = field(default_factory=time.time)
    used: int = field(default_factory=lambda: next(_clock))
    view: FlowView | None = None

    @property
    def own_bytes(self) -> int:
        """The bytes of the run without its recording, with the sums that the views add after it was first shown."""
        arrays = self.flow.arrays
        numbers = (arrays.scores, arrays.ids, arrays.offsets, arrays.answer_offsets)
        # an upper bound, see attributor._result.view.scores.Scores
        sums = int(1.2 * arrays.scores.nbytes) if self.view is not None else 0
        return sum(array.nbytes for array in numbers if array is not None) + sums + len(self.flow.text or "")

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer."""
        return self.flow.ids.numel() - self.flow.prompt_length


class RunStore:
    """Runs by opaque ids, for any number of tabs; safe to use from any thread.

    If the budget is exceeded, recordings are dropped first, and their flows stay. Then whole runs are dropped. Both are
    dropped in the order of their last use, the oldest first.
    """

    def __init__(self, budget: int) -> None:
        """`budget`: bytes that recordings and flows may take together."""
        self.budget = budget
        self._lock = threading.RLock()
        self._runs: dict[str, LiveRun] = {}
        self._flows: dict[str, LiveRun] = {}

    @property
    def used(self) -> int:
        """Bytes that recordings and flows take; a recording that several runs share counts once."""
        with self._lock:
            return sum(run.own_bytes for run in self._runs.values()) + sum(one.nbytes for one in self._recordings())

    def all(self) -> list[LiveRun]:
        """Every run, the newest first."""
        with self._lock:
            return list(reversed(self._runs.values()))

    def add(self, run: LiveRun) -> None:
        """Store a run and drop older ones to make room. A recording larger than the whole budget is not stored."""
        with self._lock:
            shared = run.shared
            if shared is not None and shared.nbytes + run.own_bytes > self.budget:
                run.shared, run.gone = None, explain_too_large(shared.nbytes, self.budget)
                run.notes = (*run.notes, run.gone)
            self._runs[run.id] = self._flows[run.flow_id] = run
            self._fit(self.budget, spared=run)

    def reserve(self, nbytes: int) -> None:
        """Drop recordings, the least recently used first, until `nbytes` of the budget are free."""
        with self._lock:
            self._drop_recordings(max(0, self.budget - nbytes), None)

    def get(self, run_id: str) -> LiveRun:
        """A run by its id.

        Raises:
            ApiError: there is no such run (any more).
        """
        return self._look_up(self._runs, run_id)

    def get_flow(self, flow_id: str) -> Flow:
        """The flow of a run, by the flow's id; raises as `get`."""
        return self._look_up(self._flows, flow_id).flow

    def get_view(self, flow_id: str) -> FlowView:
        """The flow for the views, by the flow's id; raises as `get`."""
        run = self._look_up(self._flows, flow_id)
        if run.view is None:  # two requests may both create it; either result can be used
            run.view = FlowView(run.flow, question=run.question_text or run.title, title=run.title)
        return run.view

    def get_recorded(self, flow_id: str) -> RecordedRun:
        """The data for the views of layers and heads, by the flow's id.

        Raises:
            ApiError: there is no such flow.
            RecordingGone: the recording was dropped.
        """
        run = self._look_up(self._flows, flow_id)
        shared = self.get_shared(run)
        k, o = run.flow.prompt_length, run.flow.scores.shape[0]
        return RecordedRun(
            recording=shared.recording,
            flow=run.flow,
            weights=run.weights,
            question=run.question,
            positions=torch.arange(k - 1, k - 1 + o),
            length=k - 1 + o,
        )

    def get_shared(self, run: LiveRun) -> SharedRecording:
        """The recording of a run; raises RecordingGone if it was dropped."""
        shared = run.shared
        if shared is None:
            raise RecordingGone(f"{run.gone or GONE}; the flow itself is still there. Run it again to see into layers")
        return shared

    def remove(self, run_id: str) -> None:
        """Remove a run; raises as `get`."""
        with self._lock:
            self._forget(self.get(run_id))

    def _look_up(self, where: dict[str, LiveRun], key: str) -> LiveRun:
        with self._lock:
            run = where.get(key)
            if run is None:
                raise ApiError(
                    404,
                    "run_not_found",
                    "there is no such run (any more), older ones make room for new ones: run its prompt again",
                )
            run.used = next(_clock)
            if run.shared is not None:
                run.shared.used = run.used
            return run

    def _recordings(self) -> list[SharedRecording]:
        recordings = {id(run.shared): run.shared for run in self._runs.values() if run.shared is not None}
        return sorted(recordings.values(), key=lambda shared: shared.used)

    def _forget(self, run: LiveRun) -> None:
        self._runs.pop(run.id, None)
        self._flows.pop(run.flow_id, None)

    def _drop_recordings(self, allowed: int, spared: SharedRecording | None) -> None:
        for shared in self._recordings():
            if self.used <= allowed:
                return
            if shared is spared:
                continue
            for run in self._runs.values():
                if run.shared is shared:
                    run.shared, run.gone = None, GONE

    def _fit(self, allowed: int, spared: LiveRun) -> None:
        self._drop_recordings(allowed, spared.shared)
        for run in sorted(self._runs.values(), key=lambda run: run.used):
            if self.used <= allowed and len(self._runs) <= MAX_RUNS:
                return
            if run is not spared:
                self._forget(run)


GONE = "the recording of this run was given up to make room for others"


def explain_too_large(nbytes: int, budget: int, free: int | None = None) -> str:
    """The reason why a recording is not stored: it exceeds the budget, or the free memory."""
    if free is not None and free < budget:
        limit = f"{format_bytes(max(0, free))} are free"
    else:
        limit = f"the budget for all runs is {format_bytes(budget)} (--memory-budget)"
    return (
        f"recording every head of this run takes {format_bytes(nbytes)}, and {limit}, so single layers and heads "
        "cannot be looked at"
    )


def format_bytes(nbytes: float) -> str:
    """A number of bytes as text, with its unit."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.1f} {name}"
    return f"{nbytes / 1e3:.0f} kB"


def pick_title(texts: Sequence[str]) -> str:
    """A title from the first text that is not blank."""
    words = next((text for text in texts if text.strip()), "").split()
    short = " ".join(words[:40])
    return short if len(short) <= 80 else f"{short[:79]}…"

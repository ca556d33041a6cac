"""Record an answer and compute its flow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attributor._ask.answer_pass import AnswerPass, force_answer, write_answer
from attributor._errors import DeviceMemoryError
from attributor._flow import Recording, SweepOptions, is_out_of_memory, out_of_memory_error
from attributor._prompt import Prompt, TokenSequence
from attributor._record import HeadWeights
from attributor._result import Flow

__all__ = ["WriteOptions", "follow", "read_and_follow", "share_tokens"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class WriteOptions:
    """How the model writes an answer.

    Attributes:
        count: the most tokens that it may write.
        streamer: as `model.generate` takes it.
        cache: keep the model's keys and values.
    """

    count: int
    streamer: Any = None
    cache: bool = False


def share_tokens(weights: HeadWeights, question: Tensor | None) -> Tensor | None:
    """(Q,) the question's tokens if the weights start a share of each row on them, else None."""
    return question if weights.question else None


def follow(
    recording: Recording,
    sequence: TokenSequence,
    weights: HeadWeights,
    question: Tensor | None,
    *,
    impl: str | None = None,
    progress: Progress | None = None,
) -> Flow:
    """The flow of a recorded prompt and answer, as `Recording.flow_of`.

    The question's tokens (Q,) are used only if the weights start a share of each row on them.
    """
    options = SweepOptions(impl=impl, progress=progress)
    return recording.flow_of(sequence, weights=weights, question=share_tokens(weights, question), options=options)


def read_and_follow(
    model: Any,
    tokenizer: Any,
    prompt: Prompt,
    answer: Tensor | WriteOptions,
    weights: HeadWeights,
    *,
    recorded: HeadWeights | None = None,
    impl: str | None = None,
    progress: Progress | None = None,
) -> tuple[AnswerPass, TokenSequence, Flow]:
    """Read a prompt with its answer, or have the model write one, and follow the answer back.

    Args:
        model: a transformers decoder-only model.
        tokenizer: the model's.
        prompt: k tokens.
        answer: (a,) int64, the answer that is forced; or how the model writes one.
        weights: of the flow.
        recorded: the heads that are recorded, which must include those of `weights`; None: only those of `weights`.
        impl: as in `attributor.flow`.
        progress: called with (stage, done, total), stages "prompt" and "sweep".

    Returns:
        The pass with its recording, prompt and answer as one sequence, and the flow.

    Raises:
        InputError: an answer without tokens.
        UnsupportedModelError, RecordingError, NumericsError: as `attributor.record` and `Recording.flow`.
        DeviceMemoryError: memory ran out; the message says what was needed.
    """
    recorded = weights if recorded is None else recorded
    try:
        if isinstance(answer, WriteOptions):
            options = {"cache": answer.cache, "streamer": answer.streamer, "progress": progress}
            answer_pass = write_answer(model, prompt.ids, answer.count, recorded, **options)
        else:
            answer_pass = force_answer(model, prompt.ids, answer, recorded, progress=progress)
        sequence = prompt.with_answer(answer_pass.answer, tokenizer)
        question = prompt.question_tokens
        flow = follow(answer_pass.recorded, sequence, weights, question, impl=impl, progress=progress)
        return answer_pass, sequence, flow
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or isinstance(error, DeviceMemoryError):
            raise
    # after the except block, where the error's traceback no longer holds the recording
    length = len(prompt.ids) + (answer.count if isinstance(answer, WriteOptions) else answer.numel())
    raise out_of_memory_error(model, recorded.heads, length, "auto")

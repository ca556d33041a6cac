"""flow() and record(): a model and its tokens in, a Flow out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from attributor import _inputs
from attributor._errors import InputError, NumericsError, RecordingError, UnsupportedModelError
from attributor._materialised import materialised_flow
from attributor._record import attached, check_model, layer_names, text_config
from attributor._recorder import Recorder
from attributor._resolve import model_id, resolve
from attributor._result import Flow
from attributor._sweep import sweep
from attributor._weights import Weights

__all__ = ["Recording", "flow", "record"]

Progress = Callable[[str, int, int], None]


def flow(
    model: Any,
    ids: Any,
    *,
    prompt_length: int | Sequence[int] | None = None,
    attention_mask: Any = None,
    weights: Any = "mean",
    normalize: bool = True,
    tokenizer: Any = None,
    documents: Sequence[Any] | None = None,
    impl: str | None = None,
    progress: Progress | None = None,
) -> Any:
    """Follow the model's attention from an answer back to its prompt: one forward pass and one sweep.

        X_l = (X_(l-1) + sum_h w[l, h] P[l, h] X_(l-1)) / (1 + sum_h w[l, h]),  X_0 = I

    with P the attention weights; the answer x prompt slice of X_L is returned (attention rollout, Abnar and Zuidema
    2020, computed from the right for the asked rows alone). Answer token t is predicted at position t - 1, so its
    scores are row t - 1. Time is one plain forward and about one more Q K^T a chosen head; memory is O(o n).

    Args:
        model: a transformers decoder-only model, on any devices. It comes back as it was, also after an error.
        ids: (n,), (1, n) or (B, n) integer tensor or list: the prompt and its answer; or the prompt alone, for what
            feeds the next token.
        prompt_length: tokens of the prompt, padding not counted; one for all rows or one a row; None: all of `ids`.
        attention_mask: (B, n), 1 where `ids` is a token and 0 where it is padding, on either side.
        weights: "mean" (1/H each, the definition), "output_norm", "retrieval", a `Weights`, an (L, H) tensor or a file.
        normalize: False multiplies the scores by prod(1 + sum w), 2^L for the mean.
        tokenizer: adds texts and character offsets to the result.
        documents: the prompt's documents, as strings that occur in it or (start, stop) characters; needs `tokenizer`.
        impl: an implementation of flow_step; "reference" also takes models that cannot be recorded, through their
            eager attention matrices.
        progress: called with (stage, done, total), stages "prompt" and "sweep", once a layer.

    Returns:
        A Flow for (n,) and (1, n), a list of B flows for (B, n).

    Raises:
        InputError: ids, lengths or options that cannot be used.
        UnsupportedModelError: attention that cannot be recorded, naming the layers.
        NumericsError: NaN or infinity in the model.
    """
    recordable = _recordable(model, impl)
    config = text_config(model)
    sequences, single = _inputs.sequences(ids, attention_mask)
    lengths = _inputs.prompt_lengths(prompt_length, sequences)
    for sequence in sequences:
        _inputs.check_ids(sequence, model.get_input_embeddings().num_embeddings, config)
    _inputs.check_documents(documents, tokenizer)
    resolved = resolve(weights, model)
    flows = []
    for sequence, k in zip(sequences, lengths, strict=True):
        began = time.perf_counter()
        read = sequence[:-1] if k < sequence.numel() else sequence  # nothing is predicted from the last answer token
        positions = torch.arange(k - 1, read.numel())
        if not recordable:
            rows = materialised_flow(model, read, resolved, positions, normalize=normalize)
            seconds, used, kept = {"seconds": f"{time.perf_counter() - began:.3f}"}, "reference (eager attentions)", 0
        else:
            recorder = _recorder(model, resolved, progress)
            with attached(model, recorder):
                _forward(model, read)
            _check_complete(model, recorder)
            middle = time.perf_counter()
            kept = sum(tape.nbytes() for tape in recorder.tapes.values())
            rows, used = sweep(
                recorder.tapes,
                resolved,
                positions,
                row=0,
                start=0,
                stop=read.numel(),
                normalize=normalize,
                impl=impl,
                release=True,
                progress=progress,
            )
            seconds = _seconds(began, middle)
        meta = _meta(model, resolved, used, normalize) | seconds | {"recorded_bytes": str(kept)}
        flows.append(_result(rows, sequence, k, resolved, normalize, meta, tokenizer, documents))
    return flows[0] if single else flows


class Recording:
    """What `record` kept: call `flow` once the model has read and written."""

    def __init__(self, model: Any, weights: Weights, recorder: Recorder) -> None:
        self._model = model
        self._weights = weights
        self._recorder = recorder

    @property
    def nbytes(self) -> int:
        """Bytes of query, key and log-sum-exp that the recording keeps alive."""
        return sum(tape.nbytes() for tape in self._recorder.tapes.values())

    def __repr__(self) -> str:
        """How much was recorded."""
        length, layers = self._recorder.length, len(self._recorder.tapes)
        return f"Recording({length} positions, {layers} layers with chosen heads, {self.nbytes / 1e6:.1f} MB)"

    @torch.no_grad()
    def flow(
        self,
        out: Any,
        *,
        prompt_length: int | Sequence[int] | None = None,
        normalize: bool = True,
        tokenizer: Any = None,
        documents: Sequence[Any] | None = None,
        impl: str | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """The flow of what was recorded, without another forward pass.

        Args:
            out: what ``generate`` returned: (n,), (1, n) or (B, n) ids of prompt and answer, or its output object.
                Checked against what the model really read.
            prompt_length: tokens before the answer, padding not counted; default: all that had been read when the
                answer began, which is where the last call of several tokens ended.
            normalize: as in `flow`.
            tokenizer: as in `flow`.
            documents: as in `flow`.
            impl: as in `flow`.
            progress: as in `flow`.

        Returns:
            A Flow for one sequence, a list of flows for a batch of several.

        Raises:
            RecordingError: nothing was recorded, or the ids are not those that were read (beam search reorders them).
        """
        recorder = self._recorder
        if not recorder.calls:
            raise RecordingError("nothing was recorded: run model.generate(...) or model(...) inside the with block")
        _check_complete(self._model, recorder)
        _inputs.check_documents(documents, tokenizer)
        ids = torch.as_tensor(getattr(out, "sequences", out)).detach().to("cpu", torch.int64)
        batch = next(iter(recorder.masks.values())).shape[0]
        single = ids.ndim == 1 or ids.shape[0] == 1
        ids = ids[None] if ids.ndim == 1 else ids
        if ids.ndim != 2 or ids.shape[0] != batch:
            raise RecordingError(
                f"the recording holds a batch of {batch} sequences, got ids {tuple(ids.shape)}; beam search cannot be "
                "recorded (its beams change places)"
            )
        given = _inputs.per_row(prompt_length, batch)
        flows = []
        for row in range(batch):
            began = time.perf_counter()
            sequence, start, k = self._sequence(ids[row], row, given[row])
            # the last token of an answer is written but never read
            stop = start + sequence.numel() - (1 if k < sequence.numel() else 0)
            rows, used = sweep(
                recorder.tapes,
                self._weights,
                torch.arange(k - 1, stop - start),
                row=row,
                start=start,
                stop=stop,
                normalize=normalize,
                impl=impl,
                progress=progress,
            )
            meta = _meta(self._model, self._weights, used, normalize)
            meta |= {"seconds_sweep": f"{time.perf_counter() - began:.3f}", "recorded_bytes": str(self.nbytes)}
            flows.append(_result(rows, sequence, k, self._weights, normalize, meta, tokenizer, documents))
        return flows[0] if single else flows

    def _sequence(self, ids: Tensor, row: int, prompt_length: int | None) -> tuple[Tensor, int, int]:
        """The real ids of one row, where they start in the cache, and how many of them are the prompt."""
        recorder = self._recorder
        start, high = recorder.real(row)
        read = recorder.tokens(row)
        if read is None:
            raise RecordingError("the model was given embeddings instead of ids, so the answer cannot be checked")
        total = ids.numel()
        if recorder.length < total - 1 or not torch.equal(read[: min(total, recorder.length)], ids[: recorder.length]):
            raise RecordingError(
                f"the ids given ({total}) are not what the model read ({recorder.length}) in this recording: pass what "
                "generate() returned, prompt included, before another sequence is read; beam search cannot be recorded"
            )
        if high < recorder.length:  # padding on the right
            total = min(total, high)
            ids = ids[:total]
        prompt = self._answer_begins() if prompt_length is None else start + prompt_length
        if not start < prompt <= total:
            raise InputError(
                f"prompt_length must be 1 to {total - start}, the tokens of the sequence, got {prompt_length}"
            )
        stop = prompt + _inputs.answer_length(ids[prompt:], self._model)
        return ids[start:stop], start, prompt - start

    def _answer_begins(self) -> int:
        """Where the last call of several tokens ended, in cache positions."""
        if self._recorder.cropped:
            raise InputError("tokens were read, dropped and read again (assisted generation?): pass prompt_length")
        long = [start + count for start, count in self._recorder.calls if count > 1]
        return long[-1] if long else 1


@contextmanager
def record(model: Any, *, weights: Any = "mean", progress: Progress | None = None) -> Iterator[Recording]:
    """Record a model while it generates, for the flow without a second forward pass::

        with attributor.record(model) as recording:
            out = model.generate(ids, max_new_tokens=64)
        flow = recording.flow(out, tokenizer=tokenizer)

    Dynamic and static caches, batches padded on either side, and several turns on one cache are recorded; a call that
    starts at position 0 begins a new sequence. The model runs in eval mode inside and is as before afterwards.

    Args:
        model: a transformers decoder-only model.
        weights: as in `flow`; heads with weight 0 are not recorded.
        progress: called with ("prompt", layers done, layers) while the model reads.

    Raises:
        UnsupportedModelError: attention that cannot be recorded.
        RecordingError: the model is being recorded already.
    """
    check_model(model)
    resolved = resolve(weights, model)
    recorder = _recorder(model, resolved, progress)
    with attached(model, recorder):
        yield Recording(model, resolved, recorder)


def _recordable(model: Any, impl: str | None) -> bool:
    """Whether the model can be recorded; where it cannot, only the reference goes on, with eager attention matrices."""
    try:
        check_model(model)
    except UnsupportedModelError:
        if impl != "reference" or getattr(model.config, "is_encoder_decoder", False):
            raise
        return False
    return True


def _recorder(model: Any, weights: Weights, progress: Progress | None) -> Recorder:
    assert isinstance(weights.heads, Tensor)
    return Recorder(weights.heads, values=weights.value_norms, progress=progress)


@torch.no_grad()
def _forward(model: Any, ids: Tensor) -> None:
    """Read the ids (N,) and compute no more logits than one, to see that they are numbers."""
    embedding = model.get_input_embeddings().weight
    device = embedding.device if embedding.device.type != "meta" else model.device
    options = {"logits_to_keep": 1} if _inputs.accepts(model.forward, "logits_to_keep") else {}
    output = model(input_ids=ids[None].to(device), use_cache=False, **options)
    logits = getattr(output, "logits", None)
    if logits is not None and not bool(torch.isfinite(logits[:, -1]).all()):
        raise NumericsError(
            "the model's logits are not finite; do its weights hold NaN, or did 16-bit arithmetic overflow?"
        )


def _check_complete(model: Any, recorder: Recorder) -> None:
    missing = recorder.missing()
    if missing:
        raise UnsupportedModelError(
            f"{type(model).__name__}: the attention of {layer_names(missing)} did not pass through the recorder "
            "(a hybrid, or attention code of its own), so a flow without them would be wrong"
        )


def _seconds(began: float, middle: float) -> dict[str, str]:
    return {"seconds_forward": f"{middle - began:.3f}", "seconds_sweep": f"{time.perf_counter() - middle:.3f}"}


def _meta(model: Any, weights: Weights, used: str, normalize: bool) -> dict[str, str]:
    assert isinstance(weights.heads, Tensor)
    L, H = weights.heads.shape
    return {
        "model": model_id(model) or type(model).__name__,
        "dtype": str(getattr(model, "dtype", "")).removeprefix("torch."),
        "layers": str(L),
        "heads": str(H),
        "heads_used": str(int((weights.heads > 0).sum())),
        "weights": weights.name,
        "power": f"{weights.power:g}",
        "value_norms": str(weights.value_norms).lower(),
        "sink": weights.sink,
        "normalize": str(normalize).lower(),
        "implementation": used,
        "attributor": version("attributor"),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def _result(
    rows: Tensor,
    sequence: Tensor,
    k: int,
    weights: Weights,
    normalize: bool,
    meta: dict[str, str],
    tokenizer: Any,
    documents: Sequence[Any] | None,
) -> Flow:
    missing = None
    if weights.stochastic:
        assert isinstance(weights.heads, Tensor)
        whole = 1.0 if normalize else float((1 + weights.heads.double().sum(1)).prod())
        missing = (1 - rows.double().sum(1) / whole).float()
    found = Flow(scores=rows[:, :k].float(), ids=sequence.cpu(), missing_mass=missing, meta=meta)
    return found if tokenizer is None else found.with_text(tokenizer, documents=documents)

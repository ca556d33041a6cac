"""Log-probability of the answer when segments are left out, by forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attributor._effects.segments import SegmentTokens
from attributor._errors import InputError, UnsupportedModelError
from attributor._models import accepts_argument, device_of, token_log_probs, use_eval_mode
from attributor._prompt import Prompt, remove_spans
from attributor._text import Segment, assign_tokens

__all__ = ["CONVENTIONS", "Ablator"]

CONVENTIONS = ("text", "mask")
MOST_MASKED = 1 << 28  # elements of the (B, n, n) mask that transformers builds; limits the batch of long prompts


class Ablator:
    """Map masks of kept segments to log p of the answer; each distinct mask is computed once.

    There are two conventions, and their numbers differ. With "text", the segments' characters are removed from the
    prompt and the rest is tokenised again, so later text moves up; a document keeps its title. With "mask", tokens and
    positions stay, and an attention mask hides the removed segments from all later tokens.

    Attributes:
        convention: "text" or "mask"; "tokens" for a `TokenAblator`.
        passes: sequences that the model has read so far; repeated masks are not counted.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: Prompt,
        answer: Tensor,
        segments: Sequence[Segment],
        convention: str = "text",
        batch: int = 8,
        *,
        first: int = 0,
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: a transformers decoder-only model; it reads with its own attention, in eval mode, and is left as it
                was.
            tokenizer: the one that the prompt was made with.
            prompt: k tokens.
            answer: (a,) int64, a >= 1.
            segments: S spans of the prompt's text.
            convention: how segments are left out.
            batch: sequences that are read at once.
            first: the first of the answer's tokens whose log p counts, from 0.

        Raises:
            InputError: an unknown convention, a batch below 1, an empty answer.
            UnsupportedModelError: "mask" with a model that takes no position ids, whose positions would move.
        """
        if convention not in CONVENTIONS:
            raise InputError(f"an ablation's convention is 'text' or 'mask', got {convention!r}")
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise InputError(f"batch must be a whole number >= 1, got {batch!r}")
        if not answer.numel():
            raise InputError("the answer has no tokens, so leaving something out changes nothing")
        if convention == "mask" and not accepts_argument(model.forward, "position_ids"):
            raise UnsupportedModelError(
                f"{type(model).__name__} takes no position_ids, so masked tokens would move the others; ablate by text"
            )
        self.convention = convention
        self.passes = 0
        self._model, self._tokenizer, self._prompt, self._answer = model, tokenizer, prompt, answer
        self._segments = tuple(segments)
        self._batch = batch
        self._first = first
        self._segment_of = torch.from_numpy(assign_tokens(prompt.offsets.numpy(), self._segments))
        self._known: dict[bytes, Tensor] = {}  # (a,) each

    def __call__(self, keep: Tensor) -> Tensor:
        """(M, S) bool, the segments that are kept -> (M,) float64, log p of the answer without the others.

        Raises:
            InputError: `keep` has another shape, or removes the whole prompt.
        """
        return self.token_log_probs(keep)[:, self._first :].sum(1)

    @torch.no_grad()
    def token_log_probs(self, keep: Tensor) -> Tensor:
        """(M, S) bool, the segments that are kept -> (M, a) float64, log p of each of the answer's tokens.

        Raises:
            InputError: as `__call__`.
        """
        S = len(self._segments)
        if keep.ndim != 2 or keep.shape[1] != S or keep.dtype != torch.bool:
            raise InputError(f"masks must be (M, {S}) bool, got {tuple(keep.shape)} of {keep.dtype}")
        masks = keep.cpu()
        keys = [row.numpy().tobytes() for row in masks]
        new = {key: row for key, row in zip(keys, masks, strict=True) if key not in self._known}
        read = self._by_mask if self.convention == "mask" else self._by_text
        with use_eval_mode(self._model):
            read(new)
        known = [self._known[key] for key in keys]
        return torch.stack(known) if known else torch.zeros(0, self._answer.numel(), dtype=torch.float64)

    def _by_text(self, masks: dict[bytes, Tensor]) -> None:
        """Batch sequences of similar length, padded on the right: causal attention never reads the padding."""
        prompts = [(self._without(mask), key) for key, mask in masks.items()]
        prompts.sort(key=lambda pair: (len(pair[0]), pair[1]))
        a = self._answer.numel()
        for low in range(0, len(prompts), self._batch):
            part = prompts[low : low + self._batch]
            n = len(part[-1][0]) + a - 1
            ids = torch.zeros(len(part), n, dtype=torch.int64)
            rows = torch.empty(len(part), a, dtype=torch.int64)
            for i, (prompt, _) in enumerate(part):
                k = len(prompt)
                ids[i, : k + a - 1] = torch.cat([prompt, self._answer[:-1]])
                ids[i, k + a - 1 :] = prompt[0]  # padding; any valid token id
                rows[i] = torch.arange(k - 1, k + a - 1)
            self._read([key for _, key in part], ids, rows)

    def _without(self, mask: Tensor) -> Tensor:
        """(k',) int64: the prompt's ids without the segments that are not kept."""
        spans = [(s.start, s.stop) for s, keep in zip(self._segments, mask.tolist(), strict=True) if not keep]
        ids = remove_spans(self._tokenizer, self._prompt, spans).ids if spans else self._prompt.ids
        if not len(ids):
            raise InputError("without these segments nothing of the prompt is left, so nothing predicts the answer")
        return ids

    def _by_mask(self, masks: dict[bytes, Tensor]) -> None:
        k, a = len(self._prompt.ids), self._answer.numel()
        n = k + a - 1
        sequence = torch.cat([self._prompt.ids, self._answer[:-1]])
        rows = torch.arange(k - 1, n)
        of = self._segment_of
        items = list(masks.items())
        size = max(1, min(self._batch, MOST_MASKED // (n * n)))
        for low in range(0, len(items), size):
            part = items[low : low + size]
            B = len(part)
            seen = torch.ones(B, n, dtype=torch.int64)
            for i, (_, mask) in enumerate(part):
                seen[i, :k] = torch.where(of >= 0, mask[of.clamp(min=0)], True).long()
            device = device_of(self._model)
            options = {"attention_mask": seen.to(device), "position_ids": torch.arange(n, device=device).expand(B, n)}
            self._read([key for key, _ in part], sequence.expand(B, n), rows.expand(B, a), **options)

    def _read(self, keys: list[bytes], ids: Tensor, rows: Tensor, **options: Tensor) -> None:
        log_probs = token_log_probs(self._model, ids, rows, self._answer, **options)
        self.passes += len(keys)
        self._known.update(zip(keys, log_probs, strict=True))


class TokenAblator(Ablator):
    """As `Ablator`, for a prompt without text: the tokens of the segments that are not kept are dropped."""

    def __init__(
        self, model: Any, ids: Tensor, answer: Tensor, segments: SegmentTokens, *, first: int = 0, batch: int = 8
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: as in `Ablator`.
            ids: (k,) int64, the prompt.
            answer: (a,) int64, a >= 1.
            segments: of the prompt.
            first: as in `Ablator`.
            batch: as in `Ablator`.
        """
        places = torch.arange(len(ids))
        spans = [Segment(start, stop, "") for start, stop in segments.spans.tolist()]
        tokens = Prompt("", ids, torch.stack([places, places + 1], 1))
        super().__init__(model, None, tokens, answer, spans, batch=batch, first=first)
        self.convention = "tokens"
        self._segment_of = segments.owners

    def _without(self, mask: Tensor) -> Tensor:
        owners = self._segment_of
        ids = self._prompt.ids[torch.where(owners >= 0, mask[owners.clamp(min=0)], True)]
        if not len(ids):
            raise InputError("without these segments nothing of the prompt is left, so nothing predicts the answer")
        return ids

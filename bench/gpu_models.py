"""Whole models on a GPU: Llamas of the published sizes with random weights, and the ways to run one prompt."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gpu_device import DEVICE, IMPL, REHEARSAL, allocated, begin_peak, free, peak, timed
from gpu_log import reason
from gpu_shapes import MODELS, Shape, chosen_heads
from gpu_step import Inputs, gradient_of_values
from torch import Tensor

import attributor

__all__ = [
    "ANSWER",
    "VARIANTS",
    "Held",
    "agree",
    "ids_of",
    "longest_with_matrices",
    "matrices",
    "stock_sweep",
    "weights_of",
]

ANSWER = 16  # tokens
GENERATION = {"max_new_tokens": ANSWER, "min_new_tokens": ANSWER, "do_sample": False, "pad_token_id": 0}
TINY = Shape(layers=2, hidden=64, heads=4, kv_heads=2, head_size=16, wide=64, tied=True, vocabulary=97)


def make(name: str) -> Any:
    """A model in bfloat16 whose weights are drawn where they stay, so that no copy passes through main memory."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = TINY if REHEARSAL else MODELS[name]
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.wide,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=1 << 18,
        tie_word_embeddings=shape.tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    elsewhere = {str(p.device) for p in model.parameters() if p.device.type != DEVICE.type}
    assert not elsewhere, f"weights are on {', '.join(sorted(elsewhere))}"
    return model.eval().requires_grad_(False)


class Held:
    """One model at a time: the one before is let go of before the next is made."""

    def __init__(self) -> None:
        self.name, self.model, self.seconds, self.bytes = "", None, 0.0, 0

    def get(self, name: str) -> Any:
        """The model of that name."""
        if name != self.name:
            self.model, self.name = None, ""
            free()
            before = allocated()
            self.seconds, self.model = timed(lambda: make(name))
            self.name, self.bytes = name, allocated() - before
            print(f"    {name}: made in {self.seconds:.1f} s, {self.bytes / 1e9:.1f} GB", flush=True)
        return self.model


def ids_of(model: Any, tokens: int) -> Tensor:
    """A prompt of `tokens` random tokens with an answer behind it, (tokens + ANSWER,), on the CPU."""
    g = torch.Generator().manual_seed(tokens)
    return torch.randint(3, model.config.vocab_size, (tokens + ANSWER,), generator=g)


def weights_of(model: Any, heads: str) -> attributor.Weights:
    """All heads, or 32 spread over the model."""
    if heads == "all":
        return attributor.Weights("mean")
    shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
    found = chosen_heads(*shape)
    return attributor.Weights.of_heads(shape, dict.fromkeys(found, 1 / len(found)))


@torch.no_grad()
def prefill(model: Any, ids: Tensor) -> Tensor:
    """What generate() does with a prompt: one forward with a cache and one row of logits, over what the flow reads."""
    return model(input_ids=ids[None, :-1].to(DEVICE), logits_to_keep=1, use_cache=True).logits


def flow(model: Any, ids: Tensor, heads: str = "all", keep: str = "auto") -> attributor.Flow:
    """The flow of the answer's tokens."""
    k = ids.numel() - ANSWER
    return attributor.flow(model, ids, prompt_length=k, weights=weights_of(model, heads), impl=IMPL, keep=keep)


def generate(model: Any, ids: Tensor) -> Tensor:
    """ANSWER tokens behind the prompt."""
    return model.generate(ids[None, :-ANSWER].to(DEVICE), **GENERATION)


def recorded(model: Any, ids: Tensor, heads: str = "all") -> attributor.Flow:
    """The same inside record(), and the flow."""
    with attributor.record(model, weights=weights_of(model, heads)) as recording:
        out = model.generate(ids[None, :-ANSWER].to(DEVICE), **GENERATION)
    return recording.flow(out, impl=IMPL)


Variant = Callable[[Any, Tensor], Any]
VARIANTS: dict[str, Variant] = {
    "prefill": prefill,
    "prefill, cudnn": prefill,  # with the backend that its name asks for
    "flow": flow,
    "flow, 32 heads": partial(flow, heads="32"),
    "flow, host": partial(flow, keep="host"),
    "flow, device": partial(flow, keep="device"),
    "generate": generate,
    "record": recorded,
    "record, 32 heads": partial(recorded, heads="32"),
}


def agree(model: Any, tokens: int) -> float:
    """Relative L1 between the flow by the kernel and by plain torch from one recording of a short prompt."""
    ids = ids_of(model, tokens)
    with attributor.record(model) as recording, torch.no_grad():
        model(input_ids=ids[None, :-1].to(DEVICE), logits_to_keep=1, use_cache=False)
    mine, plain = (recording.flow(ids, prompt_length=tokens, impl=impl).scores.double() for impl in (IMPL, "reference"))
    return float((mine - plain).abs().sum() / plain.abs().sum())


@torch.no_grad()
def stock_sweep(model: Any, ids: Tensor) -> tuple[float, float, float]:
    """The sweep of all heads by stock torch, from what record() keeps: the gradient of SDPA with respect to V.

    Returns:
        Its seconds, those of our sweep over the same recording, and its relative L1 from ours: rows are 16-bit there.
    """
    k = ids.numel() - ANSWER
    with attributor.record(model, keep="device") as recording:
        model(input_ids=ids[None, :-1].to(DEVICE), logits_to_keep=1, use_cache=False)
    L, N = model.config.num_hidden_layers, ids.numel() - 1

    def stock() -> Tensor:
        rows = torch.zeros(ANSWER, N, device=DEVICE)
        rows[torch.arange(ANSWER), torch.arange(k - 1, N)] = 1
        for index in reversed(range(L)):
            layer = recording.layer(index)
            given = Inputs(rows, layer.query, layer.key, layer.key, layer.lse)
            rows = (rows + gradient_of_values(given) / layer.query.shape[0]) / 2
        return rows[:, :k].cpu()

    def mine() -> Tensor:
        return recording.flow(ids, prompt_length=k, impl=IMPL).scores

    timed(mine)
    ours, expected = timed(mine)
    seconds, found = timed(stock)
    error = float((found.double() - expected.double()).abs().sum() / expected.double().abs().sum())
    return seconds, ours, error


@torch.no_grad()
def matrices(model: Any, ids: Tensor) -> Tensor:
    """What people do by hand: output_attentions=True, the mean over heads, matrix products."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        read = ids[None, :-1].to(DEVICE)
        found = model(input_ids=read, use_cache=False, logits_to_keep=1, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(before)
    N = ids.numel() - 1
    rows = torch.zeros(ANSWER, N, device=DEVICE)
    rows[torch.arange(ANSWER), torch.arange(N - ANSWER, N)] = 1
    for attention in reversed(found):
        rows = (rows + rows @ attention[0].float().mean(0)) / 2
    return rows[:, : N + 1 - ANSWER].cpu()


def longest_with_matrices(
    run: Callable[[int], Any], *, first: int = 1024, most: int = 1 << 17, steps: int = 3
) -> dict[str, Any]:
    """The longest prompt whose attention matrices fit: doubled until memory runs out, then halved `steps` times.

    `run(tokens)` raises torch.OutOfMemoryError where they do not.
    """
    found: dict[str, Any] = {"fits": None, "seconds": None, "peak_bytes": None, "died_at": None, "error": None}

    def fits(tokens: int) -> bool:
        free()
        begin_peak()
        try:
            seconds, _ = timed(lambda: run(tokens))
        except torch.OutOfMemoryError as error:
            found["died_at"], found["error"] = tokens, reason(error)
            return False
        finally:
            free()
        found.update(fits=tokens, seconds=seconds, peak_bytes=peak())
        return True

    tokens = first
    while tokens <= most and fits(tokens):
        tokens *= 2
    if found["died_at"] is None or found["fits"] is None:
        return found
    low, high = found["fits"], found["died_at"]
    for _ in range(steps):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return found

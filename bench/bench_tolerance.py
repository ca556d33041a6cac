"""Sweeps with a tolerance beside the full sweep, on SmolLM2-135M in float32, over a recording of real text.

Every round times the full sweep right before the one with a tolerance. `ratio` in extra_info is the median over rounds
of the two, `skipped` the share of the full sweep's work that was left out, `missing_worst` and `missing_mean` the
certificate. Every answer that is timed is checked: its distance to the full rows is within its missing mass, and that
within the tolerance.
"""

import json
import statistics
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import attributor
from attributor._prompt import Prompt, build_prompt, encode_answer
from attributor._start import span_tokens

ROOT = Path(__file__).parents[1]
LENGTHS = [2000, 4000, 8000]
TOLERANCES = [1e-4, 1e-3, 1e-2]
ROUNDS = 5
NOISE = 1e-5  # of 30 layers of float32


def texts() -> tuple[list[tuple[str, str]], str, str]:
    """Documents of the evaluation's sample, then pages of docs/; one of the sample's questions, and its evidence."""
    rows = [json.loads(line) for line in (ROOT / "eval" / "data" / "sample.jsonl").read_text("utf-8").splitlines()]
    found = {}
    for row in rows:
        for title, sentences in zip(row["context"]["title"], row["context"]["sentences"], strict=True):
            found.setdefault(title, sentences)
    documents = [(title, "".join(sentences)) for title, sentences in found.items()]
    documents += [(page.stem, page.read_text("utf-8")[:3000]) for page in sorted((ROOT / "docs").glob("*.md"))]
    facts = rows[0]["supporting_facts"]
    evidence = [found[title][i].strip() for title, i in zip(facts["title"], facts["sent_id"], strict=True)]
    return documents, rows[0]["question"], f"{rows[0]['answer']}. {' '.join(evidence)}"


def prompt_of(tokenizer: Any, tokens: int) -> tuple[Prompt, str]:
    """The longest prompt of at most `tokens` tokens whose documents are the first so many, and an answer."""
    documents, question, answer = texts()
    low, high = 1, len(documents)
    while low < high:
        middle = (low + high + 1) // 2
        fits = build_prompt(tokenizer, documents[:middle], question).ids.numel() <= tokens
        low, high = (middle, high) if fits else (low, middle - 1)
    return build_prompt(tokenizer, documents[:low], question), answer


@cache
def loaded() -> tuple[Any, Any]:
    """The default model in float32, and its tokenizer."""
    model, tokenizer = attributor.load_model(dtype="float32", progress=False)
    return model, tokenizer


@cache
def recording(tokens: int) -> tuple[Any, dict[str, Any], torch.Tensor]:
    """What the model read, all heads of it; how its flow is asked for; the question's tokens."""
    model, tokenizer = loaded()
    prompt, answer = prompt_of(tokenizer, tokens)
    ids = torch.cat([prompt.ids, encode_answer(tokenizer, answer)])
    with attributor.record(model) as found, torch.no_grad():
        model(ids[None], logits_to_keep=1)
    assert prompt.question is not None
    return found, {"out": ids, "prompt_length": len(prompt.ids)}, span_tokens(prompt.offsets, *prompt.question)


@pytest.mark.parametrize("tolerance", [0.0, *TOLERANCES])
@pytest.mark.parametrize("weights", ["mean", "retrieval"])
@pytest.mark.parametrize("tokens", LENGTHS)
def bench_tolerance(benchmark, tokens, weights, tolerance):
    """recording.flow() with a tolerance, and without."""
    try:
        found, options, question = recording(tokens)
    except attributor.ModelLoadError as error:
        pytest.skip(f"the default model cannot be loaded: {error}")
    options = options | {"weights": weights, "question": question if weights == "retrieval" else None}
    full: list[float] = []
    expected = found.flow(**options)

    def before() -> None:
        began = time.perf_counter()
        found.flow(**options)
        full.append(time.perf_counter() - began)

    benchmark.group = f"sweep of {tokens} tokens, {weights}"
    flow = benchmark.pedantic(
        found.flow, kwargs=options | {"tolerance": tolerance}, setup=before, rounds=ROUNDS, warmup_rounds=1
    )
    assert ((flow.scores - expected.scores).abs().sum(1) <= flow.missing_mass + NOISE).all()
    assert flow.missing_mass.max() <= tolerance + NOISE
    times = benchmark.stats.stats.data
    benchmark.extra_info |= {
        "tokens": options["prompt_length"],
        "answer_tokens": len(flow.scores),
        "weights": weights,
        "tolerance": tolerance,
        "ratio": statistics.median(t / b for t, b in zip(times, full[-len(times) :], strict=True)),
        "skipped": float(flow.meta.get("tiles_skipped", 0)),
        "missing_worst": float(flow.missing_mass.max()),
        "missing_mean": float(flow.missing_mass.mean()),
        "on_prompt": float(expected.scores.sum(1).mean()),
    }

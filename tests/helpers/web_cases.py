"""Files for the web views, up to the sizes of their limits."""

import json
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

SENTENCE = "The old ferry left the harbour at {} and came back with {} crates of salt. "
WORDS = ("dawn", "noon", "dusk", "midnight", "seven", "low tide", "high tide", "first light")


def flow_file(
    path: Path, *, tokens: int, rows: int, sentences: int, documents: int, seed: int = 0, sharp: bool = True
) -> Path:
    """Write a normalised flow of `tokens` prompt tokens and `rows` answer tokens, in documents of equal length.

    Each row has most of its mass on a handful of tokens, as real rows do; 2% of it stays on the answer.
    """
    rng = np.random.default_rng(seed)
    pieces = [f"[{i}] " + SENTENCE.format(WORDS[i % len(WORDS)], i) for i in range(sentences)]
    cuts = np.linspace(0, sentences, documents + 1).astype(int)
    text, spans, bounds = "", [], []
    parts: list[str] = ["Read these documents.\n\n"]
    at = len(parts[0])
    for d in range(documents):
        body = "".join(pieces[cuts[d] : cuts[d + 1]]).rstrip()
        title = f"Document {d}:\n"
        start = at
        at += len(title)
        for piece in pieces[cuts[d] : cuts[d + 1]]:
            bounds.append((at, at + len(piece.rstrip())))
            at += len(piece)
        at -= 1  # the space of the last sentence
        spans.append([start, start + len(title) + len(body), f"Document {d}"])
        parts += [title, body, "\n\n"]
        at += 2
    parts.append("When did the ferry leave?\nAnswer:")
    text = "".join(parts)
    ends = np.linspace(0, len(text), tokens + 1).astype(np.int32)
    offsets = np.stack([ends[:-1], ends[1:]], 1)
    answer = "".join(f" word{i}" for i in range(rows))
    steps = np.cumsum([0, *(len(f" word{i}") for i in range(rows))]).astype(np.int32)
    scores = rng.random((rows, tokens), dtype=np.float32)
    if sharp:
        scores *= 0.1
        peaks = rng.integers(1, tokens, (rows, 12))
        np.put_along_axis(scores, peaks, tokens * rng.random((rows, 12), dtype=np.float32) / 6, axis=1)
        scores[:, 0] = tokens * 0.2
    scores *= 0.98 / scores.sum(1, keepdims=True, dtype=np.float64).astype(np.float32)
    save_file(
        {
            "scores": scores,
            "ids": np.arange(tokens + rows, dtype=np.int64),
            "missing_mass": np.zeros(rows, np.float32),
            "text": np.frombuffer(text.encode(), np.uint8),
            "offsets": offsets,
            "answer": np.frombuffer(answer.encode(), np.uint8),
            "answer_offsets": np.stack([steps[:-1], steps[1:]], 1),
            "sentences": np.array(bounds, np.int32),
        },
        path,
        {
            "format": "attributor.flow",
            "version": "1",
            "documents": json.dumps(spans),
            "meta": json.dumps({"model": "made/for-tests", "weights": "mean", "normalize": "true"}),
        },
    )
    return path


def run_folder(path: Path, cases: int, *, seed: int = 0, sentences: int = 40, name: str = "flow:retrieval") -> Path:
    """Write the folder of a run with two methods; the first finds the single gold sentence in most cases."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    with (path / "cases.jsonl").open("w") as out:
        for i in range(cases):
            out.write(json.dumps(case_record(i, rng, sentences, name), separators=(",", ":")) + "\n")
    interval = {"value": 0.7, "low": 0.66, "high": 0.74, "n": cases}
    run = {
        "format": "attributor.run",
        "version": 1,
        "status": "done",
        "config": {"dataset": "made", "model": "made/for-tests", "methods": [name, "position"], "limit": None},
        "data": {"name": "made", "rows": cases, "sha256": "0" * 64},
        "versions": {"attributor": "0.1.0", "torch": "2.13.0"},
        "device": "cpu",
        "counts": {"rows": cases, "done": cases, "skipped": 0, "failed": 0},
        "metrics": {
            "version": 1,
            "counts": {"cases": cases, "done": cases, "skipped": 0, "failed": 0},
            "settings": {"main": "sum", "interval": "95% percentile bootstrap over rows"},
            "strata": {"all": cases},
            "answers": {"em": interval, "says": interval, "f1": interval},
            "methods": {
                method: {
                    "main": main,
                    "sentence": {main: {"all": {"ap": interval, "recall@5": interval}}},
                    "document": {},
                    "costs": {},
                    "faithfulness": None,
                }
                for method, main in ((name, "sum"), ("position", "segment"))
            },
            "differences": [],
        },
    }
    (path / "run.json").write_text(json.dumps(run))
    return path


def case_record(i: int, rng: np.random.Generator, sentences: int, name: str) -> dict:
    """Return one done case; each case has another gold sentence."""
    text, segments, documents = "Read.\n\n", [], []
    per = max(sentences // 4, 1)
    for d in range(4):
        start = len(text)
        text += f"Title {d}:\n"
        for j in range(per):
            piece = SENTENCE.format(WORDS[(i + j) % len(WORDS)], i * 100 + j)
            segments.append([len(text), len(text) + len(piece) - 1, d])
            text += piece
        text = text.rstrip()
        documents.append([start, len(text), f"Title {d}"])
        text += "\n\n"
    text += f"Question {i}?"
    gold = int(rng.integers(len(segments)))
    scores = rng.random(len(segments)) * 0.01
    scores[gold] += 0.3 if i % 3 else 0.0
    return {
        "id": f"case-{i:05d}",
        "status": "done",
        "reason": None,
        "kind": "bridge" if i % 2 else "comparison",
        "level": "hard",
        "question": f"Question {i}?",
        "expected": WORDS[i % len(WORDS)],
        "aliases": [],
        "tokens": 900 + i % 50,
        "answer_tokens": 3,
        "answer": WORDS[(i + i % 2) % len(WORDS)],
        "log_prob": -1.0,
        "generated": WORDS[(i + i % 2) % len(WORDS)],
        "em": float(i % 2 == 0),
        "f1": float(i % 2 == 0),
        "says": float(i % 2 == 0),
        "verified": None,
        "verifier_error": None,
        "text": text,
        "segments": segments,
        "documents": documents,
        "gold": [gold],
        "gold_documents": [segments[gold][2]],
        "methods": {
            name: {
                "scores": {"sum": scores.tolist(), "mean": (scores / 20).tolist()},
                "documents": {"sum": [float(sum(scores[d * per : (d + 1) * per])) for d in range(4)]},
                "seconds": 0.1,
                "reads": True,
                "passes": 0,
            },
            "position": {
                "scores": {"segment": [float(j) for j in range(len(segments))]},
                "documents": {"segment": [0.0, 1.0, 2.0, 3.0]},
                "seconds": 0.0,
                "reads": False,
                "passes": 0,
            },
        },
        "seconds": 1.0,
        "seconds_read": 0.5,
        "seconds_plain": None,
        "peak_bytes": None,
        "faithfulness": None,
    }


def case_list(path: Path) -> Path:
    """Write a JSON list of the previous tool: documents, an answer, and the documents it was attributed to."""
    documents = [
        "The ferry leaves at seven.",
        "The mill was built in 1880.",
        "Salt is sold by the crate. <b>Not bold</b>",
    ]
    path.write_text(
        json.dumps(
            [
                {
                    "case": {
                        "documents": documents,
                        "expected_output": "seven",
                        "supporting_documents": [documents[0]],
                    },
                    "generated_output": "At seven.",
                    "attributed_documents": [documents[0], documents[2]],
                    "attributed_document_scores": [0.8, 0.2],
                    "verification": True,
                },
                {
                    "case": {"documents": documents, "expected_output": "1880", "supporting_documents": [documents[1]]},
                    "generated_output": "I do not know.",
                    "attributed_documents": [documents[2], documents[1]],
                    "attributed_document_scores": [0.6, 0.4],
                    "verification": False,
                },
            ]
        )
    )
    return path


def word_flow(
    path: Path,
    documents: dict[str, list[str]],
    *,
    answer: str = " She left at seven.",
    question: str = "When did she leave?",
    meta: dict[str, str] | None = None,
    sentences: bool = True,
    seed: int = 0,
) -> Path:
    """Return a small flow with words as tokens, each with the space before it; documents are {label: [sentence, ...]}.

    The first token is a sink with a fifth of each row. 3% stays on the answer except in the first row; 1% is missing.
    """
    text, bounds, spans = "<s>Read these.\n\n", [], []
    for label, pieces in documents.items():
        start = len(text)
        for piece in pieces:
            bounds.append([len(text), len(text) + len(piece)])
            text += piece + " "
        text = text[:-1]
        spans.append([start, len(text), label])
        text += "\n\n"
    text += question
    offsets = [match.span() for match in re.finditer(r"<s>|\s+|[ ]?\S+", text, re.UNICODE)]
    steps = [match.span() for match in re.finditer(r"\s?\S+", answer)]
    k, o = len(offsets), len(steps)
    rng = np.random.default_rng(seed)
    scores = rng.random((o, k)) ** 6
    scores[:, 0] = 0
    kept = np.where(np.arange(o) > 0, 0.96, 0.99)
    scores *= (kept - 0.2)[:, None] / scores.sum(1, keepdims=True)
    scores[:, 0] = 0.2
    tensors = {
        "scores": scores.astype(np.float32),
        "ids": np.arange(k + o, dtype=np.int64),
        "missing_mass": np.full(o, 0.01, np.float32),
        "text": np.frombuffer(text.encode(), np.uint8),
        "offsets": np.array(offsets, np.int32),
        "answer": np.frombuffer(answer.encode(), np.uint8),
        "answer_offsets": np.array(steps, np.int32),
    }
    if sentences:
        tensors["sentences"] = np.array(bounds, np.int32)
    head = {
        "format": "attributor.flow",
        "version": "1",
        "documents": json.dumps(spans),
        "meta": json.dumps({"model": "made/for-tests", "weights": "mean", "normalize": "true", **(meta or {})}),
    }
    save_file(tensors, path, head)
    return path


FERRY = {
    "Ferry": ["The ferry leaves at seven.", "It comes back at noon.", "She took it on Monday."],
    "Mill": ["The mill was built in 1880.", "Its wheel turns slowly.", "Nobody lives there now."],
    "Salt": ["Salt is sold by the crate.", "A crate weighs nine pounds."],
}

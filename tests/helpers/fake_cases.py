"""Invented records in the format of `attributor eval`, for tests of metrics and reports."""

import json

import numpy as np

AGGREGATIONS = ("sum", "mean", "top5", "max")
# name: (score advantage of gold pieces, uses the shared forward pass, own seconds, extra passes, aggregations)
METHODS = {
    "flow": (0.1, True, 0.09, 0, AGGREGATIONS),
    "flow:retrieval": (2.2, True, 0.01, 0, AGGREGATIONS),
    "max-attention": (1.5, True, 0.05, 0, AGGREGATIONS),
    "gradient-x-input": (0.8, False, 3.1, 1, AGGREGATIONS),
    "contextcite:32": (1.6, False, 32.0, 32, ("segment",)),
    "random": (0.0, False, 1e-5, 0, ("segment",)),
}


def case(i, generator, methods=METHODS, S=12, documents=4, only=None, faithful=False):
    """Return one done record: S sentences in `documents` documents, two of them gold."""
    gold = sorted(generator.choice(S, 2, replace=False).tolist())
    owner = np.arange(S) * documents // S
    found = {}
    for name, (signal, reads, seconds, passes, aggregations) in methods.items():
        if only and name in only and i >= only[name]:
            continue
        base = generator.normal(size=S) + signal * np.isin(np.arange(S), gold)
        scores = {how: np.round(base + 0.3 * generator.normal(size=S), 4) for how in aggregations}
        found[name] = {
            "scores": {how: row.tolist() for how, row in scores.items()},
            "documents": {how: [float(row[owner == d].sum()) for d in range(documents)] for how, row in scores.items()},
            "seconds": seconds * float(generator.uniform(0.9, 1.2)),
            "reads": reads,
            "passes": passes,
        }
    em = int(generator.random() < 0.3)
    record = {
        "id": f"row-{i}",
        "status": "done",
        "reason": None,
        "kind": "comparison" if i % 4 == 0 else "bridge",
        "level": "hard",
        "question": "SECRET question",
        "expected": "SECRET answer",
        "aliases": [],
        "tokens": 900,
        "answer_tokens": 3,
        "answer": "SECRET answer",
        "log_prob": -4.2,
        "generated": "SECRET written",
        "em": em,
        "f1": float(em),
        "text": "SECRET text",
        "segments": [[10 * s, 10 * s + 10, int(owner[s])] for s in range(S)],
        "documents": [[0, 10, "SECRET title"] for _ in range(documents)],
        "gold": gold,
        "gold_documents": sorted({int(owner[g]) for g in gold}),
        "methods": found,
        "seconds_read": 1.1,
        "seconds_plain": 1.0 if i < 8 else None,
        "peak_bytes": 10**9 + i,
        "faithfulness": None,
    }
    if faithful:
        record["faithfulness"] = {
            "convention": "text",
            "masks": 32,
            "seed": 7,
            "drops": {
                name: {str(k): methods[name][0] * k / 3 + float(generator.normal()) for k in (1, 3, 5)}
                for name in found
            },
            "lds": {name: float(np.clip(methods[name][0] / 4 + 0.2 * generator.normal(), -1, 1)) for name in found},
        }
    return record


def cases(n=30, seed=0, **options):
    """Return `n` done records."""
    generator = np.random.default_rng(seed)
    return [case(i, generator, **options) for i in range(n)]


def write_run(folder, records, config=None, finished=True):
    """Write a run folder with these records."""
    folder.mkdir(parents=True)
    (folder / "cases.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    if config is not None:
        run = {"format": "attributor.run", "version": 1, "config": config, "status": "done" if finished else "running"}
        (folder / "run.json").write_text(json.dumps(run), "utf-8")
    return folder

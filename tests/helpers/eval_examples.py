"""Examples in HotPotQA's schema, so small that a random model reads many of them in a second."""

import json
from pathlib import Path
from typing import Any

NAMES = ["Ada", "Bela", "Cleo", "Dora", "Emil", "Finn", "Gus", "Hedi", "Ines", "Jan", "Kai", "Lea"]


def make_example(number: int, **changes: Any) -> dict[str, Any]:
    """Return a two-hop question over three paragraphs of two sentences; `changes` replace fields."""
    name, other = NAMES[number % len(NAMES)], NAMES[(number + 5) % len(NAMES)]
    titles = [f"{name} {number}", f"{other} {number}", "The harbour"]
    sentences = [
        [f"{name} keeps the light of tower {number}.", f" {name} writes the weather into a book."],
        [f"Tower {number} was built by {other}.", " It stands on the cliff."],
        ["The harbour is on the sheltered side.", " Fishing boats leave before dawn."],
    ]
    return {
        "id": f"case-{number}",
        "question": f"Who built the tower that {name} keeps?",
        "answer": other,
        "type": "bridge" if number % 3 else "comparison",
        "level": "easy",
        "context": {"title": titles, "sentences": sentences},
        "supporting_facts": {"title": titles[:2], "sent_id": [0, 0]},
        **changes,
    }


def write_examples(file: Path, examples: list[Any]) -> Path:
    """Write the examples as JSON lines; strings are written unchanged."""
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in examples]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file

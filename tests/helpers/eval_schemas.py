"""The same question in every schema, and files of such rows."""

import copy
import json

HUB = {
    "id": "a1",
    "question": " Who keeps the light? ",
    "answer": "Ada",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": {"title": ["The light", "Ada"], "sent_id": [1, 0]},
    "context": {
        "title": ["The light", "Ada"],
        "sentences": [["The light is old.", " Its keeper lives there.", ""], ["Ada keeps the light.", "She is 40."]],
    },
}

OFFICIAL = {
    "_id": "a1",
    "question": "Who keeps the light?",
    "answer": "Ada",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [["The light", 1], ["Ada", 0]],
    "context": [list(pair) for pair in zip(HUB["context"]["title"], HUB["context"]["sentences"], strict=True)],
}

TWO_WIKI = {
    **{key: value for key, value in OFFICIAL.items() if key != "level"},
    "type": "compositional",
    "evidences": [["The light", "keeper", "Ada"]],
}

MUSIQUE = {
    "id": "3hop1__1_2_3",
    "question": "Who keeps the light?",
    "answer": "Ada",
    "answer_aliases": ["Ada L."],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "Same", "paragraph_text": "The light is old. Its keeper is Ada.", "is_supporting": False},
        {"idx": 1, "title": "Same", "paragraph_text": "Ada keeps the light.", "is_supporting": True},
    ],
}

ROWS = {"hotpotqa": HUB, "2wiki": TWO_WIKI, "musique": MUSIQUE}


def changed(row, **fields):
    """Return the row with changed fields; fields that are None are dropped."""
    new = {**copy.deepcopy(row), **fields}
    return {key: value for key, value in new.items() if value is not None}


def write(path, content):
    """Write a file: text or bytes unchanged, rows as JSON lines (.jsonl) or as a list (.json)."""
    if isinstance(content, list):
        lines = "".join(json.dumps(row) + "\n" for row in content)
        content = lines if path.name.endswith("l") else json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path

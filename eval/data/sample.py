"""The two-hop questions that are shipped in sample.jsonl, in the hub's schema of HotPotQA."""

from attributor.eval.data.hotpotqa import question, recognises

__all__ = ["question", "recognises"]

NAME = "sample"
TITLE = "HotPotQA"
FILE = "sample.jsonl"
NOTE = (
    "these are the questions that come with attributor; for HotPotQA itself give --split validation (fetched from the "
    "hub once) or the name of its file"
)
ORDER = 40

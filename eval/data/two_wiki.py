"""2WikiMultihopQA (Ho et al. 2020, https://arxiv.org/abs/2011.01060): HotPotQA's schema, evidence by sentence."""

from attributor.eval.data import hotpotqa
from attributor.eval.data._fields import FieldError, Row
from attributor.eval.data._question import Question

__all__ = ["question", "recognises"]

NAME = "2wiki"
TITLE = "2WikiMultihopQA"
SUMMARY = "2WikiMultihopQA: evidence by sentence."
DESCRIPTION = "2WikiMultihopQA: ten paragraphs a question, evidence by sentence. DATA is its .json or .jsonl file."
EXAMPLES = (
    "attributor eval 2wiki dev.json --limit 200",
    "attributor eval 2wiki dev.json --answer generated --method flow:retrieval,contextcite:64",
)
HOME = "https://github.com/Alab-NII/2wikimultihop"
FIELDS = ("id (or _id)", "question", "answer", "context", "supporting_facts")
ORDER = 20

KINDS = ("compositional", "inference", "bridge_comparison")  # beside "comparison", which HotPotQA has too


def question(row: Row) -> tuple[Question, list[FieldError]]:
    """A row of 2WikiMultihopQA; its sentences come without the space between them, which is put in.

    Raises:
        FieldError: as for HotPotQA.
    """
    found: tuple[Question, list[FieldError]] = hotpotqa.question(row, separator=" ")
    return found


def recognises(row: Row) -> bool:
    """Whether a row is 2WikiMultihopQA's: HotPotQA's fields, with evidences or a kind of its own, without a level."""
    typical = "evidences" in row or row.get("type") in KINDS
    return "context" in row and "supporting_facts" in row and typical and "level" not in row

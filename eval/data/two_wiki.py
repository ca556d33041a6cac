"""2WikiMultihopQA (Ho et al. 2020, https://arxiv.org/abs/2011.01060): HotPotQA's schema, evidence by sentence."""

from attributor.eval.data import hotpotqa
from attributor.eval.data._schema import FieldError, Row, Schema
from attributor.eval.question import Question

__all__ = ["SCHEMA", "question"]

KINDS = ("compositional", "inference", "bridge_comparison")  # beside "comparison", which HotPotQA has too


def question(row: Row) -> tuple[Question, list[FieldError]]:
    """A row of 2WikiMultihopQA; its sentences come without the space between them, which is put in.

    Raises:
        FieldError: as for HotPotQA.
    """
    found: tuple[Question, list[FieldError]] = hotpotqa.question(row, separator=" ")
    return found


def _recognises(row: Row) -> bool:
    typical = "evidences" in row or row.get("type") in KINDS
    return "context" in row and "supporting_facts" in row and typical and "level" not in row


SCHEMA = Schema(
    "2WikiMultihopQA",
    hotpotqa.SCHEMA.fields,
    question,
    _recognises,
    home="https://github.com/Alab-NII/2wikimultihop",
)

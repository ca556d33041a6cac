"""2WikiMultihopQA (Ho et al. 2020, https://arxiv.org/abs/2011.01060): HotPotQA's schema, evidence by sentence."""

from attributor.eval.data import hotpotqa
from attributor.eval.data._fields import Example, FieldError
from attributor.eval.data._question import Question

__all__ = ["question", "recognises"]

NAME = "2wiki"
TITLE = "2WikiMultihopQA"
SUMMARY = "2WikiMultihopQA: evidence by sentence."
DESCRIPTION = "2WikiMultihopQA: ten paragraphs a question, evidence by sentence. DATA is its .json or .jsonl file."
COMMANDS = (
    "attributor eval 2wiki dev.json --limit 200",
    "attributor eval 2wiki dev.json --answer generated --method flow:retrieval,contextcite:64",
)
HOME = "https://github.com/Alab-NII/2wikimultihop"
FIELDS = ("id (or _id)", "question", "answer", "context", "supporting_facts")
ORDER = 20

KINDS = ("compositional", "inference", "bridge_comparison")  # beside "comparison", which HotPotQA has too


def question(example: Example) -> tuple[Question, list[FieldError]]:
    """Convert an example. Its sentences have no space between them, so one is inserted.

    Raises:
        FieldError: as for HotPotQA.
    """
    result: tuple[Question, list[FieldError]] = hotpotqa.question(example, separator=" ")
    return result


def recognises(example: Example) -> bool:
    """Return whether an example is of 2WikiMultihopQA: HotPotQA's fields, with evidences or a kind of KINDS, without
    level.
    """
    typical = "evidences" in example or example.get("type") in KINDS
    return "context" in example and "supporting_facts" in example and typical and "level" not in example

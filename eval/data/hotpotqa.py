"""HotPotQA (Yang et al. 2018, https://arxiv.org/abs/1809.09600): ten paragraphs, evidence by sentence."""

from attributor.eval.data._fields import (
    Example,
    FieldError,
    build_documents,
    check_list,
    check_text,
    read_id,
    read_pairs,
    read_text,
)
from attributor.eval.data._question import Document, Question

__all__ = ["question", "recognises"]

NAME = "hotpotqa"
TITLE = "HotPotQA"
SUMMARY = "HotPotQA, or the sample that comes with attributor: evidence by sentence."
DESCRIPTION = """HotPotQA: ten paragraphs a question, evidence by sentence. Without DATA it is a sample of such
questions that comes with attributor; with --config or --split the public data set, hotpotqa/hotpot_qa. DATA is a .json
or .jsonl file, in the official schema or in the hub's."""
COMMANDS = (
    "attributor eval hotpotqa  the sample that comes with attributor",
    "attributor eval hotpotqa --split validation --limit 200 --max-tokens 1900",
    "attributor eval hotpotqa hotpot_dev_distractor_v1.json --method flow,contextcite:32 --faithfulness",
    "attributor eval hotpotqa --split validation --model Qwen/Qwen2.5-7B-Instruct --dtype float16 --device-map cuda",
    "torchrun --nproc-per-node 8 -m attributor.cli eval hotpotqa --split validation --device-map cuda",
)
HOME = "https://hotpotqa.github.io"
FIELDS = ("id (or _id)", "question", "answer", "context", "supporting_facts")
HUB = "hotpotqa/hotpot_qa"
SPLITS = {"distractor": ("train", "validation"), "fullwiki": ("train", "validation", "test")}
DEFAULT_SPLIT = ("distractor", "validation")
WITHOUT_DATA = "sample"
ORDER = 10


def question(example: Example, *, separator: str = "") -> tuple[Question, list[FieldError]]:
    """Convert an example in the hub's schema or the official one; the notes say what was left out.

        the hub's:  {id, question, answer, type, level,
                     context: {title[], sentences[][]}, supporting_facts: {title[], sent_id[]}}
        official:   {_id, question, answer, type, level,
                     context: [[title, [sentence, ...]], ...], supporting_facts: [[title, sent_id], ...]}

    Sentences after the first keep the space that they begin with. Supporting facts without a sentence, or with an empty
    one, are left out and noted.

    Args:
        example: the example.
        separator: text between two sentences that no white space separates.

    Raises:
        FieldError: a field cannot be used, or no supporting fact has a sentence.
    """
    notes: list[FieldError] = []
    paragraphs = []
    for i, (title, sentences) in enumerate(read_pairs(example, "context", "title", "sentences")):
        title = check_text(f"context, title {i + 1}", title, empty=True)
        field = f"context, sentences of paragraph {i + 1}"
        pieces = [check_text(field, sentence, empty=True) for sentence in check_list(field, sentences)]
        paragraphs.append((title, _add_separators(pieces, separator)))
    documents, _ = build_documents("context", paragraphs, notes)
    return (
        Question(
            id=read_id(example, "id", "_id"),
            text=read_text(example, "question"),
            answer=read_text(example, "answer"),
            documents=documents,
            gold=_gold(example, documents, notes),
            kind=read_text(example, "type", default=""),
            level=read_text(example, "level", default=""),
        ),
        notes,
    )


def _add_separators(sentences: list[str], separator: str) -> tuple[str, ...]:
    """Put the separator before each sentence that no white space separates from the one before."""
    pieces: list[str] = []
    before = ""
    for sentence in sentences:
        apart = not before or not sentence or before[-1].isspace() or sentence[0].isspace()
        pieces.append(sentence if apart else separator + sentence)
        before = sentence or before
    return tuple(pieces)


def _gold(example: Example, documents: tuple[Document, ...], notes: list[FieldError]) -> frozenset[tuple[int, int]]:
    """Locate the supporting facts as (document, piece). Equal sentences under equal titles are all evidence."""
    field = "supporting_facts"
    facts = read_pairs(example, field, "title", "sent_id")
    lost: list[FieldError] = []
    gold: set[tuple[int, int]] = set()
    for title, number in facts:
        title = check_text(field, title, empty=True)
        if not isinstance(number, int) or isinstance(number, bool):
            raise FieldError(field, f"sent_id must be a whole number, got {str(number)[:40]!r}")
        named = [d for d, document in enumerate(documents) if document.title == title]
        places = [(d, number) for d in named if 0 <= number < len(documents[d].pieces)]
        places = [(d, number) for d, number in places if documents[d].pieces[number].strip()]
        if places:
            first = documents[places[0][0]].pieces[number]
            gold |= {(d, number) for d, number in places if documents[d].pieces[number] == first}
        elif not named:
            lost.append(FieldError(field, f"no paragraph has the title {title!r}"))
        else:
            lost.append(FieldError(field, f"{title!r} has no sentence {number} with text"))
    if not gold:
        raise FieldError(field, lost[0].reason if lost else "is empty")
    notes += lost
    return frozenset(gold)


def recognises(example: Example) -> bool:
    """Return whether an example has the fields of HotPotQA, and not those of 2WikiMultihopQA."""
    return "context" in example and "supporting_facts" in example and "level" in example and "evidences" not in example

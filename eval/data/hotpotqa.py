"""HotPotQA (Yang et al. 2018, https://arxiv.org/abs/1809.09600): ten paragraphs, evidence by sentence."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from attributor._errors import InputError
from attributor.eval.data._schema import FieldError, Row, Schema, documents_of, identifier, items, pairs, text, text_of
from attributor.eval.question import Document, Question

__all__ = ["SCHEMA", "question"]

HUB = "hotpotqa/hotpot_qa"
SPLITS = {"distractor": ("train", "validation"), "fullwiki": ("train", "validation", "test")}
LOCAL = "name a local .json or .jsonl file of it instead"


def question(row: Row, *, separator: str = "") -> tuple[Question, list[FieldError]]:
    """A row in the hub's schema or in the official one, and what was left out of it.

        the hub's:  {id, question, answer, type, level,
                     context: {title[], sentences[][]}, supporting_facts: {title[], sent_id[]}}
        official:   {_id, question, answer, type, level,
                     context: [[title, [sentence, ...]], ...], supporting_facts: [[title, sent_id], ...]}

    Sentences after the first keep the space that they begin with. Supporting facts that lead nowhere, or to an empty
    sentence, are left out and noted.

    Args:
        row: the row.
        separator: what to put between two sentences that no white space parts.

    Raises:
        FieldError: a field that cannot be used, or no supporting fact that leads anywhere.
    """
    notes: list[FieldError] = []
    paragraphs = []
    for i, (title, sentences) in enumerate(pairs(row, "context", "title", "sentences")):
        title = text(f"context, title {i + 1}", title, empty=True)
        field = f"context, sentences of paragraph {i + 1}"
        pieces = [text(field, sentence, empty=True) for sentence in items(field, sentences)]
        paragraphs.append((title, _parted(pieces, separator)))
    documents, _ = documents_of("context", paragraphs, notes)
    return (
        Question(
            id=identifier(row, "id", "_id"),
            text=text_of(row, "question"),
            answer=text_of(row, "answer"),
            documents=documents,
            gold=_gold(row, documents, notes),
            kind=text_of(row, "type", default=""),
            level=text_of(row, "level", default=""),
        ),
        notes,
    )


def _parted(sentences: list[str], separator: str) -> tuple[str, ...]:
    """The sentences, each beginning with the separator if no white space parts it from what stands before it."""
    pieces: list[str] = []
    before = ""
    for sentence in sentences:
        apart = not before or not sentence or before[-1].isspace() or sentence[0].isspace()
        pieces.append(sentence if apart else separator + sentence)
        before = sentence or before
    return tuple(pieces)


def _gold(row: Row, documents: tuple[Document, ...], notes: list[FieldError]) -> frozenset[tuple[int, int]]:
    """The supporting facts as (document, piece); equal sentences under equal titles are all evidence."""
    field = "supporting_facts"
    facts = pairs(row, field, "title", "sent_id")
    lost: list[FieldError] = []
    gold: set[tuple[int, int]] = set()
    for title, number in facts:
        title = text(field, title, empty=True)
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
        raise FieldError(field, lost[0].what if lost else "is empty")
    notes += lost
    return frozenset(gold)


def _recognises(row: Row) -> bool:
    return "context" in row and "supporting_facts" in row and "level" in row and "evidences" not in row


def _hub(config: str, split: str, limit: int | None) -> tuple[str, Iterator[Row]]:
    """The rows of the public data set; with a limit only they are fetched, unless all are in the cache.

    Raises:
        InputError: an unknown configuration or split, or a hub that cannot be reached.
    """
    if config not in SPLITS:
        raise InputError(f"unknown configuration {config!r} of {HUB}; there are {', '.join(SPLITS)}")
    if split.partition("[")[0] not in SPLITS[config]:
        raise InputError(f"unknown split {split!r} of {HUB}, {config}; there are {', '.join(SPLITS[config])}")
    try:
        import datasets  # type: ignore[import-untyped]  # here, because it takes seconds and local files do not need it
    except ImportError as error:
        raise InputError(f"{HUB} needs the package datasets: pip install 'attributor[eval]'; or {LOCAL}") from error
    label = f"{HUB}, {config}, {split}"
    cached = Path(datasets.config.HF_DATASETS_CACHE, HUB.replace("/", "___"), config).is_dir()
    streaming = limit is not None and not cached and "[" not in split  # a slice cannot be streamed
    try:
        rows = datasets.load_dataset(HUB, config, split=split, streaming=streaming)
        return label, iter(list(islice(rows, limit)) if streaming else rows)
    except Exception as error:  # every layer below (hub, http, file systems, arrow) raises errors of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{label} cannot be loaded from the hub ({reason}); {LOCAL}") from error


SCHEMA = Schema(
    "HotPotQA",
    ("id (or _id)", "question", "answer", "context", "supporting_facts"),
    question,
    _recognises,
    _hub,
    "https://hotpotqa.github.io",
)

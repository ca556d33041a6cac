"""Measure citations: the sources of claims in generated answers, and the evidence of HotPotQA answers.

    python bench/citations.py claims 40                    a question about two facts, answered by two claims
    python bench/citations.py hotpotqa 60 FILE.json        forced answers, gold evidence

docs/quality.md shows the numbers. `claims` varies the question share of a claim's rows; both commands print the
citations of the rule of `Flow.cite`.
"""

import dataclasses
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import attributor
from attributor._heads.calibration.prompts import make_case
from attributor.eval.data import load_questions

SHARES = (0.0, 0.125, 0.25, 0.375, 0.5)
FORMS = {"short": "{}.", "sentence": "The answer to the {order} question is {}."}


def two_questions(
    number: int, kind: str, form: str
) -> tuple[list[tuple[str, str]], str, list[str], list[tuple[str, str]]] | None:
    """Return documents, a question about two of them, an answer of two claims, and (title, sentence) of each source."""
    cases = [make_case(kind, 11, 2 * number + i, documents=4) for i in (0, 1)]
    documents = [(title, " ".join(sentences)) for case in cases for title, sentences in case.documents]
    if len({title for title, _ in documents}) < len(documents):
        return None
    random.Random(number).shuffle(documents)
    first, second = (case.question for case in cases)
    claims = [
        FORMS[form].format(case.answer, order=order) for case, order in zip(cases, ("first", "second"), strict=True)
    ]
    planted = [(case.documents[d][0], case.documents[d][1][s]) for case in cases for d, s in case.planted[:1]]
    return documents, f"{first} And {second[0].lower()}{second[1:]}", claims, planted


def shares_of_sentences(
    flow: attributor.Flow, claim: attributor.Claim, share: float
) -> list[tuple[str | None, str, float]]:
    """Return (title, sentence, share) for a claim's rows with question share `share`; in the flow it is a half."""
    part = flow.for_answer((claim.start, claim.stop))
    question = flow.question_scores.double()
    rows = (part.scores.double() - question) * (1 - share) * 2 + question * share * 2
    grouped = dataclasses.replace(part, scores=rows.float())
    sentences = grouped.by("sentence")
    total = float(grouped.by("document").total().sum())
    shares = []
    for segment, value in zip(sentences.segments, sentences.total().tolist(), strict=True):
        document = flow.documents[segment.document or 0]
        if segment.start >= document.body:  # a title line is not a sentence
            shares.append((document.label, segment.text, value / total))
    return shares


def measure_claims(count: int) -> None:
    model, tokenizer = attributor.load_model()
    for kind in ("fact", "paraphrase"):
        for form in FORMS:
            first: dict[float, list[bool]] = defaultdict(list)
            size: dict[float, list[float]] = defaultdict(list)
            cited = Cited()
            for number in range(count):
                case = two_questions(number, kind, form)
                if case is None:
                    continue
                documents, question, claims, planted = case
                length = len(claims[0])
                answer = attributor.ask(
                    documents,
                    question,
                    answer=" ".join(claims),
                    claims=[(0, length), (length + 1, length + 1 + len(claims[1]))],
                    model=model,
                    tokenizer=tokenizer,
                )
                for claim, source in zip(answer.claims, planted, strict=True):
                    cited.add({(c.title, c.quote) for c in claim.citations}, {source})
                    for share in SHARES:
                        ranked = sorted(shares_of_sentences(answer.flow, claim, share), key=lambda x: -x[2])
                        first[share].append(ranked[0][:2] == source)
                        size[share].append(sum(value for *place, value in ranked if tuple(place) == source))
            print(f"{kind}, {form} claims: {cited}")
            for share in SHARES:
                print(f"  {share:.3f} of a row on the question: planted sentence first {np.mean(first[share]):.3f}, "
                      f"its share {np.mean(size[share]):.2f}", flush=True)  # fmt: skip


class Cited:
    """Count the citations and the expected citations."""

    def __init__(self) -> None:
        self.cited = self.right = self.marked = self.answers = 0

    def add(self, cited: set[Any], marked: set[Any]) -> None:
        self.cited, self.marked = self.cited + len(cited), self.marked + len(marked)
        self.right, self.answers = self.right + len(cited & marked), self.answers + 1

    def __str__(self) -> str:
        return (
            f"{self.answers} claims, {self.cited / self.answers:.2f} citations each, precision "
            f"{self.right / self.cited:.3f}, recall {self.right / self.marked:.3f}"
        )


def find_overlapping(cited: tuple[int, int, int], pieces: dict[Any, tuple[int, int, int]]) -> Iterator[Any]:
    document, start, stop = cited
    for name, (other, low, high) in pieces.items():
        if document == other and min(stop, high) - max(start, low) > (high - low) / 2:
            yield name


def measure_hotpotqa(count: int, path: Path) -> None:
    model, tokenizer = attributor.load_model()
    cited = Cited()
    for question in load_questions("hotpotqa", path).questions:
        documents, pieces = [], {}
        for d, document in enumerate(question.documents):
            at = 0
            for p, piece in enumerate(document.pieces):
                pieces[d, p] = (d, at + len(piece) - len(piece.lstrip()), at + len(piece.rstrip()))
                at += len(piece)
            documents.append((document.title, "".join(document.pieces)))
        prompt = attributor.build_prompt(tokenizer, documents, question.text)
        if len(prompt.ids) > 1700:
            continue
        answer = attributor.ask(
            documents,
            question.text,
            answer=question.answer,
            claims=[(0, len(question.answer))],
            model=model,
            tokenizer=tokenizer,
        )
        found = {name for c in answer.citations for name in find_overlapping((c.document, c.start, c.stop), pieces)}
        cited.add(found, set(question.gold))
        print(f"\r{cited}", end="", flush=True)
        if cited.answers == count:
            break
    print()


if __name__ == "__main__":
    if sys.argv[1:2] == ["claims"]:
        measure_claims(int(sys.argv[2]))
    elif sys.argv[1:2] == ["hotpotqa"]:
        measure_hotpotqa(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(__doc__)

"""Generate calibration prompts: invented documents, a question, and the planted sentences that answer it.

No data set and no labels: names and facts are drawn from the lists of `words`. Only `random.Random.random` is used,
whose sequence Python promises to keep, so a seed gives the same prompts everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from attributor._checks import shorten_value
from attributor._draw import Draw
from attributor._errors import InputError
from attributor._heads.calibration.words import CODE, KINDS_OF_THING, MOTTO, NAMES, PHRASE, VALUES, Fact

__all__ = ["KINDS", "Case", "make_case", "make_cases"]

T = TypeVar("T")
KINDS = ("fact", "two_hop", "copy", "paraphrase", "comparison")
STANDARD = KINDS[:4]
LEAST = 2  # documents
MOST = 10  # each document needs its own value; the lists in VALUES hold a few more


@dataclass(frozen=True)
class Case:
    """A prompt with an answer and the sentences that hold it.

    Attributes:
        kind: one of `KINDS`.
        documents: (title, sentences) each.
        question: the question's text.
        answer: its answer, which occurs in the last planted sentence (for a comparison: in the first one).
        planted: (document, sentence) of the sentences that answer it, in the order in which they are needed.
    """

    kind: str
    documents: tuple[tuple[str, tuple[str, ...]], ...]
    question: str
    answer: str
    planted: tuple[tuple[int, int], ...]


def make_cases(count: int, seed: int = 0, *, kinds: Sequence[str] = STANDARD, documents: int = MOST) -> list[Case]:
    """Make `count` cases, with the kinds in turn; case i depends only on the seed and i.

    Args:
        count: how many, >= 1.
        seed: any whole number; another one gives other names, facts and questions.
        kinds: some of `KINDS`: "fact" (a question about one fact), "two_hop" (a fact in one document leads to the
            document with the answer), "copy" (repeat a code or a motto), "paraphrase" (the question uses other words
            than the sentence), "comparison" (which of two years is earlier).
        documents: how many a prompt has, 2 to 10.

    Raises:
        InputError: a count below 1, a seed that is not a whole number, unknown kinds, or documents out of range.
    """
    if not kinds or not set(kinds) <= set(KINDS):
        raise InputError(f"kinds must be some of {', '.join(KINDS)}, got {', '.join(kinds) or 'none'}")
    if not isinstance(seed, int):
        raise InputError(f"seed must be a whole number, got {shorten_value(seed)}")
    for name, value, low, high in (("count", count, 1, 10**6), ("documents", documents, LEAST, MOST)):
        if not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{name} must be a whole number from {low} to {high}, got {shorten_value(value)}")
    return [make_case(kinds[i % len(kinds)], seed, i, documents=documents) for i in range(count)]


def make_case(kind: str, seed: int, index: int, *, documents: int = MOST) -> Case:
    """Case `index` of a seed; see `make_cases`."""
    draw = Draw("attributor", seed, index)
    world = _World(draw)
    if kind == "two_hop":
        return _make_two_hop(draw, world, documents)
    if kind == "comparison":
        return _make_comparison(draw, world, documents)
    return _make_one_hop(draw, world, kind, documents)


class _World:
    """Names and values that were not used yet in this prompt."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._left: dict[str, list[Any]] = {}

    def _pick(self, name: str, items: Sequence[T]) -> T:
        left = self._left.setdefault(name, list(items))
        return left.pop(self._draw.below(len(left)))  # type: ignore[no-any-return]

    def name(self, thing: str) -> str:
        form, first, second = NAMES[thing]
        return form.format(self._pick(f"{thing} 0", first.split()), self._pick(f"{thing} 1", second.split()))

    def value(self, what: str) -> str:
        """A value that no other sentence of the prompt has."""
        if what in NAMES:
            return self.name(what)
        if what == "year":
            return str(self._pick(what, range(1620, 1960)))
        if what == "code":
            letters = "".join(self._draw.some("BCDFGHKLMNPRSTVWXZ", 2))
            return f"{letters}-{self._pick(what, range(1000, 10000))}"
        if what == "motto":
            return " ".join(self._draw.some(PHRASE.split(), 5))
        return self._pick(what, VALUES[what].split(", "))


class _Document:
    """A document before it is written: its name, its kind, and the values of its facts."""

    def __init__(self, world: _World, thing: str) -> None:
        self.thing = thing
        self.name = world.name(thing)
        self.values: dict[Fact, str] = {}

    def add_facts(self, world: _World, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if fact not in self.values:
                self.values[fact] = world.value(fact.value)

    def write(self, draw: Draw) -> tuple[tuple[str, tuple[str, ...]], list[Fact | None]]:
        """((title, sentences), the fact that each sentence states)."""
        kind = KINDS_OF_THING[self.thing]
        pronoun = draw.one(kind.pronouns)
        order: list[Fact | None] = [*draw.some(list(self.values), len(self.values)), None]
        order = [order[0], *draw.some(order[1:], len(order) - 1)]  # the filler never comes first
        sentences: list[str] = []
        for fact in order:
            template = draw.one(kind.fillers if fact is None else fact.statements)
            subject = self.name if not sentences or draw.below(2) else pronoun
            sentence = template.format(s=subject, n=self.name, v="" if fact is None else self.values[fact])
            sentences.append(_capitalize(sentence))
        return (_capitalize(self.name), tuple(sentences)), order


def _make_one_hop(draw: Draw, world: _World, kind: str, documents: int) -> Case:
    """One sentence answers the question; the other documents state the same fact about other things."""
    things = draw.some(list(KINDS_OF_THING), 2 if draw.below(2) else 1)  # all things of one kind, or of two kinds
    target_fact = draw.one((CODE, MOTTO)) if kind == "copy" else draw.one(KINDS_OF_THING[things[0]].facts)
    made = []
    for number in range(documents):
        document = _Document(world, things[number % len(things)])
        own = KINDS_OF_THING[document.thing].facts
        needed = [target_fact] if kind == "copy" or document.thing == things[0] else []
        others = [fact for fact in own if fact not in needed]
        document.add_facts(world, needed + draw.some(others, 3 - len(needed)))
        made.append(document)
    target = made[0]
    questions = target_fact.reworded_questions if kind == "paraphrase" else target_fact.questions
    question = draw.one(questions).format(n=target.name)
    return _make_case(draw, kind, made, [(target, target_fact)], question, target.values[target_fact])


def _make_two_hop(draw: Draw, world: _World, documents: int) -> Case:
    """Each document of one half leads to one of the other half; the question names the first of one such pair."""
    bridges = [(thing, fact) for thing, kind in KINDS_OF_THING.items() for fact in kind.facts if fact.bridge]
    source, bridge = draw.one(bridges)
    target_fact = draw.one([fact for fact in KINDS_OF_THING[bridge.value].facts if fact is not bridge])
    ends = [_Document(world, bridge.value) for _ in range(documents - documents // 2)]
    starts = [_Document(world, source) for _ in range(documents // 2)]
    for start, end in zip(starts, ends, strict=False):
        start.values[bridge] = end.name
    for document in (*starts, *ends):
        needed = [bridge] if document.values else [target_fact]
        others = [fact for fact in KINDS_OF_THING[document.thing].facts if fact not in (bridge, target_fact)]
        document.add_facts(world, needed + draw.some(others, 2))
    start, end = starts[0], ends[0]
    question = draw.one(target_fact.questions).format(n=bridge.bridge.format(n=start.name))
    planted = [(start, bridge), (end, target_fact)]
    return _make_case(draw, "two_hop", starts + ends, planted, question, end.values[target_fact])


def _make_comparison(draw: Draw, world: _World, documents: int) -> Case:
    """The question compares two years; the sentence about the answer is planted first."""
    thing = draw.one(list(KINDS_OF_THING))
    year = next(fact for fact in KINDS_OF_THING[thing].facts if fact.comparison)
    made = [_Document(world, thing) for _ in range(documents)]
    for document in made:
        others = [fact for fact in KINDS_OF_THING[thing].facts if fact is not year]
        document.add_facts(world, [year, *draw.some(others, 2)])
    pair = sorted(made[:2], key=lambda document: document.values[year])
    a, b = draw.some(pair, 2)
    question = year.comparison.format(a=a.name, b=b.name)
    planted = [(document, year) for document in pair]
    return _make_case(draw, "comparison", made, planted, question, _capitalize(pair[0].name))


def _make_case(
    draw: Draw,
    kind: str,
    made: list[_Document],
    planted: list[tuple[_Document, Fact]],
    question: str,
    answer: str,
) -> Case:
    """Write the documents in random order, and locate the planted sentences."""
    order = draw.some(made, len(made))
    written = [document.write(draw) for document in order]
    places = tuple((order.index(document), written[order.index(document)][1].index(fact)) for document, fact in planted)
    return Case(kind, tuple(text for text, _ in written), question, answer, places)


def _capitalize(text: str) -> str:
    """Start the text with a capital letter, also if it begins with a name such as "the Amber Heron"."""
    return text[:1].upper() + text[1:]

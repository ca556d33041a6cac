"""Generate the rows of `attributor eval removal`: planted documents, a question, its answer, and distractors.

A row follows from its kind, the seed and its number alone. More distractors leave the other documents and their order
as they were.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from attributor.eval.data._draw import Draw
from attributor.eval.data._invented_words import (
    FILLERS,
    FIRST_NAMES,
    KNOWN_FACTS,
    NAME_PARTS,
    RELATIONS,
    TITLES,
    Relation,
)
from attributor.eval.data._paraphrases import (
    CODE_NAMES,
    FORMS,
    HABITS,
    LANGUAGES,
    ROLES,
    SECRET_ROLES,
    SECRETS,
)
from attributor.eval.data._question import Document, GeneratedQuestion

__all__ = ["MAKERS", "make_row"]

LOOKALIKES = 2  # documents with the same fact of other names, in rows whose answer the model writes
MOST_DRAWS = 20  # of a name; where all were taken, the next one has two parts
PARTS = [parts.split() for parts in NAME_PARTS]
Values = tuple[str, ...] | range | str


@dataclass
class World:
    """Names and values that a row may still use.

    Attributes:
        draw: what the next choice comes from.
        names: those that were used.
        answers: values that no other document may state.
        relation: the fact that the question is about; distractors state others.
    """

    draw: Draw
    names: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)
    relation: Relation | None = None

    def name(self, subject: str) -> str:
        """A name that the row does not have yet, of a place or a person."""
        name = ""
        for attempt in range(2 * MOST_DRAWS):
            name = self._place() if subject == "place" else f"{self.draw.one(FIRST_NAMES.split())} {self._surname()}"
            if attempt >= MOST_DRAWS:
                name = f"{name}-{self._place()}"
            if name not in self.names:
                break
        self.names.add(name)
        return name

    def value(self, values: Values) -> str:
        """A value that is not among `answers`."""
        if isinstance(values, str):
            return self.name(values)
        return str(self.draw.one([value for value in values if str(value) not in self.answers]))

    def answer(self, values: Values) -> str:
        """A value that no document states from now on, but for those that are made with it."""
        value = self.value(values)
        self.answers.add(value)
        return value

    def _place(self) -> str:
        return "".join(self.draw.one(part) for part in PARTS)

    def _surname(self) -> str:
        return f"{self.draw.one(PARTS[0])}{self.draw.one(PARTS[1])}{self.draw.one(('son', 'er'))}"


@dataclass(frozen=True)
class Plan:
    """A row without its distractors.

    Attributes:
        question: what is asked.
        answer: what is expected.
        planted: the documents that were written for the question, the evidence first.
        evidence: how many of them are evidence.
        form: of a paraphrase, else "".
        written: whether the model's own answer is attributed.
    """

    question: str
    answer: str
    planted: tuple[Document, ...]
    evidence: int = 1
    form: str = ""
    written: bool = False


def make_row(kind: str, seed: int, row: int, distractors: int) -> GeneratedQuestion:
    """A row with so many documents beside the planted ones."""
    key = (seed, kind, row)
    world = World(Draw(*key))
    plan = MAKERS[kind](world, seed, row)
    documents = list(plan.planted)
    others = [relation for relation in RELATIONS if relation is not world.relation]
    for number in range(distractors):
        world.draw = Draw(*key, "distractor", number)
        documents.append(_make_distractor(world, others))
    places = [Draw(*key, "place", number).number() for number in range(len(documents))]
    order = sorted(range(len(documents)), key=places.__getitem__)
    return GeneratedQuestion(
        id=f"{kind}-{seed}-{row}",
        text=plan.question,
        answer=plan.answer,
        documents=tuple(documents[number] for number in order),
        gold=frozenset((order.index(number), 0) for number in range(plan.evidence)),
        kind=kind,
        level=plan.form,
        planted=tuple(sorted(order.index(number) for number in range(len(plan.planted)))),
        written=plan.written,
        seed=seed,
        row=row,
    )


def _make_distractor(world: World, relations: Sequence[Relation]) -> Document:
    """A document with a fact that no question is about, of a name of its own."""
    relation = world.draw.one(relations)
    name = world.name(relation.subject)
    statement = world.draw.one(relation.statements).format(n=name, v=world.value(relation.values))
    return _write(world, relation.subject, name, statement)


def _write(world: World, subject: str, name: str, statement: str, titles: Sequence[str] = TITLES) -> Document:
    """A document of a statement and a sentence without a fact, in any order."""
    filler = world.draw.one(FILLERS[subject]).format(n=name)
    sentences = world.draw.some((statement, filler), 2)
    return Document(world.draw.one(titles).format(n=name), (" ".join(sentences),))


def _choose_relation(world: World, kind: str, seed: int, row: int) -> tuple[Relation, str, str]:
    """(relation, name, answer) of a row; the rows of a kind go through all relations in turn."""
    order = Draw(seed, kind, "relations").some(RELATIONS, len(RELATIONS))
    relation = world.relation = order[row % len(order)]
    return relation, world.name(relation.subject), world.answer(relation.values)


def _make_single(world: World, seed: int, row: int) -> Plan:
    """One document states the fact."""
    relation, name, answer = _choose_relation(world, "single", seed, row)
    statement = world.draw.one(relation.statements).format(n=name, v=answer)
    return Plan(relation.question.format(n=name), answer, (_write(world, relation.subject, name, statement),))


def _make_duplicate(world: World, seed: int, row: int) -> Plan:
    """Two documents state the fact in different words."""
    relation, name, answer = _choose_relation(world, "duplicate", seed, row)
    statements = [text.format(n=name, v=answer) for text in world.draw.some(relation.statements, 2)]
    return Plan(relation.question.format(n=name), answer, _write_two(world, relation, name, statements), evidence=2)


def _make_distractor_row(world: World, seed: int, row: int) -> Plan:
    """One document states the fact; another one has all words of the question and does not state it."""
    relation, name, answer = _choose_relation(world, "distractor", seed, row)
    statement = world.draw.one(relation.statements).format(n=name, v=answer)
    planted = _write_two(world, relation, name, [statement, relation.lure.format(n=name)])
    return Plan(relation.question.format(n=name), answer, planted)


def _make_conflict(world: World, seed: int, row: int) -> Plan:
    """Two documents state different values; the expected answer is that of the first."""
    relation, name, answer = _choose_relation(world, "conflict", seed, row)
    values = (answer, world.answer(relation.values))
    statements = [
        text.format(n=name, v=value)
        for text, value in zip(world.draw.some(relation.statements, 2), values, strict=True)
    ]
    return Plan(relation.question.format(n=name), answer, _write_two(world, relation, name, statements))


def _write_two(world: World, relation: Relation, name: str, statements: Sequence[str]) -> tuple[Document, ...]:
    """Two documents about one name, with different titles."""
    titles = world.draw.some(TITLES, 2)
    return tuple(
        _write(world, relation.subject, name, statement, (title,))
        for statement, title in zip(statements, titles, strict=True)
    )


def _make_memory(world: World, seed: int, row: int) -> Plan:
    """Two documents state a fact that models know."""
    order = Draw(seed, "memory", "facts").some(KNOWN_FACTS, len(KNOWN_FACTS))
    fact = order[row % len(order)]
    statements, titles = world.draw.some(fact.statements, 2), world.draw.some(TITLES, 2)
    planted = [
        Document(title.format(n=fact.topic), (statement,)) for title, statement in zip(titles, statements, strict=True)
    ]
    return Plan(fact.question, fact.answer, tuple(planted), evidence=2)


def _make_paraphrase(world: World, seed: int, row: int) -> Plan:
    """The evidence shares no content word with question and answer; three forms in turn."""
    form = FORMS[row % len(FORMS)]
    if form == "code names":
        return _make_code_names(world, form)
    number = row // len(FORMS)
    language = 0 if form == "other words" else 1 + number % (len(LANGUAGES) - 1)
    roles = Draw(seed, form, "roles").some(list(ROLES), len(ROLES))
    role, habit = roles[number % len(roles)], HABITS[number % len(HABITS)]
    answer, *words = world.draw.one(habit.values)
    name = world.name("person")
    sentences = [ROLES[role][language].format(n=name), habit.sentences[language].format(n=name, v=words[language])]
    return Plan(habit.question.format(r=role), answer, (Document(name, (" ".join(sentences),)),), form=form)


def _make_code_names(world: World, form: str) -> Plan:
    """A message in code names, and the list of what they stand for."""
    secret, role = world.draw.one(SECRETS), world.draw.one(SECRET_ROLES)
    first, second = world.draw.some(CODE_NAMES.split(), 2)
    answer = world.answer(secret.values)
    message = Document(f"Message {10 + world.draw.below(90)}", (secret.sentence.format(a=first, b=second),))
    meanings = world.draw.some((f"{first} stands for the {role}.", f"{second} stands for {answer}."), 2)
    key = Document("List of code names", (" ".join(meanings),))
    return Plan(secret.question.format(r=role), answer, (message, key), evidence=2, form=form)


def _make_written(world: World, seed: int, row: int) -> Plan:
    """One document states the fact, others state it of other names; the model writes the answer itself."""
    relation, name, answer = _choose_relation(world, "written", seed, row)
    facts = [(name, answer)]
    facts += [(world.name(relation.subject), world.answer(relation.values)) for _ in range(LOOKALIKES)]
    planted = [
        _write(world, relation.subject, subject, world.draw.one(relation.statements).format(n=subject, v=value))
        for subject, value in facts
    ]
    return Plan(relation.question.format(n=name), answer, tuple(planted), written=True)


MAKERS: dict[str, Callable[[World, int, int], Plan]] = {
    "single": _make_single,
    "duplicate": _make_duplicate,
    "distractor": _make_distractor_row,
    "conflict": _make_conflict,
    "memory": _make_memory,
    "paraphrase": _make_paraphrase,
    "written": _make_written,
}

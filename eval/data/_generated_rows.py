"""Generate the rows of `attributor eval removal`: planted documents, a question, its answer, and distractors.

A row follows from its kind, the seed and its number alone. With more distractors the other documents and their order
stay the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from attributor._draw import Draw
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

LOOKALIKES = 2  # documents that state the fact of other names, in `written` rows
MOST_DRAWS = 20  # attempts to draw a new name; after them, names have two parts
PARTS = [parts.split() for parts in NAME_PARTS]
Values = tuple[str, ...] | range | str


@dataclass
class World:
    """The names and values that a row has used so far.

    Attributes:
        draw: source of the next random choice.
        names: the used names.
        answers: values that no other document may state.
        relation: the question's type of fact; distractors state facts of other types.
    """

    draw: Draw
    names: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)
    relation: Relation | None = None

    def name(self, subject: str) -> str:
        """Draw a name of a place or person that the row does not have yet."""
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
        """Draw a value that is not in `answers`."""
        if isinstance(values, str):
            return self.name(values)
        return str(self.draw.one([value for value in values if str(value) not in self.answers]))

    def answer(self, values: Values) -> str:
        """Draw a value and add it to `answers`, so that no later document draws it."""
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
        question: the question.
        answer: a sentence that answers it.
        value: the answer in a word or two; it also counts as right.
        planted: the documents that were written for the question, the evidence first.
        evidence: how many planted documents are evidence.
        form: form of a `paraphrase` row, else "".
        written: whether the model's own answer is attributed.
    """

    question: str
    answer: str
    value: str
    planted: tuple[Document, ...]
    evidence: int = 1
    form: str = ""
    written: bool = False


def make_row(kind: str, seed: int, row: int, distractors: int) -> GeneratedQuestion:
    """Make a row with this number of distractors."""
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
        aliases=(plan.value,),
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
    """Write a document that states a fact of another type, about a new name."""
    relation = world.draw.one(relations)
    name = world.name(relation.subject)
    statement = world.draw.one(relation.statements).format(n=name, v=world.value(relation.values))
    return _write(world, relation.subject, name, statement)


def _write(world: World, subject: str, name: str, statement: str, titles: Sequence[str] = TITLES) -> Document:
    """Write a document of a statement and a sentence without a fact, in random order."""
    filler = world.draw.one(FILLERS[subject]).format(n=name)
    sentences = world.draw.some((statement, filler), 2)
    return Document(world.draw.one(titles).format(n=name), (" ".join(sentences),))


@dataclass(frozen=True)
class Fact:
    """The fact of a row's question: a relation, the name that it is about, and the value."""

    relation: Relation
    name: str
    value: str

    def state(self, statement: str) -> str:
        """Insert name and value into a statement."""
        return statement.format(n=self.name, v=self.value)

    def plan(self, planted: Sequence[Document], *, evidence: int = 1, written: bool = False) -> Plan:
        """Plan the row whose question is about this fact."""
        question, answer = self.relation.question.format(n=self.name), self.state(self.relation.answer)
        return Plan(question, answer, self.value, tuple(planted), evidence, written=written)


def _choose_fact(world: World, kind: str, seed: int, row: int) -> Fact:
    """Choose the fact of a row; the rows of a kind go through all relations in turn."""
    order = Draw(seed, kind, "relations").some(RELATIONS, len(RELATIONS))
    relation = world.relation = order[row % len(order)]
    return Fact(relation, world.name(relation.subject), world.answer(relation.values))


def _make_single(world: World, seed: int, row: int) -> Plan:
    """One document states the fact."""
    fact = _choose_fact(world, "single", seed, row)
    statement = fact.state(world.draw.one(fact.relation.statements))
    return fact.plan([_write(world, fact.relation.subject, fact.name, statement)])


def _make_duplicate(world: World, seed: int, row: int) -> Plan:
    """Two documents state the fact in different words."""
    fact = _choose_fact(world, "duplicate", seed, row)
    statements = [fact.state(text) for text in world.draw.some(fact.relation.statements, 2)]
    return fact.plan(_write_two(world, fact, statements), evidence=2)


def _make_distractor_row(world: World, seed: int, row: int) -> Plan:
    """One document states the fact; another one has all words of the question and does not state it."""
    fact = _choose_fact(world, "distractor", seed, row)
    statement = fact.state(world.draw.one(fact.relation.statements))
    return fact.plan(_write_two(world, fact, [statement, fact.relation.lure.format(n=fact.name)]))


def _make_conflict(world: World, seed: int, row: int) -> Plan:
    """Two documents state different values; the expected answer is that of the first."""
    fact = _choose_fact(world, "conflict", seed, row)
    other = Fact(fact.relation, fact.name, world.answer(fact.relation.values))
    first, second = world.draw.some(fact.relation.statements, 2)
    return fact.plan(_write_two(world, fact, [fact.state(first), other.state(second)]))


def _write_two(world: World, fact: Fact, statements: Sequence[str]) -> list[Document]:
    """Write two documents about one name, with different titles."""
    titles = world.draw.some(TITLES, 2)
    return [
        _write(world, fact.relation.subject, fact.name, statement, (title,))
        for statement, title in zip(statements, titles, strict=True)
    ]


def _make_memory(world: World, seed: int, row: int) -> Plan:
    """Two documents state a fact that models know."""
    order = Draw(seed, "memory", "facts").some(KNOWN_FACTS, len(KNOWN_FACTS))
    fact = order[row % len(order)]
    statements, titles = world.draw.some(fact.statements, 2), world.draw.some(TITLES, 2)
    planted = [
        Document(title.format(n=fact.topic), (statement,)) for title, statement in zip(titles, statements, strict=True)
    ]
    return Plan(fact.question, fact.answer, fact.value, tuple(planted), evidence=2)


def _make_paraphrase(world: World, seed: int, row: int) -> Plan:
    """The evidence shares no content word with question and answer; three forms in turn."""
    form = FORMS[row % len(FORMS)]
    if form == "code names":
        return _make_code_names(world, form)
    number = row // len(FORMS)
    language = 0 if form == "other words" else 1 + number % (len(LANGUAGES) - 1)
    roles = Draw(seed, form, "roles").some(list(ROLES), len(ROLES))
    role, habit = roles[number % len(roles)], HABITS[number % len(HABITS)]
    value, *words = world.draw.one(habit.values)
    name = world.name("person")
    sentences = [ROLES[role][language].format(n=name), habit.sentences[language].format(n=name, v=words[language])]
    evidence = Document(name, (" ".join(sentences),))
    return Plan(habit.question.format(r=role), habit.answer.format(r=role, v=value), value, (evidence,), form=form)


def _make_code_names(world: World, form: str) -> Plan:
    """A message in code names, and the list of their meanings."""
    secret, role = world.draw.one(SECRETS), world.draw.one(SECRET_ROLES)
    first, second = world.draw.some(CODE_NAMES.split(), 2)
    value = world.answer(secret.values)
    message = Document(f"Message {10 + world.draw.below(90)}", (secret.sentence.format(a=first, b=second),))
    meanings = world.draw.some((f"{first} stands for the {role}.", f"{second} stands for {value}."), 2)
    key = Document("List of code names", (" ".join(meanings),))
    question, answer = secret.question.format(r=role), secret.answer.format(r=role, v=value)
    return Plan(question, answer, value, (message, key), evidence=2, form=form)


def _make_written(world: World, seed: int, row: int) -> Plan:
    """One document states the fact, others state it of other names; the model writes the answer itself."""
    fact = _choose_fact(world, "written", seed, row)
    relation = fact.relation
    others = [Fact(relation, world.name(relation.subject), world.answer(relation.values)) for _ in range(LOOKALIKES)]
    planted = [
        _write(world, relation.subject, stated.name, stated.state(world.draw.one(relation.statements)))
        for stated in (fact, *others)
    ]
    return fact.plan(planted, written=True)


MAKERS: dict[str, Callable[[World, int, int], Plan]] = {
    "single": _make_single,
    "duplicate": _make_duplicate,
    "distractor": _make_distractor_row,
    "conflict": _make_conflict,
    "memory": _make_memory,
    "paraphrase": _make_paraphrase,
    "written": _make_written,
}

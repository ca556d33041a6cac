"""Generated questions about invented facts, to measure what the answer loses without each document."""

from collections.abc import Iterator, Sequence

from attributor.eval.data._generated_rows import make_row
from attributor.eval.data._question import GeneratedQuestion

__all__ = ["generate", "lengthen"]

NAME = "removal"
TITLE = "Removal of invented facts"
SUMMARY = "Generated documents with invented facts: what the answer loses without each document."
DESCRIPTION = """Nothing is read: documents, questions and answers are generated from a seed. Each planted document,
each pair of them and up to eight distractors are removed from the prompt, and the answer's log-probability is measured
again. Methods are compared with what it loses. The kinds of rows:

[bold]single[/]: one document states the fact.

[bold]duplicate[/]: two documents do, in different words.

[bold]distractor[/]: another document has the question's words, and is not needed.

[bold]conflict[/]: two documents state different values.

[bold]memory[/]: the fact is well known, and the documents repeat it.

[bold]paraphrase[/]: the evidence has no content word of question and answer: other words, code names, another language.

[bold]written[/]: the model writes the answer itself, right or wrong."""
COMMANDS = (
    "attributor eval removal  the default model, 20 rows of each kind",
    "attributor eval removal --kinds duplicate,conflict --rows 50 --seed 1",
    "attributor eval removal --tokens 4000 --model Qwen/Qwen2.5-7B-Instruct --dtype bfloat16 --device-map cuda",
    "attributor eval removal --method flow:retrieval,removal-gradient:16,leave-one-out,random",
    "attributor eval report runs/a runs/b  the tables of runs again, with files",
)
GENERATES = ("single", "duplicate", "distractor", "conflict", "memory", "paraphrase", "written")
ROWS = 20
TOKENS = 300
ORDER = 35

LEAST = 2  # smallest number of distractors of a row


def generate(rows: int, seed: int, kinds: Sequence[str]) -> Iterator[GeneratedQuestion]:
    """Yield `rows` rows of each kind, the kinds in turn, each row with LEAST distractors."""
    for row in range(rows):
        for kind in kinds:
            yield make_row(kind, seed, row, LEAST)


def lengthen(question: GeneratedQuestion, distractors: int) -> GeneratedQuestion:
    """Return the same row with this number of distractors, or LEAST; its other documents and their order stay."""
    return make_row(question.kind, question.seed, question.row, max(distractors, LEAST))

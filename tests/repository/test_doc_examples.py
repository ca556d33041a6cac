"""The documentation's examples run, its commands name options that exist, and its links have a target."""

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import typer

from attributor._models import DEFAULT_MODEL, converted_folder, is_in_hub_cache
from attributor.cli.commands import app

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/**/*.md", "eval/*.md", "kernels/*/*.md", "csrc/*/*.md", "bench/*.md")
PAGES = sorted(path.relative_to(ROOT).as_posix() for pattern in PATTERNS for path in ROOT.glob(pattern))
INDEX = "docs/index.md"

# Blocks that do not run: (page, reason), as in the comment above the block: <!-- example: not run, REASON -->
NOT_RUN = {
    ("README.md", "it forms the matrices that attributor never forms"),
    ("csrc/cuda/README.md", "needs a Hopper GPU"),
    ("docs/gpu.md", "needs a GPU"),
}

needs_default_model = pytest.mark.skipif(
    converted_folder() is None and not is_in_hub_cache(DEFAULT_MODEL, None),
    reason="the default model is neither in the user's cache folder nor in the hub's cache",
)


@dataclass(frozen=True)
class Example:
    """A Python block of a page.

    Attributes:
        line: number of its first line of code, from 1.
        code: its text.
        output: the indented block directly after it; "" if there is none.
        excluded: the reason why it does not run; None if it runs.
    """

    line: int
    code: str
    output: str
    excluded: str | None


def read_page(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def find_examples(page: str) -> Iterator[Example]:
    text = read_page(page)
    pattern = r"(?:<!-- example: not run, (.+?) -->\n+)?^```python\n(.*?)^```\n(?:\n((?: {4}[^\n]*\n|\n)+))?"
    for block in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        code, output = block[2], re.sub("^ {4}", "", block[3] or "", flags=re.MULTILINE).strip("\n")
        yield Example(
            line=text.count("\n", 0, block.start(2)) + 1,
            code=code,
            output="" if output.startswith("attributor ") else output,
            excluded=block[1],
        )


def find_commands(page: str) -> Iterator[str]:
    """Return the commands of fenced and indented blocks, without comments and with continuation lines joined."""
    text = re.sub(r"^```python\n.*?^```", "", read_page(page), flags=re.MULTILINE | re.DOTALL)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)
    for block in [*fenced, *indented]:
        for line in re.sub(r"(\\)?\n +(?=-)", " ", block).splitlines():
            command = re.match(r"\s*(?:\$ )?(?:\S.* -m attributor\.cli|attributor) (.*)", line)
            if command:
                yield re.split(r"\s{2,}|\s#", command[1])[0]


def check_command(words: list[str]) -> None:
    """Parse a command with typer; its functions do nothing.

    Raises:
        Exception: typer's errors: no such command or option, an option without its value, a value of another type.
    """
    root = typer.main.get_command(app)
    commands = [root]
    while commands:
        command = commands.pop()
        command.callback, command.no_args_is_help = lambda **_: None, False
        command.invoke_without_command = True  # the pages also name command groups
        commands += getattr(command, "commands", {}).values()
    root(words, standalone_mode=False)


def heading_anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", read_page(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_links(page: str) -> list[str]:
    text = re.sub(r"^```.*?^```", "", read_page(page), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


@needs_default_model
@pytest.mark.parametrize("page", [page for page in PAGES if any(not each.excluded for each in find_examples(page))])
def test_the_examples_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for example in find_examples(page):
        if example.excluded:
            continue
        printed = StringIO()
        # leading blank lines make a traceback name the line of the page
        code = compile("\n" * (example.line - 1) + example.code, str(ROOT / page), "exec")
        with redirect_stdout(printed):
            exec(code, names)
        if example.output and not is_in_hub_cache(DEFAULT_MODEL, None):  # the copy of the hub gives other numbers
            assert printed.getvalue().strip("\n") == example.output, f"{page}, line {example.line}"


def test_examples_that_do_not_run_are_listed_and_compile():
    excluded = [(page, each) for page in PAGES for each in find_examples(page) if each.excluded]
    assert {(page, each.excluded) for page, each in excluded} == NOT_RUN
    for page, each in excluded:
        compile(each.code, page, "exec")


@pytest.mark.parametrize("page", [page for page in PAGES if any(find_commands(page))])
def test_the_commands_of_a_page_are_valid(page):
    for command in find_commands(page):
        try:
            check_command(shlex.split(re.sub(r"[\[\]]", "", command)))
        except Exception as error:
            pytest.fail(f"{page}: attributor {command}: {type(error).__name__}: {error}")


@pytest.mark.parametrize(
    "command", ["ask --no-such-option", "no-such-command", "ask --effects neither", "eval hotpotqa --limit"]
)
def test_a_wrong_command_is_detected(command):
    with pytest.raises(Exception, match=r"(?i)no such (option|command)|neither|requires an argument"):
        check_command(command.split())


@pytest.mark.parametrize("page", [page for page in PAGES if find_links(page)])
def test_the_links_of_a_page_have_a_target(page):
    for link in find_links(page):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), f"{page} links to {link}, which does not exist"
        if anchor:
            headings = heading_anchors(target.resolve().relative_to(ROOT).as_posix())
            assert anchor in headings, f"{page} links to {link}; the headings are {sorted(headings)}"


def test_the_index_names_every_page():
    linked = {(ROOT / INDEX).parent.joinpath(link.partition("#")[0]).resolve() for link in find_links(INDEX)}
    pages = [page for page in PAGES if not page.startswith(("docs/quality/", "bench/")) and page != INDEX]
    missing = [page for page in pages if ROOT / page not in linked]
    assert not missing, f"{INDEX} does not link to {', '.join(missing)}"

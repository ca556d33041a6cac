"""Shared parts of the explorer's browser tests: files, servers, pages, and readers of their content."""

import json

import numpy as np
import pytest
from browser import browser, opened, served, shown  # noqa: F401
from safetensors import safe_open
from safetensors.numpy import load_file
from web_cases import FERRY, case_list, run_folder, word_flow

CASES = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with two runs and a flow, and other files to choose next to it."""
    root = tmp_path_factory.mktemp("explore")
    folder = root / "runs"
    folder.mkdir()
    run_folder(folder / "first", CASES, seed=1)
    run_folder(folder / "second", CASES, seed=2)
    word_flow(folder / "ferry.safetensors", FERRY)
    case_list(root / "list.json")
    (root / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(200)))
    (root / "other.json").write_text('{"colour": "blue", "sizes": [1, 2, 3]}')
    (root / "table.csv").write_text("a,b\n1,2\n")
    (root / "empty.jsonl").write_text("")
    (root / "notes.json").write_text("just some words")
    whole = (folder / "ferry.safetensors").read_bytes()
    (root / "cut.safetensors").write_bytes(whole[:200])
    (root / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def empty_door():
    with served("explore") as url:
        yield url


@pytest.fixture(scope="module")
def door(files):
    with served("explore", str(files / "runs")) as url:
        yield url


@pytest.fixture
def page(browser, empty_door):  # noqa: F811
    with opened(browser) as watched:
        watched.page.goto(empty_door)
        watched.page.wait_for_selector(".open-zone")
        yield watched.page
        watched.clean()


def choose(page, *paths, input="#open-files"):
    page.set_input_files(input, [str(path) for path in paths])
    page.get_by_role("button", name="Load").click()


@pytest.fixture
def run_page(browser, door):  # noqa: F811
    """A page with the first of two runs, opened from the list of files."""
    with opened(browser) as watched:
        watched.page.goto(door)
        watched.page.get_by_role("link", name="first").click()
        rows_read(watched.page)
        yield watched.page
        watched.clean()


def rows_read(page, cases=CASES):
    page.wait_for_selector(f".run-grid[aria-rowcount='{cases + 1}'] .run-row")


@pytest.fixture
def flow_page(browser, door):  # noqa: F811
    """A page with a flow of four answer tokens on the server."""
    with opened(browser, permissions=["clipboard-read", "clipboard-write"]) as watched:
        watched.page.goto(door)
        watched.page.get_by_role("link", name="ferry").click()
        shown(watched.page)
        yield watched.page
        watched.clean()


@pytest.fixture(scope="module")
def flow(files):
    path = files / "runs/ferry.safetensors"
    with safe_open(path, "np") as file:
        documents = [document[:2] for document in json.loads(file.metadata()["documents"])]
    return {**load_file(path), "documents": documents}


def heading(page):
    return page.locator("#case-selection").text_content()


def addressed(page, text):
    """Wait until the address contains `text`; it is updated a moment after the view."""
    page.wait_for_function("text => location.hash.includes(text)", arg=text)


def marked(page, name):
    """Return the texts under a highlight."""
    return page.evaluate(
        "name => [...CSS.highlights.get(name)].map(r => r.startContainer.nodeValue.slice(r.startOffset, r.endOffset))",
        name,
    )


def wait_for_heading(page, text):
    page.wait_for_function("text => document.querySelector('#case-selection').textContent.includes(text)", arg=text)


def units_of(flow):
    text = flow["text"].tobytes().decode()
    return [text[a:b] for a, b in flow["offsets"]]


def sentence_shares(flow, rows):
    """Return (s), the share of each sentence in what came from the documents, for the mean of rows."""
    sentences, documents = sums_over(flow, rows, flow["sentences"]), sums_over(flow, rows, flow["documents"])
    return [part / sum(documents) for part in sentences]


def sums_over(flow, rows, spans):
    """Return (s), the sums of the mean of rows over the tokens of some spans of the prompt."""
    mean = flow["scores"][rows].astype(np.float64).mean(0)
    return [
        sum(mean[u] for u, (a, b) in enumerate(flow["offsets"]) if start <= (a + b) / 2 < stop) for start, stop in spans
    ]

"""Documents are accepted in every supported form."""

from collections import UserDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from attributor import InputError
from attributor._documents import Document, parse_documents

METADATA = {"title": "Harbour", "page": 3}


class LlamaNode:
    """Like the nodes of llama_index: a method returns the text."""

    def __init__(self, text, metadata=METADATA):
        self.text_of_node, self.metadata = text, metadata

    def get_content(self, metadata_mode="none"):
        return self.text_of_node


class LlamaNodeWithScore:
    """Like the results of llama_index retrievers: a node with its score, which delegates to the node."""

    def __init__(self, node):
        self.node, self.score = node, 0.5

    @property
    def metadata(self):
        return self.node.metadata

    def get_content(self, metadata_mode="none"):
        return self.node.get_content(metadata_mode)


class Fields:
    """Like pydantic objects: iterable, but not a list."""

    def __init__(self, **fields):
        vars(self).update(fields)

    def __iter__(self):
        return iter(vars(self).items())


DOCUMENT = Document("It was built.", "Harbour", METADATA)


@pytest.mark.parametrize(
    "item",
    [
        DOCUMENT,
        {"text": "It was built.", "title": "Harbour", "metadata": METADATA},
        {"content": "It was built.", "metadata": METADATA, "score": 0.5},
        {"page_content": "It was built.", "metadata": METADATA, "type": "Document"},
        {"snippet": "It was built.", "text": None, "metadata": METADATA},
        {"id": "1", "data": {"text": "It was built.", "title": "Harbour", "metadata": METADATA}},
        {"type": "document", "source": {"type": "text", "data": "It was built."}, "metadata": METADATA},
        UserDict(text="It was built.", metadata=METADATA),
        Fields(page_content="It was built.", metadata=METADATA),
        LlamaNode("It was built."),
        LlamaNodeWithScore(LlamaNode("It was built.")),
    ],
    ids=lambda item: type(item).__name__,
)
def test_text_title_and_the_same_metadata_object(item):
    for documents in ([item], (item,), item, iter([item])):
        (document,) = parse_documents(documents)
        assert document == DOCUMENT
        assert document.metadata is METADATA


def test_langchain_documents_are_parsed():
    documents = pytest.importorskip("langchain_core.documents")
    item = documents.Document(page_content="It was built.", metadata={"title": "Harbour", "source": "a.txt"}, id="7")
    for given_as in (item, [item]):
        (document,) = parse_documents(given_as)
        assert (document.text, document.title) == ("It was built.", "Harbour")
        assert document.metadata is item.metadata
    (dumped,) = parse_documents(item.model_dump())
    assert (dumped.text, dumped.title, dumped.metadata) == (document.text, document.title, document.metadata)


@pytest.mark.parametrize(
    ("item", "document"),
    [
        ("It was\r\nbuilt. ", Document("It was\r\nbuilt. ")),
        (("Harbour", "It was built."), Document("It was built.", "Harbour")),
        ((None, "It was built."), Document("It was built.")),
        (np.array(["It was built."])[0], Document("It was built.")),
        ({"text": "A.", "title": None, "id": 7}, Document("A.", metadata={"id": 7})),
        ({"text": "A.", "title": None, "metadata": METADATA}, Document("A.", metadata=METADATA)),
        ({"text": "A.", "metadata": None, "id": 7}, Document("A.", metadata={"id": 7})),
        (
            {"id": "7", "data": {"snippet": "A.", "title": "T", "url": "u"}},
            Document("A.", "T", {"id": "7", "url": "u"}),
        ),
        (
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A."}, "title": "T"},
            Document("A.", "T", {"type": "document"}),
        ),
        ({"text": "A.", "source": "a.txt"}, Document("A.", metadata={"source": "a.txt"})),
        (SimpleNamespace(page_content="A."), Document("A.")),
        (SimpleNamespace(page_content="A.", metadata=None), Document("A.")),
        (LlamaNode("A.", {"title": ""}), Document("A.", metadata={"title": ""})),
        (LlamaNode("A.", {"title": 7}), Document("A.", metadata={"title": 7})),
    ],
)
def test_every_form_of_a_document_is_parsed(item, document):
    assert parse_documents([item, "B."]) == (document, Document("B."))


def test_texts_keep_their_order_and_may_be_empty():
    assert [d.text for d in parse_documents(("b", "a", "b"))] == ["b", "a", "b"]
    assert [d.text for d in parse_documents(text for text in "ba")] == ["b", "a"]
    assert [d.text for d in parse_documents(np.array(["b", "a"]))] == ["b", "a"]
    assert parse_documents([]) == ()


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (None, "documents must be a list, got None"),
        (7, "documents must be a list, got 7"),
        (b"text", "documents must be a list, got b'text'"),
        ({"b", "a"}, "documents must be a list, for a set has no order"),
        (frozenset("a"), "documents must be a list, for a set has no order"),
        (
            ["a", "b", {"id": 7, "body": "A."}],
            "document 3 is a dict without text: give it under 'text'; it has 'body', 'id'",
        ),
        ({}, "document 1 is a dict without text: give it under 'text'; it has no keys"),
        ({"k" * 500: 1}, "it has 'kkk.*…$"),
        ({"text": "A.", "content": "B."}, "document 1 has text under 'text' and 'content'; give it under one of them"),
        ({"text": ["A."]}, r"the text of document 1 must be a str, got \['A.'\]"),
        ({"text": "A.", "title": 7}, "the title of document 1 must be a str, got 7"),
        ({"text": "A.", "metadata": "p. 3"}, "the metadata of document 1 must be a dict, got 'p. 3'"),
        ({"id": "7", "data": {"body": "A."}}, "document 1 is a dict without text: .* it has 'data', 'id'"),
        (
            {"type": "document", "source": {"type": "base64", "data": "QQ=="}},
            "document 1 has a source of type 'base64'; only 'text' is read",
        ),
        (LlamaNode(None), "the text of document 1 must be a str, got None"),
        (Document(7), "the text of document 1 must be a str, got 7"),
        (["a", None], "document 2 must be a text, .*, or a Path, got None"),
        ([("Title", 7)], r"document 1 must be .*\(title, text\) pair, .*, got \('Title', 7\)"),
        ([("a", "b", "c")], "document 1 must be a text"),
        ([b"a"], "document 1 must be a text, .*, got b'a'"),
        ([LlamaNode], "document 1 must be a text"),
        (["a", " \r\n\f"], "document 2 is empty"),
        ([("Harbour", "")], r"document 1 \(Harbour\) is empty"),
        (Document("Harbour:\n ", "Harbour", body_start=9), r"document 1 \(Harbour\) is empty"),
    ],
)
def test_invalid_documents_are_named(documents, message):
    with pytest.raises(InputError, match=message):
        parse_documents(documents)


def test_a_table_is_refused_where_its_columns_would_be_the_documents():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"title": ["Harbour"], "text": ["It was built."], "page": [3]})
    with pytest.raises(InputError, match=r"got a DataFrame; give its df.to_dict\('records'\)"):
        parse_documents(table)
    assert parse_documents(table.to_dict("records")) == (Document("It was built.", "Harbour", {"page": 3}),)


def test_a_file_name_is_not_read_as_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("The harbour.")
    with pytest.raises(
        InputError, match=r"document 2 is the name of a file or folder; give pathlib.Path\('notes.txt'\) instead"
    ):
        parse_documents(["a", "notes.txt"])
    assert parse_documents(["other.txt", "ä" * 200 + ".txt"])[0].text == "other.txt"

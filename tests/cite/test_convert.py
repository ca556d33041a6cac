"""`CitedAnswer.to` gives the shapes of other APIs, as in their documentation and installed packages."""

import json
from pathlib import Path
from typing import Any

import pytest
from citation_shapes import SHAPES
from cited_answers import cited_answers, make_answer, make_citation
from hypothesis import given, settings
from pydantic import BaseModel, TypeAdapter, ValidationError

from attributor._cite import CitedAnswer
from attributor._documents import Document
from attributor._errors import InputError

EXAMPLES = json.loads(Path(__file__).with_name("vendor_examples.json").read_text("utf-8"))
PROPERTIES = settings(max_examples=200, deadline=None)


def answer_of_example(shape: str) -> CitedAnswer:
    """Return the cited answer of a shape's example."""
    match shape:
        case "anthropic":
            notes = Document("The lava is black. The ash is grey.", "Field notes")
            return make_answer(
                "According to the notes, the lava is black and the ash is grey.",
                [
                    ("the lava is black", [make_citation(notes, "The lava is black.", 1)]),
                    ("the ash is grey", [make_citation(notes, "The ash is grey.", 2)]),
                ],
            )
        case "cohere":
            high = Document("Ojos del Salado is the highest volcano.", "High volcanoes")
            where = Document("Ojos del Salado lies in the Andes.", "Where volcanoes are")
            return make_answer(
                "The highest volcano is Ojos del Salado. It lies in the Andes.",
                [
                    ("Ojos del Salado.", [make_citation(high, high.text, 1)]),
                    ("Andes.", [make_citation(where, where.text, 2, index=1)]),
                ],
            )
    pumice = Document("Pumice floats on water.", "Pumice", {"url": "https://example.org/pumice"})
    metadata = {"file_id": "file-7", "source": "obsidian.pdf"} if shape == "openai" else {}
    obsidian = Document("Glass.\fObsidian sinks at once.", "", metadata)
    return make_answer(
        "Pumice floats. Obsidian sinks.",
        [
            ("Pumice floats.", [make_citation(pumice, pumice.text, 1, share=0.75)]),
            ("Obsidian sinks.", [make_citation(obsidian, "Obsidian sinks at once.", 2, index=1)]),
        ],
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_example_of_each_page_is_reproduced(shape):
    assert answer_of_example(shape).to(shape) == EXAMPLES[shape]["example"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_types_refuse_other_keys_and_missing_ones(shape):
    example = EXAMPLES[shape]["example"]
    part = example[0] if isinstance(example, list) else example
    SHAPES[shape].validate_python(example)
    for broken in ({**part, "score": 1.0}, {key: value for key, value in part.items() if key not in ("text", "role")}):
        with pytest.raises(ValidationError):
            SHAPES[shape].validate_python([broken] if isinstance(example, list) else broken)


@pytest.mark.parametrize("shape", ["Anthropic", "", None, 3, ["openai"]])
def test_an_unknown_shape_is_refused_with_the_four_names(shape):
    with pytest.raises(InputError, match="'anthropic', 'cohere', 'langchain' or 'openai', got"):
        make_answer("Yes.", []).to(shape)


@given(cited_answers())
@PROPERTIES
def test_every_shape_has_the_types_of_its_api(drawn):
    answer, _ = drawn
    for shape, types in SHAPES.items():
        result = answer.to(shape)
        types.validate_python(result)
        assert json.loads(json.dumps(result)) == result


@given(cited_answers())
@PROPERTIES
def test_anthropic_blocks_are_the_answer_and_cite_the_documents(drawn):
    answer, documents = drawn
    blocks = answer.to("anthropic")
    assert "".join(block["text"] for block in blocks) == answer.text
    position = 0
    for block in blocks:
        assert block["text"]
        characters = range(position, position + len(block["text"]))
        position = characters.stop
        for place in characters:  # each has the sources of every claim around it
            sources = {
                (citation.document, citation.start, citation.stop)
                for claim in answer.claims
                if claim.start <= place < claim.stop
                for citation in claim.citations
            }
            locations = block.get("citations", [])
            spans = [(c["document_index"], c["start_char_index"], c["end_char_index"]) for c in locations]
            assert set(spans) == sources
            assert len(spans) == len(sources)
        for location in block.get("citations", []):
            document = documents[location["document_index"]]
            span = slice(location["start_char_index"], location["end_char_index"])
            assert location["cited_text"] == document.text[span]
            assert location["document_title"] == (document.title or None)


@given(cited_answers())
@PROPERTIES
def test_offsets_in_the_answer_are_those_of_the_claims(drawn):
    answer, documents = drawn
    cited = [(claim.start, claim.stop) for claim in answer.claims if claim.citations]
    message = answer.to("cohere")
    assert [(c["start"], c["end"]) for c in message["citations"]] == sorted(cited)
    assert all(answer.text[c["start"] : c["end"]] == c["text"] for c in message["citations"])
    (block,) = answer.to("langchain")
    assert block["text"] == message["content"][0]["text"] == answer.to("openai")["text"] == answer.text
    assert {(a["start_index"], a["end_index"]) for a in block["annotations"]} == set(cited)
    for annotation in block["annotations"]:
        extras = annotation["extras"]
        assert annotation["cited_text"] == documents[extras["document"]].text[extras["start"] : extras["stop"]]
    for annotation in answer.to("openai")["annotations"]:
        if annotation["type"] == "url_citation":
            assert (annotation["start_index"], annotation["end_index"]) in cited
        else:
            assert annotation["index"] in [stop for _, stop in cited]


def test_overlapping_claims_are_cut_at_their_borders():
    document = Document("One. Two.")
    one, two = make_citation(document, "One.", 1), make_citation(document, "Two.", 2)
    answer = make_answer("abcdefgh", [("cdef", [two]), ("abcd", [one, two]), ("h", [])])
    blocks = [
        (block["text"], [c["cited_text"] for c in block["citations"]] if "citations" in block else None)
        for block in answer.to("anthropic")
    ]
    assert blocks == [("ab", ["One.", "Two."]), ("cd", ["One.", "Two."]), ("ef", ["Two."]), ("gh", None)]


@pytest.mark.parametrize(
    ("metadata", "url"),
    [
        ({"url": "https://a.org/x"}, "https://a.org/x"),
        ({"source": "HTTPS://a.org/x"}, "HTTPS://a.org/x"),
        ({"url": "https://a.org/x", "source": "https://b.org"}, "https://a.org/x"),
        ({"url": "", "source": "http://b.org"}, "http://b.org"),
        ({"source": "notes/http.txt"}, None),
        ({"url": 3}, None),
        ({}, None),
    ],
)
def test_the_url_comes_from_the_metadata(metadata, url):
    document = Document("One.", "", metadata)
    answer = make_answer("Yes.", [("Yes.", [make_citation(document, "One.")])])
    (annotation,) = answer.to("openai")["annotations"]
    assert annotation.get("url") == annotation.get("title") == url
    assert annotation["type"] == ("file_citation" if url is None else "url_citation")
    assert answer.to("langchain")[0]["annotations"][0].get("url") == url


@pytest.mark.parametrize(
    ("title", "metadata", "file_id", "filename", "cohere_id"),
    [
        ("", {}, "doc:2", "doc:2", "doc:2"),
        ("Notes", {"id": "n-1"}, "n-1", "Notes", "n-1"),
        ("", {"id": 7, "source": "a/b.txt"}, "doc:2", "a/b.txt", "doc:2"),
        ("Notes", {"id": "n-1", "file_id": "file-9", "source": "b.txt"}, "file-9", "Notes", "n-1"),
    ],
)
def test_a_document_without_a_url_has_a_name(title, metadata, file_id, filename, cohere_id):
    document = Document("One.", title, metadata)
    answer = make_answer("Yes.", [("Yes.", [make_citation(document, "One.", index=2)])])
    assert answer.to("openai")["annotations"] == [
        {"type": "file_citation", "index": 4, "file_id": file_id, "filename": filename}
    ]
    (source,) = answer.to("cohere")["citations"][0]["sources"]
    titled = {"title": title} if title else {}
    assert source == {
        "type": "document",
        "id": cohere_id,
        "document": {**metadata, "id": cohere_id, "snippet": "One.", **titled},
    }


def test_two_citations_of_one_document_are_both_converted():
    document = Document("One. Two.", "Notes")
    citations = [make_citation(document, "One.", 1), make_citation(document, "Two.", 2)]
    answer = make_answer("Yes. No.", [("Yes.", citations), ("No.", citations[:1])])
    assert [annotation["index"] for annotation in answer.to("openai")["annotations"]] == [4, 8]
    sources = answer.to("cohere")["citations"][0]["sources"]
    assert [(source["id"], source["document"]["snippet"]) for source in sources] == [
        ("doc:0", "One."),
        ("doc:0", "Two."),
    ]


def test_an_answer_without_citations_is_converted():
    answer = make_answer("Yes. No.", [("Yes.", []), ("No.", [])])
    assert answer.to("anthropic") == [{"type": "text", "text": "Yes. No."}]
    assert answer.to("openai") == {"type": "output_text", "text": "Yes. No.", "annotations": []}
    assert answer.to("cohere")["citations"] == []
    assert answer.to("langchain") == [{"type": "text", "text": "Yes. No.", "annotations": []}]
    assert make_answer("", []).to("anthropic") == []


def test_langchain_messages_return_the_blocks():
    messages = pytest.importorskip("langchain_core.messages")
    for answer in (answer_of_example("langchain"), make_answer("Yes.", [])):
        message = messages.AIMessage(content=answer.to("langchain"))
        assert message.content_blocks == answer.to("langchain")
        assert message.text == answer.text


@given(cited_answers())
@PROPERTIES
def test_langchain_accepts_the_types(drawn):
    content = pytest.importorskip("langchain_core.messages.content")
    (block,) = drawn[0].to("langchain")
    TypeAdapter(content.TextContentBlock).validate_python(block, strict=True)
    assert set(block) <= set(content.TextContentBlock.__annotations__)
    for annotation in block["annotations"]:
        TypeAdapter(content.Citation).validate_python(annotation, strict=True)
        assert set(annotation) <= set(content.Citation.__annotations__)


def unknown_keys(value: Any) -> list[str]:
    """Return keys that a pydantic model accepted without such a field, including those of nested models."""
    if isinstance(value, list):
        return [key for entry in value for key in unknown_keys(entry)]
    if not isinstance(value, BaseModel):
        return []
    inner = [key for name in type(value).model_fields for key in unknown_keys(getattr(value, name))]
    return [*(value.model_extra or {}), *inner]


@pytest.mark.parametrize(
    ("shape", "module", "name"),
    [
        ("anthropic", "anthropic.types", "TextBlock"),
        ("cohere", "cohere.types", "AssistantMessageResponse"),
        ("openai", "openai.types.responses", "ResponseOutputText"),
    ],
)
def test_the_package_of_the_api_validates_it(shape, module, name):
    model = getattr(pytest.importorskip(module), name)
    result = answer_of_example(shape).to(shape)
    for part in result if isinstance(result, list) else [result]:
        read = model.model_validate(part, strict=True)
        assert unknown_keys(read) == []
        assert read.model_dump(exclude_unset=True) == part

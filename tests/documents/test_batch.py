"""Each row of a batch can have its own documents."""

import pytest
import tiny_chat
import torch

import attributor
from attributor import InputError
from attributor._prompt import TokenSequence
from attributor._text import Segment

FIRST = ["The harbour of the island.", ("Light", "The keeper writes.")]
SECOND = [{"text": "Fishing boats leave.", "id": 7}]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_chat.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_chat.model(len(tokenizer))


@pytest.fixture(scope="module")
def batch(tokenizer):
    """Return the ids of two rows, padded on the left."""
    texts = ["The harbour of the island. The keeper writes. Who?", "Fishing boats leave. Who?"]
    return tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")


def shown(flows):
    return [[(d.text, d.label, d.index) for d in flow.documents] for flow in flows]


EXPECTED = [
    [("The harbour of the island.", None, 0), ("The keeper writes.", "Light", 1)],
    [("Fishing boats leave.", None, 0)],
]


@pytest.mark.parametrize("documents", [[FIRST, SECOND], [FIRST, SECOND[:]], iter([FIRST, SECOND])])
def test_each_row_has_its_own_documents(model, tokenizer, batch, documents):
    flows = attributor.flow(model, batch, tokenizer=tokenizer, documents=documents)
    assert shown(flows) == EXPECTED
    assert flows[1].documents[0].source.metadata == {"id": 7}


def test_each_row_of_a_recording_has_its_own_documents(model, tokenizer, batch):
    with attributor.record(model) as recording:
        out = model.generate(**batch, max_new_tokens=3, pad_token_id=0)
    assert shown(recording.flow(out, tokenizer=tokenizer, documents=[FIRST, SECOND])) == EXPECTED
    with pytest.raises(InputError, match="all of them, got 3 lists"):
        recording.flow(out, tokenizer=tokenizer, documents=[FIRST, SECOND, []])


@pytest.mark.parametrize(
    "documents",
    ["Who?", ["Who?"], (text for text in ["Who?"]), {"text": "Who?"}, [Segment(0, 3, "")], [(0, 3)], [[0, 3]]],
    ids=["text", "list", "generator", "dict", "segment", "span", "span as a list"],
)
def test_all_rows_can_share_the_documents(model, tokenizer, batch, documents):
    first, second = attributor.flow(model, batch, tokenizer=tokenizer, documents=documents)
    assert len(first.documents) == len(second.documents) == 1
    assert first.documents[0].text in ("Who?", "The")
    assert second.documents[0].text in ("Who?", "Fis")


def test_a_row_can_have_no_documents(model, tokenizer, batch):
    flows = attributor.flow(model, batch, tokenizer=tokenizer, documents=[[], SECOND])
    assert [len(flow.documents) for flow in flows] == [0, 1]


def test_one_row_accepts_documents_with_or_without_a_list_of_rows(model, tokenizer, batch):
    ids = batch["input_ids"][:1]
    options = {"tokenizer": tokenizer}
    in_rows = attributor.flow(model, ids, documents=[FIRST], **options)
    assert in_rows.documents == attributor.flow(model, ids, documents=FIRST, **options).documents
    assert len(in_rows.documents) == len(FIRST)
    titled = attributor.flow(model, ids, documents=[("Light", "The keeper writes.")], **options)
    assert [(d.label, d.text) for d in titled.documents] == [("Light", "The keeper writes.")]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([FIRST], "documents must be a list of documents for each of the 2 rows, .*, got 1 lists"),
        ([FIRST, SECOND, SECOND], "for each of the 2 rows, or one list of documents for all of them, got 3 lists"),
        ([FIRST, "Fishing boats leave."], "for each of the 2 rows, .*; item 1 is no list: 'Fishing boats leave.'"),
        ([SECOND, FIRST], "row 0: document 1 is not in the prompt's text: 'Fishing boats leave.'"),
        ([FIRST, [{"id": 7}]], "row 1: document 1 is a dict without text"),
        (["The harbour of the island."], "row 1: document 1 is not in the prompt's text"),
    ],
)
def test_documents_that_do_not_match_the_rows_are_refused(model, tokenizer, batch, documents, message):
    with pytest.raises(InputError, match=message):
        attributor.flow(model, batch, tokenizer=tokenizer, documents=documents)


def test_documents_are_checked_before_heads_are_searched(model, tokenizer, batch):
    def fail(*_):
        raise AssertionError("heads were searched")

    for documents in ([FIRST, FIRST], 7):
        with pytest.raises(InputError, match="document"):
            attributor.flow(model, batch, tokenizer=tokenizer, documents=documents, weights="retrieval", progress=fail)


def test_rows_of_different_lengths_have_their_documents(tokenizer):
    rows = [(torch.tensor(tokenizer(text)["input_ids"]), 2) for text in ("The harbour.", "The keeper writes.")]
    first, second = TokenSequence.of_batch(rows, tokenizer, [["The"], []])
    assert (len(first.documents), len(second.documents)) == (1, 0)
    assert [sequence.text for sequence in TokenSequence.of_batch(rows)] == [None, None]

"""The fields that Flow accepts, and its sums, top segments and tables."""

import builtins
import copy
import dataclasses
import pickle
import types

import numpy as np
import pytest
import torch
from example_flow import ANSWER, FERRY, HARBOUR, TEXT, example, spans

import attributor
from attributor._errors import InputError
from attributor._result.flow import Flow
from attributor._text.segments import Segment


def words(*texts: str):
    """Return a tokenizer with one token per word; its ids count the words of the texts."""
    pieces = [text[a:b] for text in texts for a, b in spans(text).tolist()]
    return types.SimpleNamespace(decode=lambda ids, **_: "".join(pieces[i] for i in ids))


def test_flow_is_public():
    assert attributor.Flow is Flow


def test_fields_are_converted_to_standard_types():
    flow = Flow(
        scores=torch.rand(4, 6, dtype=torch.float64, requires_grad=True)[::2],
        ids=torch.arange(8, dtype=torch.int32),
        meta={"seconds": 1.5},
    )
    assert flow.scores.dtype == torch.float32
    assert flow.scores.is_contiguous()
    assert not flow.scores.requires_grad
    assert flow.ids.dtype == torch.int64
    assert flow.meta == {"seconds": "1.5"}
    assert flow.prompt_length == 6
    assert flow.tokens is flow.answer_tokens is None
    assert flow.documents == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        flow.scores = torch.zeros(2, 6)


def test_the_next_token_has_no_ids():
    flow = Flow(scores=torch.rand(1, 5), ids=torch.arange(5), answer="", answer_offsets=torch.zeros(0, 2).long())
    assert flow.answer_tokens == ()
    assert "the next token" in repr(flow)


GOOD = {"scores": torch.rand(2, 3), "ids": torch.arange(5)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": torch.rand(3)}, r"scores must be a 2-dimensional tensor of floats, got \(3,\)"),
        ({"scores": torch.ones(2, 3, dtype=torch.long)}, "of torch.int64"),
        ({"scores": [[1.0]]}, "got list"),
        ({"scores": torch.full((2, 3), torch.nan)}, "6 of 6 values are NaN or infinite"),
        ({"scores": torch.full((2, 3), 1e300, dtype=torch.float64)}, "must be finite in float32"),
        ({"scores": torch.rand(0, 3), "ids": torch.arange(3)}, "at least one row and one column"),
        ({"scores": torch.rand(2, 0), "ids": torch.arange(2)}, "at least one row and one column"),
        ({"ids": torch.arange(4)}, r"need ids of 3 prompt and 2 answer tokens, got \(4,\)"),
        ({"ids": torch.arange(3)}, "need ids of 3 prompt and 2 answer tokens"),
        ({"ids": torch.rand(5)}, "ids must be a 1-dimensional tensor of integers"),
        ({"ids": torch.arange(5)[None]}, "ids must be a 1-dimensional"),
        ({"missing_mass": torch.zeros(3)}, r"missing_mass must be \(2,\), got \(3,\)"),
        ({"missing_mass": torch.tensor([0.0, torch.inf])}, "missing_mass must be finite"),
        ({"text": "abc"}, "text and offsets go together"),
        ({"offsets": torch.zeros(3, 2).long()}, "text and offsets go together"),
        ({"answer": "ab"}, "answer and answer_offsets go together"),
        ({"text": "abc", "offsets": torch.zeros(2, 2).long()}, r"offsets must be \(3, 2\)"),
        ({"text": "abc", "offsets": torch.tensor([[0, 1], [1, 2], [2, 4]])}, "stop <= 3"),
        ({"text": "abc", "offsets": torch.tensor([[0, 1], [2, 1], [2, 3]])}, "start <= stop"),
        ({"text": "abc", "offsets": torch.tensor([[-1, 1], [1, 2], [2, 3]])}, "0 <= start"),
        ({"text": "a\ud800b", "offsets": torch.zeros(3, 2).long()}, "lone surrogate"),
        ({"documents": [(0, 1)]}, "documents are spans of the text"),
    ],
)
def test_inconsistent_fields_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Flow(**(GOOD | changes))


def test_rows_add_up_to_1():
    flow = example()
    whole = flow.scores.double().sum(1) + flow.missing_mass + flow.on_answer
    assert torch.allclose(whole, torch.ones_like(whole), atol=1e-6)
    assert flow.on_answer[0] == pytest.approx(0.0, abs=1e-6)
    assert flow.on_answer[-1] == pytest.approx(0.25, abs=1e-6)


def test_on_answer_is_none_if_rows_need_not_add_up_to_1():
    assert example(missing_mass=None).on_answer is None
    assert example(normalized=False).on_answer is None


def test_sums_are_shares_only_if_rows_add_up_to_1():
    assert example().normalized
    for changes in ({"missing_mass": None}, {"normalized": False}):  # power and value norms; normalize=False
        flow = example(**changes)
        assert not flow.normalized
        assert "%" not in repr(flow)
        assert f"{flow.top(1, by='sentence')[0].share:.3g}" in repr(flow)


@pytest.mark.parametrize(
    ("changes", "normalized"),
    [
        ({}, True),
        ({"normalized": True}, True),
        ({"normalized": False}, False),
        ({"missing_mass": None}, None),
        ({"missing_mass": None, "normalized": True}, None),
        ({"missing_mass": None, "normalized": False}, False),
        ({"meta": {"normalize": "false"}}, True),  # meta is only information
    ],
)
def test_normalized_is_a_field(changes, normalized):
    flow = example(**changes)
    assert flow.normalized is normalized
    assert dataclasses.replace(flow, meta={}).normalized is normalized
    assert (flow.on_answer is not None) is bool(normalized)


def test_normalized_follows_a_replaced_missing_mass():
    unknown = example(missing_mass=None)
    assert dataclasses.replace(unknown, missing_mass=torch.zeros(4)).normalized is True
    assert dataclasses.replace(example(), missing_mass=None).normalized is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_numpy_arrays_are_accepted(dtype):
    tensors = example()
    arrays = tensors.arrays
    flow = Flow(
        scores=arrays.scores.astype(dtype),
        ids=arrays.ids.astype(np.int32),
        missing_mass=arrays.missing_mass,
        text=tensors.text,
        offsets=arrays.offsets.astype(np.uint16),
        answer=tensors.answer,
        answer_offsets=arrays.answer_offsets,
    )
    assert torch.equal(flow.scores, torch.from_numpy(arrays.scores.astype(dtype).astype(np.float32)))
    for name in ("ids", "missing_mass", "offsets", "answer_offsets"):
        assert torch.equal(getattr(flow, name), getattr(tensors, name)), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scores": np.ones((2, 3), np.int64)},
            r"scores must be a 2-dimensional tensor of floats, got \(2, 3\) of int64",
        ),
        ({"scores": np.full((2, 3), 1e300)}, "must be finite in float32; 6 of 6"),
        ({"scores": np.full((2, 3), 1j)}, "of complex128"),
        ({"ids": np.zeros(5, bool)}, r"ids must be a 1-dimensional tensor of integers, got \(5,\) of bool"),
        ({"ids": torch.zeros(5, dtype=torch.bool)}, "of torch.bool"),
        ({"normalized": "true"}, "normalized must be True, False or None, got 'true'"),
    ],
)
def test_unsuitable_arrays_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Flow(**(GOOD | changes))


def test_tensors_and_arrays_share_their_memory():
    scores = torch.rand(2, 3)
    flow = Flow(scores=scores, ids=torch.arange(5))
    assert flow.scores.data_ptr() == scores.data_ptr() == flow.arrays.scores.ctypes.data
    flow.scores[0, 0] = 7.0
    assert flow.arrays.scores[0, 0] == scores[0, 0] == 7.0


def test_the_tensor_of_a_read_only_array_is_a_copy():
    scores = np.ones((2, 3), np.float32)
    scores.flags.writeable = False
    flow = Flow(scores=scores, ids=np.arange(5))
    assert np.shares_memory(flow.arrays.scores, scores)
    flow.scores[0, 0] = 7.0
    assert scores[0, 0] == 1.0


@pytest.mark.parametrize("path", [None, 5, b"flow"])
def test_paths_of_other_types_are_refused(path):
    calls = [example().save, attributor.load] + [example().to_html] * (path is not None)
    for call in calls:
        with pytest.raises(InputError, match=f"path must be a file name, a str or a Path, got {path!r}"):
            call(path)


def test_total_is_the_mean_over_the_answer():
    flow = example()
    assert torch.allclose(flow.total(), flow.scores.mean(0), atol=1e-7)


@pytest.mark.parametrize(
    "by", ["sentence", "document", [(3, 9), "Dr. Hart", Segment(60, 75, "")], ["Ferry:\n" + FERRY]]
)
@pytest.mark.parametrize("how", ["sum", "mean", "max", "top1", "top3", "top500"])
def test_by_agrees_with_a_loop_over_tokens(by, how):
    flow = example()
    grouped = flow.by(by, how)
    assert grouped.how == how
    assert grouped.scores.shape == (len(flow.scores), len(grouped.segments)) == (len(flow.scores), len(grouped))
    covered = torch.zeros(flow.prompt_length, dtype=torch.bool)
    for index, segment in enumerate(grouped.segments):
        inside = [
            i
            for i, (start, stop) in enumerate(flow.offsets.tolist())
            if min(stop, segment.stop) - max(start, segment.start) > 0
            and all(
                min(stop, segment.stop) - max(start, segment.start) >= min(stop, other.stop) - max(start, other.start)
                for other in grouped.segments
            )
        ]
        covered[inside] = True
        values = flow.scores.double()[:, inside].sort(dim=1, descending=True).values
        expected = {
            "sum": lambda v: v.sum(1),
            "mean": lambda v: v.mean(1),
            "max": lambda v: v[:, 0],
            "top1": lambda v: v[:, 0],
            "top3": lambda v: v[:, :3].mean(1),
            "top500": lambda v: v.mean(1),
        }[how](values)
        assert torch.allclose(grouped.scores[:, index].double(), expected, rtol=1e-6, atol=1e-9)
    if how == "sum":
        assert torch.allclose(grouped.rest.double(), flow.scores.double()[:, ~covered].sum(1), atol=1e-7)
        assert float(grouped.rest.min()) > 0  # the rest: template, titles and question
    else:
        assert grouped.rest is None


def test_sums_are_computed_in_double_precision():
    scores = torch.full((1, 300_000), 1e-7)
    scores[0, 0] = 1.0
    flow = Flow(
        scores=scores,
        ids=torch.zeros(300_001, dtype=torch.long),
        text="x" * 300_000,
        offsets=torch.arange(300_000)[:, None] + torch.tensor([0, 1]),
    )
    grouped = flow.by([(0, 300_000)])
    assert grouped.scores.item() == pytest.approx(1.0 + 299_999e-7, rel=1e-7)


def test_interleaved_segments_are_summed_correctly():
    flow = Flow(
        scores=torch.tensor([[1.0, 2.0, 4.0, 8.0]]),
        ids=torch.arange(4),
        text="abcd",
        offsets=torch.tensor([[0, 1], [2, 3], [0, 1], [3, 4]]),  # not in order
    )
    grouped = flow.by([(2, 4), (0, 1)])
    assert grouped.scores.tolist() == [[10.0, 5.0]]
    assert flow.by([(2, 4), (0, 1)], "max").scores.tolist() == [[8.0, 4.0]]
    assert flow.by([(1, 2)], "max").scores.tolist() == [[0.0]]  # no token there


def test_by_token_returns_the_scores():
    flow = example()
    grouped = flow.by("token")
    assert torch.equal(grouped.scores, flow.scores)
    assert grouped.rest.tolist() == [0.0] * len(flow.scores)
    assert tuple(s.text for s in grouped.segments) == flow.tokens
    inside = [s for s in grouped.segments if s.document == 1]
    assert "".join(s.text for s in inside).strip() == FERRY
    assert flow.by("token", "top5").rest is None


def test_top_returns_the_largest_shares():
    flow = example()
    for by in ("token", "sentence", "document"):
        grouped = flow.by(by)
        hits = flow.top(3, by=by)
        shares = [hit.share for hit in hits]
        assert shares == sorted(grouped.total().tolist(), reverse=True)[: len(hits)]
        for hit in hits:
            segment = grouped.segments[hit.index]
            assert (hit.text, hit.start, hit.stop) == (segment.text, segment.start, segment.stop)
            assert flow.text[hit.start : hit.stop] == hit.text
    assert len(flow.top(10_000)) == flow.prompt_length
    assert len(flow.top(10, by=["Dr. Hart"])) == 1


def test_sentences_are_those_of_the_documents():
    flow = example()
    assert [s.text for s in flow.by("sentence").segments] == [
        "The harbour was built in 1931.",
        "Dr. Hart ran it.",
        "The ferry crosses twice a day.",
        "It stays in when the wind is strong.",
    ]
    without = example(documents=())
    assert "How often does the ferry cross?" in " ".join(s.text for s in without.by("sentence").segments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.by("document"), "no documents: give them with flow.with_documents"),
        (lambda f: f.by("paragraph"), '"token", "sentence", "document" or a list, got .paragraph.'),
        (lambda f: f.by("sentence", "median"), '"topK" such as "top5", got .median.'),
        (lambda f: f.by("token", "median"), '"topK" such as "top5", got .median.'),
        (lambda f: f.by("sentence", "top0"), "top0"),
        (lambda f: f.by("sentence", None), "None"),
        (lambda f: f.by(None), '"token", "sentence", "document" or a list, got None'),
        (lambda f: f.by(5), '"token", "sentence", "document" or a list, got 5'),
        (lambda f: f.by(b"token"), '"document" or a list, got b'),
        (lambda f: f.by([5]), "segment 0 must be a Segment, a string or .start, stop., got 5"),
        (lambda f: f.top(3, by=None), "or a list, got None"),
        (lambda f: f.with_documents(5), "documents must be a list, got 5"),
        (
            lambda f: f.with_documents("the"),
            "document 1 is in the prompt's text more than once, at characters .*: 'the'",
        ),
        (lambda f: f.with_documents([(0, 5), HARBOUR, (4, 8)]), r"document 1 \(.*0 to 5\) and document 3 .*overlap"),
        (lambda f: f.with_documents([(0, 10_000)]), "document 1 spans characters 0 to 10000"),
        (lambda f: f.with_documents([Segment(0, 3, "xyz")]), "document 1 .*were made for another text"),
        (lambda f: f.by([(0, 5), (4, 8)]), "overlap"),
        (lambda f: f.by([(0, 10_000)]), "spans characters 0 to 10000"),
        (lambda f: f.by(["no such words"]), "segment 0 is not in the text"),
        (lambda f: f.by(["ferry"]), "more than once"),
        (lambda f: f.with_documents(["the"]), "document 1 is in the prompt's text more than once"),
        (lambda f: f.top(0), "at least 1, got 0"),
        (lambda f: f.top("5"), "got '5'"),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(example(documents=()))


@pytest.mark.parametrize("by", ["sentence", "document", [(0, 1)]])
def test_segments_need_text(by):
    flow = Flow(**GOOD)
    with pytest.raises(InputError, match=r"flow.with_text\(tokenizer\)"):
        flow.by(by)
    assert [hit.text for hit in flow.top(3)] == [f"#{hit.index}" for hit in flow.top(3)]


def test_with_text_adds_text_and_documents():
    bare = dataclasses.replace(example(), text=None, offsets=None, answer=None, answer_offsets=None, documents=())
    flow = bare.with_text(words(TEXT, ANSWER), documents=[HARBOUR, FERRY])
    assert (flow.text, flow.answer) == (TEXT, ANSWER)
    assert "".join(flow.tokens) == TEXT
    assert "".join(flow.answer_tokens) == ANSWER
    assert [d.text for d in flow.documents] == [HARBOUR, FERRY]
    assert torch.equal(flow.scores, bare.scores)
    assert bare.text is None
    with pytest.raises(InputError, match="document 1 is not in the prompt's text: 'another document'"):
        bare.with_text(words(TEXT, ANSWER), documents=["another document"])


def test_to_numpy_copies_and_to_pandas_has_the_documented_columns():
    pytest.importorskip("pandas")
    flow = example()
    array = flow.to_numpy()
    assert array.dtype == np.float32
    array[:] = 0
    assert float(flow.scores.max()) > 0
    table = flow.to_pandas("sentence")
    assert list(table.columns) == ["text", "label", "document", "start", "stop", "share"]
    assert table.document.tolist() == [0, 0, 1, 1]
    assert table.share.to_numpy() == pytest.approx(flow.by("sentence").total().numpy())
    assert flow.by("document").to_numpy().shape == (len(flow.scores), 2)
    tokens = flow.to_pandas()
    assert len(tokens) == flow.prompt_length
    assert tokens.document.isna().any()


def test_missing_pandas_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "pandas":
            raise ImportError("No module named 'pandas'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'attributor\[plot\]'"):
        example().to_pandas()


def test_repr_is_short_and_complete():
    text = repr(example())
    assert text.count("\n") == 2
    assert "prompt tokens -> 4 answer tokens, missing mass 1.0e-02, tiny" in text
    assert "answer: 'Twice a day.'" in text
    assert "top sentence: " in text
    assert "%" in text
    assert "top token" in repr(Flow(**GOOD))
    assert "%" not in repr(example(normalized=False)).splitlines()[-1]
    long = repr(example(answer="word " * 500))
    assert max(len(line) for line in long.splitlines()) < 160
    assert "4 segments x 4 answer tokens" in repr(example().by("sentence"))


def test_a_flow_can_be_copied_and_pickled():
    flow = example()
    for other in (pickle.loads(pickle.dumps(flow)), copy.deepcopy(flow)):
        assert torch.equal(other.scores, flow.scores)
        assert other.documents == flow.documents

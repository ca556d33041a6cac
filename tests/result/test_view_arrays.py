"""A mapped flow file equals the result of attributor.load, without torch and without reading the scores."""

import contextlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from example_flow import example
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from attributor._errors import FileFormatError
from attributor._result import flow as flow_module
from attributor._result.flow import Flow, load, open_mapped
from attributor._result.flow_file import pack_flow
from attributor._result.view import FlowView
from attributor._result.view.encode import encode_view

FAR = 2**63 - 1
NO_ANSWER = {"answer": "", "answer_offsets": torch.zeros(0, 2).long()}
FLOWS = {
    "full": example(),
    "unicode": example(text="naïve 東京 😀 \0 \u202e </script>\r\n", documents=[(0, 5)]),
    "no documents": example(documents=[], missing_mass=None, meta={}),
    "no text": Flow(scores=torch.rand(3, 4), ids=torch.arange(7)),
    "next token": Flow(
        scores=torch.rand(1, 4), ids=torch.arange(4), answer="", answer_offsets=torch.zeros(0, 2).long()
    ),
    "unnormalised": example(normalized=False),
}


@pytest.fixture(params=list(FLOWS))
def flow(request):
    return FLOWS[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


def same(one: Flow, flow: Flow) -> None:
    pairs = [
        (one.arrays.scores, flow.scores),
        (one.arrays.ids, flow.ids),
        (one.arrays.missing_mass, flow.missing_mass),
        (one.arrays.offsets, flow.offsets),
        (one.arrays.answer_offsets, flow.answer_offsets),
        (one.arrays.on_answer, flow.on_answer),
    ]
    for left, right in pairs:
        assert (left is None) == (right is None)
        if left is not None:
            assert left.shape == tuple(right.shape)
            assert left.dtype == right.numpy().dtype
            assert np.array_equal(left, right.numpy())
    assert (one.text, one.answer, one.documents) == (flow.text, flow.answer, flow.documents)
    assert one.meta == flow.meta
    assert one.normalized is flow.normalized
    assert one.prompt_length == flow.prompt_length
    assert one.answered is flow.answered
    spans = [(s.start, s.stop) for s in flow.sentences] if flow.text is not None else []
    assert one.sentence_spans.tolist() == [list(span) for span in spans]


def test_a_mapped_file_equals_its_flow(flow, path):
    flow.save(path)
    same(open_mapped(path), flow)
    same(open_mapped(str(path)), flow)
    assert encode_view(FlowView(open_mapped(path))) == encode_view(FlowView(flow))


def test_scores_are_mapped_and_tensors_of_them_are_copies(path):
    flow = example()
    flow.save(path)
    mapped = open_mapped(path)
    assert not mapped.arrays.scores.flags.owndata
    assert not mapped.arrays.scores.flags.writeable
    assert mapped.arrays.ids.flags.writeable  # all other arrays are small and in memory
    mapped.scores[0] = 7.0  # a copy; the mapping and the file do not change
    assert torch.equal(mapped.scores, flow.scores)
    assert repr(mapped) == repr(flow)
    loaded = load(path)
    loaded.scores[0] = 7.0
    assert loaded.arrays.scores[0, 0] == 7.0
    same(open_mapped(path), flow)


def test_sentences_are_split_once_and_only_if_the_file_has_none(path, monkeypatch):
    flow = example()
    split = flow_module.split_sentences
    calls = []
    monkeypatch.setattr(flow_module, "split_sentences", lambda *args: (calls.append(1), split(*args))[1])
    assert flow.sentence_spans.tolist() == flow.sentence_spans.tolist() == [[s.start, s.stop] for s in flow.sentences]
    encode_view(FlowView(flow))
    encode_view(FlowView(flow))
    flow.save(path)
    for read in (open_mapped, load):
        assert np.array_equal(read(path).sentence_spans, flow.sentence_spans)
    assert len(calls) == 1


def test_packed_bytes_are_those_of_the_file(flow, path):
    size, chunks = pack_flow(flow)
    flow.save(path)
    assert b"".join(chunks) == path.read_bytes()
    assert path.stat().st_size == size
    same(load(path), flow)


def test_large_flows_are_packed_in_chunks():
    size, chunks = pack_flow(Flow(scores=torch.rand(40, 20_000), ids=torch.arange(20_040)))
    lengths = [len(chunk) for chunk in chunks]
    assert max(lengths) <= 1 << 20
    assert sum(lengths) == size > 40 * 20_000 * 4


def broken(path: Path, change) -> None:
    example().save(path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors, metadata)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.update(format="pt"), r"not a flow file \(format: 'pt', expected 'attributor.flow'\)"),
        (lambda t, m: m.update(version="2"), "newer attributor"),
        (lambda t, m: m.update(version="x"), "unknown version 'x'"),
        (lambda t, m: m.pop("version"), "unknown version None"),
        (lambda t, m: t.pop("scores"), "'scores' is missing"),
        (lambda t, m: t.pop("ids"), "'ids' is missing"),
        (lambda t, m: t.pop("offsets"), "text and offsets go together"),
        (lambda t, m: t.update(scores=torch.zeros(3)), "scores must be a 2-dimensional tensor of floats"),
        (lambda t, m: t.update(scores=torch.zeros(0, 4)), "at least one row"),
        (lambda t, m: t.update(scores=torch.zeros(2, 2).bfloat16()), "'scores' is missing"),
        (lambda t, m: t.update(ids=torch.arange(3)), "need ids of"),
        (lambda t, m: t.update(ids=torch.zeros(3)), "ids must be a 1-dimensional tensor of integers"),
        (lambda t, m: t.update(missing_mass=torch.zeros(99)), "missing_mass must be"),
        (lambda t, m: t.update(missing_mass=torch.full((4,), torch.nan)), "missing_mass must be finite"),
        (lambda t, m: t.update(text=torch.full((500,), 0xFF, dtype=torch.uint8)), "utf-8"),
        (lambda t, m: t.update(text=torch.zeros(3)), "must be bytes of UTF-8"),
        (lambda t, m: t.update(offsets=torch.zeros(2, 2, dtype=torch.int32)), "offsets must be"),
        (lambda t, m: t.update(offsets=t["offsets"] + 9), "offsets must be spans"),
        (lambda t, m: t.update(answer_offsets=t["answer_offsets"].flip(1)), "answer_offsets must be spans"),
        (lambda t, m: t.update(sentences=torch.tensor([[0, 99999]])), "sentences must be spans of"),
        (lambda t, m: t.update(sentences=torch.tensor([[FAR, -FAR - 1], [-FAR, -1]])), "sentences must be spans of"),
        (lambda t, m: m.update(documents='[[0, 1e999, "a"]]'), "do not fit together"),
        (lambda t, m: m.update(version="0" * 5000 + "1"), "unknown version '0000"),
        (lambda t, m: m.update(documents="[[0, 5"), "do not fit together"),
        (lambda t, m: m.update(documents="[[0, 99999, null]]"), "document 0 spans"),
        (lambda t, m: m.update(documents="[" * 100_000), "do not fit together"),
        (lambda t, m: m.update(meta="[1]"), "meta must be an object"),
        (lambda t, m: [t.pop(n) for n in ("text", "offsets", "sentences")], "documents are spans of the text"),
    ],
)
def test_broken_files_are_refused_with_the_message_of_load(path, change, message):
    broken(path, change)
    with pytest.raises(FileFormatError, match=message) as mapped:
        open_mapped(path)
    with pytest.raises(FileFormatError, match=message) as loaded:
        load(path)
    assert str(mapped.value) == str(loaded.value)


def test_unknown_tensors_are_ignored(path):
    broken(path, lambda t, m: t.update(extra=torch.zeros(3).bfloat16(), more=torch.zeros(2, 2)))
    same(open_mapped(path), example())


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_mapped(tmp_path / "none")
    with pytest.raises(FileFormatError, match="is a folder"):
        open_mapped(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("flow") / "a.safetensors"
    example().save(path)
    return path.read_bytes()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_change_of_a_file_is_read_or_refused(whole, tmp_path_factory, data):
    """Random changes of header bytes give a flow or a FileFormatError, nothing else."""
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    changed = bytearray(whole)
    length = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, length + 400))
        changed[at] = data.draw(st.sampled_from(b'0129-,:"[]{}eE.F\x00\xff\\u'))
    path.write_bytes(changed)
    for read in (open_mapped, load):
        with contextlib.suppress(FileFormatError):
            found = read(path)
            assert found.scores.shape[1] == found.prompt_length


def test_every_truncation_is_refused(whole, path):
    for length in [*range(0, 64, 7), *range(64, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            open_mapped(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(FileFormatError, match="corrupt"):
        open_mapped(path)


def test_unaligned_tensors_are_read(whole, path):
    """Other writers may leave tensors unaligned."""
    length = int.from_bytes(whole[:8], "little")
    text = whole[8 : 8 + length].rstrip() + b" "
    text += b" " * (2 - len(text) % 2 + 1)
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    assert json.loads(text)
    assert not open_mapped(path).arrays.scores.flags.aligned
    same(open_mapped(path), example())
    assert encode_view(FlowView(open_mapped(path))) == encode_view(FlowView(example()))


def test_the_views_open_a_file_without_torch(path):
    example().save(path)
    code = (
        "import sys; from attributor import Flow, load; from attributor._result.flow import open_mapped;"
        "from attributor._result.view import FlowView; from attributor._result.view.encode import encode_view;"
        f"encode_view(FlowView(open_mapped({str(path)!r}))); load({str(path)!r}).save({str(path)!r});"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

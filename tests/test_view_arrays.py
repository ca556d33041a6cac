"""FlowArrays: the same flow as attributor.load gives, without torch and without reading its scores."""

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

import attributor
from attributor._errors import FileFormatError
from attributor._result import Flow
from attributor._view import FlowArrays, arrays
from attributor._view.encode import encode_view
from attributor._view.flowfile import flow_file

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
    "unnormalised": example(meta={"normalize": "false"}),
}


@pytest.fixture(params=list(FLOWS))
def flow(request):
    return FLOWS[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


def same(arrays: FlowArrays, flow: Flow) -> None:
    pairs = [
        (arrays.scores, flow.scores),
        (arrays.ids, flow.ids),
        (arrays.missing, flow.missing_mass),
        (arrays.offsets, flow.offsets),
        (arrays.answer_offsets, flow.answer_offsets),
        (arrays.on_answer, flow.on_answer),
    ]
    for left, right in pairs:
        assert (left is None) == (right is None)
        if left is not None:
            assert left.shape == tuple(right.shape)
            assert np.allclose(left, right.numpy(), atol=1e-7)
    assert (arrays.text, arrays.answer, arrays.documents) == (flow.text, flow.answer, flow.documents)
    assert (arrays.meta, arrays.normalized) == (flow.meta, flow.normalized)
    assert arrays.prompt_length == flow.prompt_length
    assert arrays.answered == (flow.ids.numel() > flow.prompt_length)
    spans = [(s.start, s.stop) for s in flow.sentences] if flow.text is not None else []
    assert arrays.sentences.tolist() == [list(span) for span in spans]


def test_of_a_flow_and_of_its_file(flow, path):
    same(FlowArrays.of(flow), flow)
    flow.save(path)
    same(FlowArrays.open(path), flow)
    same(FlowArrays.open(str(path)), flow)
    assert FlowArrays.open(path).path == path
    assert encode_view(FlowArrays.open(path)) == encode_view(FlowArrays.of(flow))


def test_scores_are_not_copied(path):
    flow = example()
    assert np.shares_memory(FlowArrays.of(flow).scores, flow.scores.numpy())
    flow.save(path)
    scores = FlowArrays.open(path).scores
    assert not scores.flags.owndata
    assert not scores.flags.writeable


def test_sentences_are_split_once_and_only_where_nobody_did(path, monkeypatch):
    flow = example()
    split = arrays.split_sentences
    calls = []
    monkeypatch.setattr(arrays, "split_sentences", lambda *args: (calls.append(1), split(*args))[1])
    plain = FlowArrays.of(example())
    assert not plain.has_sentences
    assert plain.sentences.tolist() == plain.sentences.tolist() == [[s.start, s.stop] for s in flow.sentences]
    assert plain.has_sentences
    assert len(calls) == 1
    flow.save(path)
    for known in (FlowArrays.of(flow), FlowArrays.open(path)):
        assert known.has_sentences
        assert np.array_equal(known.sentences, plain.sentences)
    assert len(calls) == 1


def test_the_file_of_the_arrays_is_the_flows(flow, path):
    size, chunks = flow_file(FlowArrays.of(flow))
    path.write_bytes(b"".join(chunks))
    assert path.stat().st_size == size
    loaded = attributor.load(path)
    same(FlowArrays.of(loaded), flow)
    assert torch.equal(loaded.scores, flow.scores)
    assert loaded.ids.dtype == torch.int64


def test_a_large_file_is_sent_in_pieces():
    flow = FlowArrays.of(Flow(scores=torch.rand(40, 20_000), ids=torch.arange(20_040)))
    size, chunks = flow_file(flow)
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
        (lambda t, m: m.update(format="pt"), r"not a flow \(format: 'pt', expected 'attributor.flow'\)"),
        (lambda t, m: m.update(version="2"), "newer attributor"),
        (lambda t, m: m.update(version="x"), "unknown version 'x'"),
        (lambda t, m: m.pop("version"), "unknown version None"),
        (lambda t, m: t.pop("scores"), "'scores' is missing"),
        (lambda t, m: t.pop("ids"), "'ids' is missing"),
        (lambda t, m: t.pop("offsets"), "text and offsets go together"),
        (lambda t, m: t.update(scores=torch.zeros(3)), "scores must be 2-dimensional"),
        (lambda t, m: t.update(scores=torch.zeros(0, 4)), "at least one row"),
        (lambda t, m: t.update(scores=torch.zeros(2, 2).bfloat16()), "'scores' is missing"),
        (lambda t, m: t.update(ids=torch.arange(3)), "need ids of"),
        (lambda t, m: t.update(ids=torch.zeros(3)), "ids must be 1-dimensional and of integers"),
        (lambda t, m: t.update(missing_mass=torch.zeros(99)), "missing_mass must be"),
        (lambda t, m: t.update(missing_mass=torch.full((4,), torch.nan)), "missing_mass must be .* finite"),
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
        (lambda t, m: [t.pop(n) for n in ("text", "offsets", "sentences")], "there is no text"),
    ],
)
def test_files_that_are_refused(path, change, message):
    broken(path, change)
    with pytest.raises(FileFormatError, match=message):
        FlowArrays.open(path)
    with pytest.raises(FileFormatError):
        attributor.load(path)


def test_what_a_later_writer_adds_is_left_alone(path):
    broken(path, lambda t, m: t.update(extra=torch.zeros(3).bfloat16(), more=torch.zeros(2, 2)))
    same(FlowArrays.open(path), example())


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError):
        FlowArrays.open(tmp_path / "none")
    with pytest.raises(FileFormatError, match="is a folder"):
        FlowArrays.open(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("flow") / "a.safetensors"
    example().save(path)
    return path.read_bytes()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_change_of_a_file_is_read_or_refused(whole, tmp_path_factory, data):
    """Bytes of the header changed at random: a flow comes out, or a FileFormatError; nothing else."""
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    changed = bytearray(whole)
    length = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, length + 400))
        changed[at] = data.draw(st.sampled_from(b'0129-,:"[]{}eE.F\x00\xff\\u'))
    path.write_bytes(changed)
    for read in (FlowArrays.open, attributor.load):
        with contextlib.suppress(FileFormatError):
            found = read(path)
            assert found.scores.shape[1] == found.prompt_length


def test_every_truncation_is_refused(whole, path):
    for length in [*range(0, 64, 7), *range(64, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            FlowArrays.open(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(FileFormatError, match="corrupt"):
        FlowArrays.open(path)


def test_tensors_that_do_not_begin_at_a_multiple_of_their_size(whole, path):
    """Other writers need not align them."""
    length = int.from_bytes(whole[:8], "little")
    text = whole[8 : 8 + length].rstrip() + b" "
    text += b" " * (2 - len(text) % 2 + 1)
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    assert json.loads(text)
    assert not FlowArrays.open(path).scores.flags.aligned
    same(FlowArrays.open(path), example())
    assert encode_view(FlowArrays.open(path)) == encode_view(FlowArrays.of(example()))


def test_the_views_open_a_file_without_torch(path):
    example().save(path)
    code = (
        "import sys; from attributor._view import FlowArrays; from attributor._view.encode import encode_view;"
        f"encode_view(FlowArrays.open({str(path)!r}));"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

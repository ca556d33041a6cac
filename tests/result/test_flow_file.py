"""Flow files load as they were saved; broken files are refused with a clear message."""

import errno
import json
import os
import struct
from pathlib import Path

import pytest
import torch
from example_flow import example
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_front_end import tiny_front_end  # noqa: F401

import attributor
from attributor._errors import FileFormatError, OutputError
from attributor._result import flow as flow_module
from attributor._result import flow_file
from attributor._result.flow import Flow, open_mapped


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a flow.safetensors"


def same(a: Flow, b: Flow) -> None:
    for name in ("scores", "ids", "missing_mass", "offsets", "answer_offsets"):
        left, right = getattr(a, name), getattr(b, name)
        assert (left is None) == (right is None), name
        if left is not None:
            assert left.dtype == right.dtype, name
            assert torch.equal(left, right), name
    assert (a.text, a.answer, a.documents, a.meta) == (b.text, b.answer, b.documents, b.meta)


@pytest.mark.parametrize(
    "flow",
    [
        example(),
        example(text="naïve 東京 😀 \0 ‮ </script>\r\n", documents=[(0, 5)]),
        example(documents=[], missing_mass=None, meta={}),
        Flow(scores=torch.rand(3, 4), ids=torch.arange(7)),
        Flow(scores=torch.rand(1, 4), ids=torch.arange(4), answer="", answer_offsets=torch.zeros(0, 2).long()),
    ],
    ids=["full", "unicode", "no documents", "no text", "next token"],
)
def test_a_saved_flow_loads_unchanged(flow, path):
    flow.save(path)
    same(attributor.load(path), flow)
    same(attributor.load(str(path)), flow)


def test_the_file_has_the_documented_tensors_and_metadata(path):
    flow = example()
    flow.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        shapes = {name: (file.get_tensor(name).dtype, tuple(file.get_tensor(name).shape)) for name in file.keys()}  # noqa: SIM118
    o, k = flow.scores.shape
    assert metadata["format"] == "attributor.flow"
    assert metadata["version"] == "1"
    assert json.loads(metadata["documents"]) == [[d.start, d.stop, None] for d in flow.documents]
    assert json.loads(metadata["meta"]) == flow.meta
    assert metadata["normalized"] == "true"
    assert shapes == {
        "scores": (torch.float32, (o, k)),
        "ids": (torch.int64, (k + o,)),
        "missing_mass": (torch.float32, (o,)),
        "text": (torch.uint8, (len(flow.text.encode()),)),
        "offsets": (torch.int32, (k, 2)),
        "sentences": (torch.int32, (len(flow.sentences), 2)),
        "answer": (torch.uint8, (len(flow.answer.encode()),)),
        "answer_offsets": (torch.int32, (o, 2)),
    }
    page = Path(__file__).parents[2] / "docs" / "flow-file.md"
    for word in [*shapes, *metadata]:
        assert f"`{word}`" in page.read_text(), f"{word} is not in docs/flow-file.md"


def test_saved_sentences_are_not_split_again(path, monkeypatch):
    flow = example()
    flow = flow.with_documents([flow.documents[1], flow.documents[0]])  # numbered in the reverse order of the text
    flow.save(path)
    monkeypatch.setattr(flow_module, "split_sentences", lambda *_: pytest.fail("split again"))
    assert attributor.load(path).sentences == flow.sentences
    assert {s.document for s in flow.sentences} == {0, 1}
    assert attributor.load(path).by("sentence").top(1) == flow.by("sentence").top(1)


def test_sentences_of_a_long_text_are_saved_once_they_were_split(path, monkeypatch):
    monkeypatch.setattr(flow_file, "CHEAP", 10)
    flow = example()
    flow.save(path)
    assert "sentences" not in load_file(path)
    assert attributor.load(path).sentences == flow.sentences
    flow.save(path)
    assert torch.equal(load_file(path)["sentences"], torch.tensor([(s.start, s.stop) for s in flow.sentences]).int())


def test_a_text_without_sentences_is_saved_and_loaded(path):
    flow = example(
        text="   ", documents=[], offsets=torch.tensor([[0, 3]]), scores=torch.ones(4, 1), ids=torch.arange(5)
    )
    flow.save(path)
    assert load_file(path)["sentences"].shape == (0, 2)
    assert attributor.load(path).sentences == () == flow.sentences


def test_saving_replaces_a_file_in_one_step(path):
    path.write_text("old")
    example().save(path)
    attributor.load(path)
    assert os.listdir(path.parent) == [path.name]


def test_saving_through_a_link_keeps_the_link(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    example().save(link)
    assert link.is_symlink()
    attributor.load(path)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    flow = example()
    flow.save(path)
    before = path.read_bytes()

    def full():
        yield b"half"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(flow_file, "pack_flow", lambda flow: (8, full()))
    with pytest.raises(OutputError, match=r"a flow.safetensors: No space left on device"):
        flow.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupted_save_leaves_nothing(path, monkeypatch):
    def interrupted():
        yield b"half"
        raise KeyboardInterrupt

    monkeypatch.setattr(flow_file, "pack_flow", lambda flow: (8, interrupted()))
    with pytest.raises(KeyboardInterrupt):
        example().save(path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("write", [lambda f, p: f.save(p), lambda f, p: f.to_html(p)], ids=["save", "to_html"])
@pytest.mark.usefixtures("tiny_front_end")
def test_unwritable_paths_are_refused(tmp_path, write):
    flow = example()
    with pytest.raises(OutputError, match=r"there is no folder .*missing"):
        write(flow, tmp_path / "missing" / "flow")
    with pytest.raises(OutputError, match="it is a folder"):
        write(flow, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="there is no folder"):
        write(flow, tmp_path / "file" / "flow")
    with pytest.raises(OutputError, match="File name too long"):
        write(flow, tmp_path / ("x" * 300))
    with pytest.raises(OutputError, match="not a regular file"):
        write(flow, os.devnull)
    assert not Path(os.devnull).is_file()


def test_a_missing_file_raises_file_not_found(path):
    with pytest.raises(FileNotFoundError):
        attributor.load(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="is a folder"):
        attributor.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a flow file"),
        (b"abc", "not a flow file"),
        (b"just some text that is no flow at all", "not a flow file, or only the beginning"),
        (b"PK\x03\x04" + bytes(200), "not a flow file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a flow file"),
        (struct.pack("<Q", 2**40) + b"{}" * 50, "not a flow file"),
        (struct.pack("<Q", 10) + b"not json..", "its header cannot be read"),
        (struct.pack("<Q", 2) + b"[]", "not an object"),
        (struct.pack("<Q", 2) + b"\xff\xfe", "its header cannot be read"),
        (struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995, "its header cannot be read"),
        (struct.pack("<Q", 2) + b"{}", "not a flow file .format: None"),
        (struct.pack("<Q", 20) + b'{"__metadata__":123}', "not a flow file .format: None"),
    ],
)
def test_files_of_another_kind_are_refused(path, content, message):
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        attributor.load(path)


def test_every_truncation_is_refused(path):
    example().save(path)
    whole = path.read_bytes()
    for length in [*range(0, 64, 7), *range(64, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            attributor.load(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(FileFormatError, match="corrupt"):
        attributor.load(path)


def rewrite(path, change):
    """Save the example, then change its tensors and metadata."""
    example().save(path)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def put(where, key, value):
    return lambda tensors, metadata: {"t": tensors, "m": metadata}[where].__setitem__(key, value)


def drop(where, key):
    return lambda tensors, metadata: {"t": tensors, "m": metadata}[where].pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("m", "format", "pt"), "not a flow file .format: 'pt', expected 'attributor.flow'"),
        (
            put("m", "version", "2"),
            "newer attributor .flow version 2, this one reads up to 1.: pip install -U attributor",
        ),
        (put("m", "version", "999999999999"), "newer attributor"),
        (put("m", "version", "x"), "unknown version 'x'"),
        (put("m", "version", "0"), "unknown version '0'"),
        (drop("m", "version"), "unknown version None"),
        (drop("t", "scores"), "'scores' is missing"),
        (drop("t", "ids"), "'ids' is missing"),
        (drop("t", "offsets"), "text and offsets go together"),
        (put("t", "ids", torch.arange(3)), "need ids of"),
        (put("t", "scores", torch.full((4, 9), torch.nan)), "NaN"),
        (put("t", "missing_mass", torch.zeros(99)), "missing_mass must be"),
        (put("t", "text", torch.full((500,), 0xFF, dtype=torch.uint8)), "utf-8"),
        (put("t", "text", torch.zeros(3)), "must be bytes of UTF-8"),
        (put("t", "offsets", torch.zeros(2, 2, dtype=torch.int32)), "offsets must be"),
        (put("t", "sentences", torch.tensor([[0, 5], [4, 9]], dtype=torch.int32)), "sentences must be spans of"),
        (put("t", "sentences", torch.tensor([[0, 99999]], dtype=torch.int32)), "sentences must be spans of"),
        (put("t", "sentences", torch.tensor([[-1, 3]], dtype=torch.int32)), "sentences must be spans of"),
        (put("t", "sentences", torch.tensor([[3, 3]], dtype=torch.int32)), "sentences must be spans of"),
        (put("t", "sentences", torch.zeros(3, dtype=torch.int32)), "sentences must be .s, 2. integers"),
        (put("t", "sentences", torch.zeros(1, 2)), "sentences must be .s, 2. integers"),
        (put("m", "documents", "[[0, 5"), "do not fit together"),
        (put("m", "documents", "[[0, 99999, null]]"), "document 0 spans"),
        (put("m", "documents", "[[0]]"), "do not fit together"),
        (put("m", "documents", "7"), "do not fit together"),
        (put("m", "meta", "[1]"), "meta must be an object"),
        (put("m", "normalized", "True"), 'normalized must be "true" or "false", got \'True\''),
    ],
)
def test_inconsistent_parts_are_refused(path, change, message):
    rewrite(path, change)
    with pytest.raises(FileFormatError, match=message):
        attributor.load(path)


def test_a_false_header_is_refused_before_tensors_are_read(path, monkeypatch):
    example().save(path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["ids"]["data_offsets"] = header["scores"]["data_offsets"]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    monkeypatch.setattr(flow_file, "map_tensors", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(
        FileFormatError, match=r"is corrupt or truncated: tensor 'ids', I64 .*, cannot lie in the bytes"
    ):
        attributor.load(path)


def test_files_of_version_0_1_still_open():
    """Those files have no key for `normalized`; `meta` holds its value."""
    folder = Path(__file__).parent / "flow_files"
    expected = {
        "v0.1": example(),
        "v0.1-unnormalized": example(normalized=False, meta={"model": "tiny", "normalize": "false"}),
        "v0.1-no-missing-mass": example(missing_mass=None, meta={"model": "tiny", "power": "2"}),
    }
    assert [flow.normalized for flow in expected.values()] == [True, False, None]
    for name, flow in expected.items():
        for read in (attributor.load, open_mapped):
            flow_of_file = read(folder / f"{name}.safetensors")
            same(flow_of_file, flow)
            assert flow_of_file.normalized is flow.normalized
            assert flow_of_file.sentences == flow.sentences


@pytest.mark.parametrize("normalized", [True, False, None])
def test_normalized_is_not_read_from_meta(path, normalized):
    missing = None if normalized is None else torch.full((4,), 0.01)
    for meta in ({"normalize": "true"}, {"normalize": "false"}, {}):
        flow = example(normalized=normalized, missing_mass=missing, meta=meta)
        assert flow.normalized is normalized
        if normalized is not None:  # an unknown value has no key
            flow.save(path)
            assert attributor.load(path).normalized is normalized


def test_unknown_tensors_are_ignored(path):
    rewrite(path, put("t", "extra", torch.zeros(3)))
    same(attributor.load(path), example())

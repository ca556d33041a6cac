"""Headers of safetensors files, valid and hostile: every entry is checked before use."""

import json
import os
import struct
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load, save

from attributor._errors import FileFormatError, InputError
from attributor._io import safetensors_header
from attributor._io.safetensors_header import read_header
from attributor._result.safetensors_arrays import map_tensors, pack_safetensors, pack_safetensors_parts, shrink_integers

F32 = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


def written(path, header, data=bytes(24)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_files_of_the_safetensors_library_are_read(path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 4), np.int64), "c": np.uint8(7)}
    tensors = {name: np.asarray(value) for name, value in tensors.items()}
    path.write_bytes(save(tensors, {"format": "x"}))
    header = read_header(path)
    assert header.metadata == {"format": "x"}
    assert {name: (place.dtype, place.shape) for name, place in header.tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("I64", (0, 4)),
        "c": ("U8", ()),
    }
    with path.open("rb") as file:
        found = map_tensors(file, read_header(file))
    for name, value in tensors.items():
        assert np.array_equal(found[name], value)
        assert not found[name].flags.writeable or not found[name].size


def test_packed_bytes_are_read_by_the_safetensors_library():
    tensors = {
        "odd": np.arange(3, dtype=np.uint8),
        "wide": np.arange(4, dtype=np.float32)[::2],
        "empty": np.zeros((0, 2), np.int32),
        "double": np.ones((1, 2)),
        "flag": np.array([True, False]),
    }
    data = pack_safetensors(tensors, {"format": "x", "other": "é"})
    assert data == pack_safetensors(dict(reversed(tensors.items())), {"format": "x", "other": "é"})
    found = load(data)
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    for name, value in tensors.items():
        start = 8 + int.from_bytes(data[:8], "little") + header[name]["data_offsets"][0]
        assert start % value.dtype.itemsize == 0, f"{name}: a typed array cannot begin here"


def test_packing_does_not_copy_arrays():
    big = np.zeros((100, 1000), np.float32)
    parts = pack_safetensors_parts({"big": big})
    assert np.shares_memory(np.frombuffer(parts[-1], np.uint8), big)


@pytest.mark.parametrize(("most", "dtype"), [(0, "u1"), (255, "u1"), (256, "<u2"), (65_535, "<u2"), (65_536, "<i4")])
def test_integers_use_the_smallest_dtype(most, dtype):
    assert shrink_integers(np.array([0, most])).dtype == np.dtype(dtype)
    assert shrink_integers(np.array([], dtype=np.int64)).dtype == np.uint8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "F31"}, "unknown dtype 'F31'"),
        ({"dtype": ["F32"]}, "unknown dtype"),
        ({"dtype": "F4"}, "unknown dtype 'F4'"),
        ({"shape": [2, 4]}, r"F32 \[2, 4\], cannot lie in the bytes 0 to 24"),
        ({"shape": [2, -3]}, "the shape of tensor 'a'"),
        ({"shape": [-2, -3]}, "the shape of tensor 'a'"),
        ({"shape": [2, True]}, "the shape of tensor 'a'"),
        ({"shape": [2, 3.0]}, "the shape of tensor 'a'"),
        ({"shape": [2**62, 2**62, 0]}, "cannot lie in the bytes"),
        ({"shape": [1] * 40 + [6]}, "the shape of tensor 'a'"),
        ({"shape": 6}, "the shape of tensor 'a'"),
        ({"data_offsets": [0, 23]}, "cannot lie in the bytes 0 to 23"),
        ({"data_offsets": [24, 0]}, "cannot lie in the bytes 24 to 0"),
        ({"data_offsets": [1, 25]}, "leaves a gap before it"),
        ({"data_offsets": [0, 24, 24]}, "data_offsets of tensor 'a'"),
        ({"data_offsets": [-24, 0]}, "data_offsets of tensor 'a'"),
        ({"data_offsets": None}, "data_offsets of tensor 'a'"),
        ({"more": 1}, "must have dtype, shape and data_offsets"),
    ],
)
def test_invalid_tensor_entries_are_refused(path, change, message):
    with pytest.raises(FileFormatError, match=rf"a\.safetensors is corrupt or truncated: .*{message}"):
        read_header(written(path, {"a": {**F32, **change}}))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": F32, "b": F32}, "'b' overlaps another tensor"),
        ({"a": F32, "b": {"dtype": "U8", "shape": [4], "data_offsets": [20, 24]}}, "'b' overlaps another tensor"),
        ({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, "end at byte .* and the file at"),
        ({}, "end at byte .* and the file at"),
        ({"a": 7}, "must have dtype"),
        ({"__metadata__": {"format": 7}, "a": F32}, "metadata 'format' is not a string"),
        ({"__metadata__": {"format": ["x"]}, "a": F32}, "metadata 'format' is not a string"),
    ],
)
def test_headers_inconsistent_with_their_file_are_refused(path, header, message):
    with pytest.raises(FileFormatError, match=f"is corrupt or truncated: .*{message}"):
        read_header(written(path, header))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"a":1,"a":2}', "'a' is there twice"),
        (b'{"a":{"dtype":"F32","dtype":"F64"}}', "'dtype' is there twice"),
        (b'{"a":NaN}', "NaN is not a number of JSON"),
        (b'{"a":-Infinity}', "-Infinity is not a number"),
        (b'{"a":' + b"9" * 5000 + b"}", "header cannot be read"),
        (b'{"\\ud800":1}', "header cannot be read"),
        (b'\xef\xbb\xbf{"a":1}', "header cannot be read"),
        ('{"a":1}'.encode("utf-16"), "header cannot be read"),
        (b"\xff{}", "header cannot be read"),
        (b"[]", "not an object"),
        (b'"__metadata__"', "not an object"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "header cannot be read"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "header cannot be read"),
        (b"", "header cannot be read"),
    ],
)
def test_malformed_headers_are_refused(path, header, message):
    with pytest.raises(FileFormatError, match=message):
        read_header(written(path, header))


def test_a_large_header_costs_little_memory(path):
    """Two million empty lists in 6 MB would take 130 MB as objects, so they are refused before parsing."""
    hostile = b'{"a":[' + b"[]," * 2_000_000 + b"[]]}"
    written(path, hostile)
    tracemalloc.start()
    with pytest.raises(FileFormatError, match="characters besides its strings"):
        read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(hostile)
    long = {"__metadata__": {"documents": "[" * 6_000_000, "quote": '\\"' * 10}, "a": F32}
    assert read_header(written(path, long)).metadata["quote"] == '\\"' * 10


def test_impossible_header_lengths_are_refused(path, monkeypatch):
    for length in (2**63, 2**64 - 1, 10**9, 17):
        path.write_bytes(struct.pack("<Q", length) + b"{}" + bytes(14))
        with pytest.raises(FileFormatError, match=r"not a flow file, or only the beginning of one \(24 bytes"):
            read_header(path)
    monkeypatch.setattr(safetensors_header, "LONGEST_HEADER", 40)
    with pytest.raises(FileFormatError, match="not a flow file"):
        read_header(written(path, {"a": F32}))


def test_missing_files_folders_and_pipes_are_refused(tmp_path, path):
    with pytest.raises(FileNotFoundError):
        read_header(path)
    with pytest.raises(FileFormatError, match="is a folder"):
        read_header(tmp_path)
    os.mkfifo(path)
    with pytest.raises(FileFormatError, match="not a regular file"):
        read_header(path)


def test_a_file_that_cannot_be_mapped_is_an_error(path):
    written(path, {"a": F32})
    with path.open("rb") as file:
        header = read_header(file)
    with path.open("ab") as file, pytest.raises(InputError, match="cannot be mapped"):
        map_tensors(file, header)

"""Every public function gets one argument of a wrong type or size and raises no raw error of another library."""

import functools
import math
import warnings

import numpy as np
import pytest
import tiny_chat
import torch

import attributor
from attributor import AttributorError, Flow, Segment, Weights
from attributor._checks import shorten_value

N = 12
NESTED: list = []
for _ in range(3_000):
    NESTED = [NESTED]


class OnlyIterable:
    def __iter__(self):
        yield 1


VALUES = {
    "None": None,
    "True": True,
    "0": 0,
    "-3": -3,
    "2**70": 2**70,
    "0.5": 0.5,
    "nan": math.nan,
    "inf": math.inf,
    "1j": 1j,
    "no text": "",
    "text": "x",
    "NUL": "x\0",
    "surrogate": "\ud800",
    "long": "x" * 5_000,
    "bytes": b"x",
    "[]": [],
    "[1]": [1],
    "[-1]": [-1],
    "[nan]": [math.nan],
    "[None]": [None],
    "['a']": ["a"],
    "ragged": [[1], [1, 2]],
    "nested": NESTED,
    "{}": {},
    "dict": {"a": 1},
    "no ids": {"input_ids": None},
    "pair": (0, 1),
    "set": {1},
    "object": object(),
    "iterable": OnlyIterable(),
    "scalar tensor": torch.tensor(3),
    "empty tensor": torch.zeros(0),
    "floats": torch.zeros(N),
    "bools": torch.ones(N, dtype=torch.bool),
    "complex": torch.zeros(N, dtype=torch.complex64),
    "NaN matrix": torch.full((2, 4), torch.nan),
    "3-d": torch.zeros(2, 2, 2, dtype=torch.long),
    "large ids": torch.full((1, N), 2**40),
    "meta": torch.zeros(N, dtype=torch.long, device="meta"),
    "sparse": torch.zeros(2, 4).to_sparse(),
    "array": np.zeros(N, dtype=np.int64),
    "objects": np.array([object()]),
    "strings": np.array(["a"]),
    "uint64": np.array([2**63], dtype=np.uint64),
}


@functools.cache
def chat_model():
    """Return a model, its tokenizer and ids of a prompt."""
    made = tiny_chat.tokenizer()
    return tiny_chat.model(len(made)), made, made("The harbour of the island. The light.")["input_ids"]


def call_flow(**changes):
    model, made, ids = chat_model()
    arguments = {"model": model, "ids": ids, "tokenizer": made, "weights": Weights(question=0.5)} | changes
    return attributor.flow(**arguments)


def call_record(**changes):
    model, _, ids = chat_model()
    with attributor.record(**{"model": model} | changes):
        model(torch.tensor([ids]))


@functools.cache
def recorded():
    model, _, ids = chat_model()
    with attributor.record(model, weights=Weights(question=0.5)) as recording:
        model(torch.tensor([ids]))
    return recording, ids


def call_recording(**changes):
    recording, ids = recorded()
    return recording.flow(**{"out": ids, "tokenizer": chat_model()[1]} | changes)


def call_attention(**changes):
    arguments = {"layer": 1, "heads": torch.ones(4), "positions": torch.tensor([3])}
    return recorded()[0].attention(**arguments | changes)


def call_calibrate(**changes):
    model, made, _ = chat_model()
    return attributor.calibrate(**{"model": model, "tokenizer": made, "count": 1} | changes)


def call_flow_step(**changes):
    H, N, D = 2, 5, 4
    tensors = {"rows": torch.zeros(1, N), "query": torch.zeros(H, N, D), "key": torch.zeros(H, N, D)}
    return attributor.flow_step(**tensors | {"row_bias": torch.zeros(H, N), "scale": 1.0} | changes)


def call_new_flow(**changes):
    offsets = torch.tensor([[0, 1], [1, 2], [2, 3]])
    arguments = {"scores": torch.zeros(2, 3), "ids": torch.arange(5), "text": "abc", "offsets": offsets}
    return Flow(**arguments | changes)


FUNCTIONS = {
    "flow": (
        call_flow,
        "model ids prompt_length attention_mask weights normalize tokenizer documents question impl keep progress",
    ),
    "record": (call_record, "model weights tokenizer keep progress"),
    "Recording.flow": (
        call_recording,
        "out prompt_length weights normalize tokenizer documents question impl progress",
    ),
    "Recording.attention": (
        call_attention,
        "layer heads positions power value_norms sink row impl",
    ),
    "Recording.layer": (lambda **changes: recorded()[0].layer(**{"index": 0} | changes), "index row"),
    "calibrate": (call_calibrate, "model tokenizer count seed progress"),
    "Weights": (Weights, "heads power value_norms sink question note meta"),
    "Weights.of": (Weights.of, "given"),
    "Weights.of_heads": (
        lambda **changes: Weights.of_heads(**{"shape": (4, 4), "heads": {(0, 0): 1.0}} | changes),
        "shape heads power",
    ),
    "Weights.load_shipped": (Weights("retrieval").load_shipped, "model_id"),
    "Weights.load": (Weights.load, "path"),
    "load": (attributor.load, "path"),
    "Flow": (
        call_new_flow,
        "scores ids missing_mass normalized text offsets answer answer_offsets documents meta",
    ),
    "Flow.with_text": (
        lambda **changes: call_new_flow().with_text(**{"tokenizer": chat_model()[1]} | changes),
        "tokenizer documents",
    ),
    "Flow.with_documents": (lambda **changes: call_new_flow().with_documents(**changes), "documents"),
    "Flow.by": (lambda **changes: call_new_flow().by(**{"segments": "token"} | changes), "segments how"),
    "Flow.top": (lambda **changes: call_new_flow().top(**changes), "k by"),
    "Segment": (
        lambda **changes: call_new_flow(documents=[Segment(**{"start": 0, "stop": 1, "text": "a"} | changes)]),
        "start stop text label",
    ),
    "flow_step": (call_flow_step, "rows query key row_bias key_bias scale kv_index power window softcap impl"),
}
CALLS = [(name, argument) for name, (_, arguments) in FUNCTIONS.items() for argument in arguments.split()]


def outcome(call, **changes) -> str:
    """Return "" for a result or a short error of attributor; otherwise the raised error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about numbers that it converts
            call(**changes)
    except (AttributorError, FileNotFoundError) as error:
        return "" if len(str(error)) < 1_500 else f"a message of {len(str(error))} characters"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    return ""


@pytest.mark.parametrize(("name", "argument"), CALLS)
def test_wrong_arguments_are_named(name, argument):
    call = FUNCTIONS[name][0]
    outcomes = {label: outcome(call, **{argument: value}) for label, value in VALUES.items()}
    assert not {label: text for label, text in outcomes.items() if text}


@pytest.mark.parametrize("argument", ["name", "dtype", "revision", "trust_remote_code", "progress", "safetensors_only"])
def test_wrong_arguments_of_load_model_are_named(argument, tmp_path, monkeypatch):
    monkeypatch.setattr("attributor._models.load._hub_reachable", lambda: False)
    (tmp_path / "config.json").write_text("{}")
    arguments = {"name": tmp_path}
    call = functools.partial(attributor.load_model)
    outcomes = {label: outcome(call, **arguments | {argument: value}) for label, value in VALUES.items()}
    assert not {label: text for label, text in outcomes.items() if text}


@pytest.mark.parametrize(
    ("name", "argument", "value", "message"),
    [
        ("flow", "normalize", 1, "normalize must be True or False, got 1"),
        ("flow", "progress", 3, "progress must be a function, or None, got 3"),
        ("flow", "impl", ["cpu"], r"impl must be the name of an implementation, or None, got \['cpu'\]"),
        (
            "flow",
            "documents",
            torch.zeros(3),
            r"document 1 must be \(start, stop\) characters of the prompt, a text, .*, got Tensor \(\)",
        ),
        ("flow", "ids", VALUES["meta"], "ids must be integers in plain memory, got torch.int64 on meta"),
        ("flow", "keep", np.zeros(3), r"keep must be one of .*, got ndarray \(3,\)"),
        ("record", "progress", "bar", "progress must be a function, or None, got 'bar'"),
        ("Recording.flow", "normalize", "no", "normalize must be True or False, got 'no'"),
        ("calibrate", "tokenizer", None, "tokenizer must be the model's tokenizer, got None"),
        ("calibrate", "seed", "x", "seed must be a whole number, got 'x'"),
        ("Weights", "heads", VALUES["sparse"], "got a tensor of torch.float32, torch.sparse_coo"),
        ("Weights", "power", NESTED, "power must be a finite number > 0, got list"),
        ("Weights", "meta", 3, "meta must be a dict of strings, got 3"),
        ("Weights.of_heads", "shape", 3, "shape must be a pair of whole numbers, got 3"),
        ("Weights.of_heads", "heads", {1: 1}, "a head must be a pair of whole numbers, got 1"),
        ("Flow", "text", 3, "text must be a str, got 3"),
        ("Flow", "documents", 3, "documents must be a list, got 3"),
        ("Flow", "scores", VALUES["sparse"], "must be a 2-dimensional tensor of floats, got .* sparse_coo on cpu"),
        ("Flow.with_text", "tokenizer", 3, "tokenizer must be the model's tokenizer, got int"),
        ("flow_step", "impl", 3, "impl must be one of .*, got 3"),
        ("flow_step", "rows", torch.zeros(1, 5).to_sparse(), "rows must be a dense tensor, got the layout"),
    ],
)
def test_messages_name_the_value_and_what_would_work(name, argument, value, message):
    with pytest.raises(AttributorError, match=message):
        FUNCTIONS[name][0](**{argument: value})


def test_a_value_is_shown_on_one_short_line():
    class Silent:
        def __repr__(self):
            raise RuntimeError

    assert shorten_value(NESTED) == "list"
    assert shorten_value(Silent()) == "Silent"
    assert shorten_value(torch.zeros(2, 3)) == "Tensor (2, 3)"
    assert shorten_value("x" * 100, 10) == "'xxxxxxxx…"

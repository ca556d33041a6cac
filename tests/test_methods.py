"""Attribution methods against what they are defined to be, on tiny models; the registry; what a score is made of."""

import copy
import subprocess
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from families import RECORDED, VOCABULARY, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from attributor import FileFormatError, InputError, NumericsError, RecordingError, Weights, flow
from attributor._materialised import eager_attentions
from attributor._prompt import Prompt
from attributor._segments import Segment
from attributor.methods import (
    Flow,
    GradientXInput,
    LastAttention,
    Length,
    MaxAttention,
    MeanAttention,
    Position,
    Random,
    Reading,
    SharpenedAttention,
    Similarity,
    Straight,
    ValueNormAttention,
    describe,
    parse,
    score,
    union,
)
from attributor.methods._registry import REGISTRY
from attributor.methods._score import AGGREGATIONS, aggregate

K, A = 41, 6
HEADS = torch.zeros(4, 4)
HEADS[1, 2], HEADS[3, 0], HEADS[3, 3] = 0.5, 1.5, 0.25
FAMILIES = ["llama", "mistral", "gemma2", "gpt2"]  # grouped heads; a window; both and capped logits; neither


def prompt_of(seed=1, k=K):
    """Token i is the four characters "tii "; four tokens a segment from the third on, two documents."""
    ids = torch.randint(3, VOCABULARY, (k,), generator=torch.Generator().manual_seed(seed))
    text = "".join(f"t{i:02d} " for i in range(k))
    offsets = torch.tensor([(4 * i, 4 * i + 4) for i in range(k)])
    documents = (Segment(8, 72, text[8:72], "x", 0), Segment(76, 140, text[76:140], "y", 1))
    return Prompt(text, ids, offsets, documents)


def segments_of(prompt):
    starts = [*range(12, 60, 16), *range(80, 128, 16)]
    return [Segment(a, a + 15, prompt.text[a : a + 15]) for a in starts]


def read(model, methods, **more):
    prompt = prompt_of()
    answer = torch.randint(3, VOCABULARY, (A,), generator=torch.Generator().manual_seed(2))
    return Reading.read(model, None, prompt, answer, segments_of(prompt), union(methods, model), **more)


def rows_of_attention(model, reading):
    """(L, H, a, k) float64 from eager attention matrices."""
    return eager_attentions(model, reading.ids[:-1]).double()[:, :, K - 1 :, :K]


def value_norms(model, ids):
    """(L, H, k) float64, ||W_O^h v_j|| from the values that the projections really gave."""
    found = []
    projections = [layer.self_attn.v_proj for layer in model.model.layers]
    hooks = [module.register_forward_hook(lambda m, i, out: found.append(out[0])) for module in projections]
    with torch.no_grad():
        model(ids[None])
    for hook in hooks:
        hook.remove()
    norms = []
    for layer, value in zip(model.model.layers, found, strict=True):
        value = value.double().view(len(ids), 2, 16).repeat_interleave(2, 1)
        weight = layer.self_attn.o_proj.weight.double()
        norms.append(torch.stack([(value[:, h] @ weight[:, 16 * h : 16 * h + 16].T).norm(dim=-1) for h in range(4)]))
    return torch.stack(norms).detach()[:, :, :K]


def without_first(p):
    p = p.clone()
    p[..., 0] = 0
    return p


# method -> what it is, on the attention P (L, H, a, k)
DEFINITIONS = {
    "mean": (MeanAttention(), lambda p: p.mean((0, 1)).sum(0)),
    "max": (MaxAttention(), lambda p: p.amax((0, 1)).sum(0)),
    "last": (LastAttention(), lambda p: p[-1].mean(0).sum(0)),
    "sharpened": (SharpenedAttention(), lambda p: (without_first(p) ** 4).sum((0, 1, 2))),
    "straight": (Straight(HEADS), lambda p: (HEADS[..., None, None] * p).sum((0, 1, 2))),
    "straight, squared, no sink": (
        Straight(Weights(HEADS, power=2, sink="drop")),
        lambda p: (HEADS[..., None, None] * without_first(p) ** 2).sum((0, 1, 2)),
    ),
}


def close(got, expected, budget=2e-6):
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=budget * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("family", FAMILIES)
def test_straight_attention_is_what_eager_attention_says(family):
    model = tiny(family)
    reading = read(model, [method for method, _ in DEFINITIONS.values()])
    attention = rows_of_attention(model, reading)
    for what, (method, define) in DEFINITIONS.items():
        expected = define(attention)
        assert expected.max() > 1.3 * expected.mean(), what  # the attention is not flat
        close(method(reading), expected)


def test_value_norm_attention_is_attention_times_the_norm_of_what_it_moves():
    model = tiny("llama")
    method = ValueNormAttention()
    reading = read(model, [method])
    norms = value_norms(model, reading.ids[:-1])
    close(method(reading), (rows_of_attention(model, reading) * norms[:, :, None]).sum((0, 1, 2)))


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("weights", ["mean", "output_norm", HEADS, Weights(HEADS, power=2)], ids=str)
def test_flow_is_attributors_flow(family, weights):
    model = tiny(family)
    method = Flow(weights)
    reading = read(model, [method, MeanAttention()])
    expected = flow(model, reading.ids, prompt_length=K, weights=weights).scores.double().sum(0)
    close(method(reading), expected)


def test_only_the_heads_that_a_method_needs_are_recorded():
    model = tiny("llama")
    wanted = union([Straight(HEADS), GradientXInput()], model)
    assert torch.equal(wanted.heads, (HEADS > 0).float())
    assert not wanted.value_norms
    both = union([Straight(HEADS), LastAttention(), Flow(Weights(HEADS, value_norms=True))], model)
    assert both.heads.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
    assert both.value_norms
    assert union([GradientXInput(), Length()], model) is None
    reading = read(model, [Straight(HEADS)])
    Straight(HEADS)(reading)
    with pytest.raises(RecordingError, match="layer 0"):
        MeanAttention()(reading)
    with pytest.raises(RecordingError, match="without recording"):
        MeanAttention()(read(model, [Length()]))


def test_needs_do_not_change_the_union_of_others():
    model = tiny("llama")
    first = union([LastAttention(), MeanAttention()], model).heads
    assert bool((first == 1).all())
    assert union([LastAttention()], model).heads.sum() == 4


def test_weights_are_resolved_once_for_a_model(monkeypatch):
    from attributor.methods import _weighted

    asked, real = [], _weighted.resolve
    monkeypatch.setattr(_weighted, "resolve", lambda weights, model: asked.append(weights) or real(weights, model))
    model, method = tiny("llama"), Flow("output_norm")
    reading = read(model, [method])
    for _ in range(3):
        method(reading)
    assert asked == ["output_norm"]


@pytest.mark.parametrize("family", RECORDED)
@pytest.mark.parametrize("weights", [None, "mean"], ids=["unrecorded", "recorded"])
def test_a_reading_knows_what_the_model_thinks_of_the_answer(family, weights):
    model = tiny(family)
    prompt, answer = prompt_of(), torch.tensor([5, 9, 9, 60])
    reading = Reading.read(model, None, prompt, answer, [], weights)
    with torch.no_grad():
        logits = model(torch.cat([prompt.ids, answer])[None]).logits[0, K - 1 : -1].double()
    expected = logits.log_softmax(-1).gather(1, answer[:, None])[:, 0]
    torch.testing.assert_close(reading.log_probs, expected, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="no tokens"):
        Reading.read(model, None, prompt, answer[:0], [], weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_x_input_is_the_gradient_of_the_whole_model(family):
    model = tiny(family, dtype=torch.float64)
    reading = read(model, [])
    embedding = model.get_input_embeddings()(reading.ids[None, :-1]).detach()
    scale = model.model.embed_tokens.embed_scale if family.startswith("gemma3") else 1
    inputs = (embedding / scale).requires_grad_(True)
    total = model(inputs_embeds=inputs).logits[0, K - 1 :].log_softmax(-1).gather(1, reading.answer[:, None]).sum()
    total.backward()
    product = (inputs.grad * inputs)[0, :K].detach()
    for reduction, expected in {
        "norm": product.norm(dim=-1),
        "signed": product.sum(-1),
        "absolute": product.sum(-1).abs(),
    }.items():
        close(GradientXInput(reduction)(reading), expected)


def test_the_signed_gradient_is_the_slope_of_the_answers_log_probability():
    """By differences: every coordinate of one token's embedding grows by a share h of itself."""
    model = tiny("gpt2", dtype=torch.float64)  # float64 throughout; others take their norms in float32
    reading = read(model, [])
    got = GradientXInput("signed")(reading)
    embedding, h = model.get_input_embeddings()(reading.ids[None, :-1]).detach(), 1e-6
    for j in (0, 7, K - 1):
        values = []
        for sign in (1, -1):
            moved = embedding.clone()
            moved[0, j] *= 1 + sign * h
            with torch.no_grad():
                logits = model(inputs_embeds=moved).logits[0, K - 1 :].log_softmax(-1)
            values.append(logits.gather(1, reading.answer[:, None]).sum())
        slope = (values[0] - values[1]) / (2 * h)
        torch.testing.assert_close(got[j].double(), slope, rtol=1e-5, atol=1e-6)


def fail(*_):
    raise RuntimeError("half way")


def test_a_model_comes_back_as_it_was():
    model = tiny("llama")
    model.train()
    model.model.layers[1].eval()
    model.model.layers[2].self_attn.q_proj.weight.requires_grad_(False)
    flags = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    before = copy.deepcopy(model.state_dict())
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    implementation = model.config._attn_implementation
    methods = parse("flow,max-attention,gradient-x-input")
    reading = read(model, methods)
    for method in methods:
        method(reading)
    broken = model.model.layers[3].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="half way"):
        GradientXInput()(reading)
    broken.remove()
    with torch.inference_mode():
        GradientXInput()(reading)
    assert [module.training for module in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()] == hooks
    assert model.config._attn_implementation == implementation
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_length_position_and_random():
    model = tiny("llama")
    reading = read(model, [])
    assert Length()(reading).tolist() == [4.0] * 6
    positions = Position()(reading)
    assert bool((positions.diff() > 0).all())
    assert 0 < positions[0] < positions[-1] < 1
    drawn = Random()(reading)
    assert torch.equal(Random()(read(model, [])), drawn), "the same prompt, the same numbers"
    assert not torch.equal(Random(1)(reading), drawn)
    other = Reading.read(model, None, prompt_of(seed=5), reading.answer, reading.segments, None)
    assert not torch.equal(Random()(other), drawn)
    assert len(set(drawn.tolist())) == 6


class FakeSentences:
    """Embeds a text by how often the letters a, b and c occur in it."""

    made: ClassVar[list[str]] = []

    def __init__(self, name):
        if name == "missing":
            raise OSError("not on the hub")
        self.made.append(name)

    def encode(self, texts, **options):
        assert options == {"convert_to_numpy": True, "show_progress_bar": False}
        return np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32)


@pytest.fixture
def sentence_transformers(monkeypatch):
    from attributor.methods import similarity

    similarity._encoder.cache_clear()
    FakeSentences.made.clear()
    fake = SimpleNamespace(SentenceTransformer=FakeSentences)
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    yield fake
    similarity._encoder.cache_clear()


def reading_of_texts(*texts, question="aab?", answer_text="b"):
    segments = [Segment(0, len(text), text) for text in texts]
    return SimpleNamespace(segments=tuple(segments), question=question, answer_text=answer_text)


def test_similarity_is_the_cosine_to_question_and_answer(sentence_transformers):
    method = Similarity("some/model")
    got = method(reading_of_texts("ab", "a", "c", "aabb aabb", "none: x"))
    torch.testing.assert_close(got, torch.tensor([1.0, 0.5**0.5, 0, 1, 0], dtype=torch.float64), rtol=0, atol=1e-7)
    assert method(reading_of_texts()).tolist() == []
    method.needs(None)
    assert FakeSentences.made == ["some/model"], "loaded once"
    with pytest.raises(InputError, match="question or answer_text"):
        method(reading_of_texts("a", question="", answer_text=""))
    with pytest.raises(OSError, match="'missing': not on the hub"):
        Similarity("missing").needs(None)
    with pytest.raises(InputError, match="a hub id or a folder, got ''"):
        Similarity("")


def test_similarity_takes_a_model_from_a_folder(sentence_transformers, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    (method,) = parse("similarity:~/model")
    method(reading_of_texts("a"))
    assert FakeSentences.made == [str(tmp_path / "model")]
    assert method.name == "similarity:~/model"
    with pytest.raises(OSError, match=r"not on the hub \(similarity:FOLDER takes one from this machine\)$"):
        Similarity("missing").needs(None)


def test_similarity_says_which_extra_it_needs(monkeypatch):
    from attributor.methods import similarity

    similarity._encoder.cache_clear()
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"pip install 'attributor\[similarity\]'"):
        Similarity().needs(None)


# scores


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.floats(-5, 5)), max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_aggregations_are_what_they_are_called(tokens):
    owner = np.array([o for o, _ in tokens], dtype=np.int64)
    values = np.array([v for _, v in tokens], dtype=np.float64)
    got = aggregate(values, owner, 4)
    assert tuple(got) == AGGREGATIONS
    for o in range(4):
        own = sorted((v for p, v in tokens if p == o), reverse=True)
        expected = (sum(own), sum(own) / len(own), sum(own[:5]), own[0]) if own else (0, 0, 0, 0)
        assert [float(got[name][o]) for name in AGGREGATIONS] == pytest.approx(expected, abs=1e-12)


def test_a_score_by_tokens_has_four_aggregations_of_segments_and_documents():
    model, method = tiny("llama"), MeanAttention()
    reading = read(model, [method])
    tokens = method(reading)
    got = score(method, reading)
    assert (got.name, got.reads, got.passes) == ("mean-attention", True, 0)
    assert got.seconds > 0
    segment = tokens[7:11]  # the second segment: characters 28 to 43
    expected = {"sum": segment.sum(), "mean": segment.mean(), "top5": segment.sum(), "max": segment.max()}
    for name, value in expected.items():
        assert got.segments[name].dtype == torch.float64
        assert float(got.segments[name][1]) == pytest.approx(float(value))
    document = tokens[19:35]  # the second document, its title too: characters 76 to 140
    assert float(got.documents["sum"][1]) == pytest.approx(float(document.sum()))
    assert float(got.documents["top5"][1]) == pytest.approx(float(document.topk(5).values.sum()))
    assert {len(values) for values in got.segments.values()} == {6}


def test_a_score_by_segments_has_one_and_documents_sum_it():
    got = score(Length(), read(tiny("llama"), []))
    assert {name: values.tolist() for name, values in got.segments.items()} == {"segment": [4.0] * 6}
    assert {name: values.tolist() for name, values in got.documents.items()} == {"segment": [12.0, 12.0]}
    assert not got.reads


def test_a_gradient_counts_its_pass():
    got = score(GradientXInput(), read(tiny("llama"), []))
    assert (got.passes, got.reads) == (1, False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(bad):
    reading = read(tiny("llama"), [])
    method = SimpleNamespace(name="mine", by="segment", reads=False)
    call = type("Mine", (), {"__call__": lambda self, r: torch.tensor([1.0, bad, 0, 0, 0, 0])})()
    call.name, call.by, call.reads = method.name, method.by, method.reads
    with pytest.raises(NumericsError, match="'mine': 1 of 6 scores"):
        score(call, reading)
    call.by = "token"
    with pytest.raises(InputError, match=r"\(41,\) scores by token"):
        score(call, reading)


# the registry


def test_methods_are_named_as_they_are_asked_for(tmp_path):
    path = tmp_path / "mine.safetensors"
    Weights(HEADS).save(path)
    asked = f"flow, flow:retrieval,flow:{path},straight:retrieval,contextcite:16,gradient-x-input:signed,random:3"
    methods = parse(asked)
    assert [method.name for method in methods] == [name.strip() for name in asked.split(",")]
    assert methods[0].weights == "mean"
    assert methods[4].masks == 16
    assert methods[6].seed == 3
    assert [m.name for m in parse(["flow:mean", "contextcite"])] == ["flow:mean", "contextcite"]
    reading = read(tiny("llama"), [Straight(HEADS)])
    assert torch.equal(parse([f"straight:{path}"])[0](reading), Straight(HEADS)(reading))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("attention", r"unknown method 'attention'; did you mean .*last-attention.* there are: flow, straight"),
        ("max_attention", "did you mean max-attention"),
        ("xyz", "unknown method 'xyz'; there are: flow"),
        ("", "empty"),
        ("flow,,random", "empty"),
        ([], "no method"),
        ("flow:nothing", "unknown weights 'nothing'"),
        ("flow:", "ends in a colon"),
        ("length:3", "length takes nothing after a colon"),
        ("contextcite:many", "masks must be a whole number, got 'many'"),
        ("contextcite:1", "masks >= 2, got 1"),
        ("gradient-x-input:best", "takes norm, signed, absolute, got 'best'"),
        ("flow,flow:mean", r"'flow:mean' is asked for twice \(as 'flow'\)"),
        ("random,random", "'random' is asked for twice"),
        ("contextcite,contextcite:32", "twice"),
    ],
)
def test_names_that_cannot_be_used(asked, message):
    with pytest.raises(InputError, match=message):
        parse(asked)


def test_a_file_that_holds_no_weights_is_told_at_once(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no weights")
    with pytest.raises(FileFormatError, match="weights file"):
        parse(f"flow:{path}")


def test_the_registry_and_the_classes_agree():
    described = describe()
    assert [name for name, _, _ in described] == list(REGISTRY)
    for name, line, source in described:
        (method,) = parse(name)
        assert method.name == name
        assert method.source == source
        assert source == "" or source.startswith("https://")
        assert method.by in ("token", "segment")
        assert isinstance(method.reads, bool)
        assert len(line) < 110
        assert "\n" not in line
        assert type(method).__doc__
        assert type(method)() == method, "its defaults are those of the plain name"


def test_every_method_has_its_line_in_the_documentation():
    from pathlib import Path

    page = (Path(__file__).parents[1] / "docs" / "methods.md").read_text("utf-8")
    for name, _, source in describe():
        line = next((line for line in page.splitlines() if line.startswith(f"| `{name}")), "")
        assert line, name
        assert source in line


def test_public_names_are_there_and_naming_the_methods_imports_nothing_heavy():
    import attributor.methods as package

    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
    assert set(dir(package)) == set(package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'flows'"):
        package.flows  # noqa: B018
    code = (
        "import sys; from attributor.methods import describe; describe();"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

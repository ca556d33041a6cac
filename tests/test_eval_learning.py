"""Weights learned by gradient through the flow: the gradient is right, learning finds what was planted, the command."""

import json

import pytest
import torch
from eval_rows import row, write_rows
from families import VOCABULARY, tiny
from tiny_chat import model as tiny_model
from tiny_chat import tokenizer as tiny_tokenizer
from typer.testing import CliRunner

from attributor import FileFormatError, InputError, Weights, flow, record
from attributor._cli.eval_commands import app
from attributor._materialised import eager_attentions
from attributor._sweep import received
from attributor.eval import runner
from attributor.eval.config import Config
from attributor.eval.learning import rows as learning_rows
from attributor.eval.learning.fit import Row, fit, split
from attributor.eval.learning.targets import Ablations, Gold
from attributor.eval.learning.trace import Trace, _kept

N, A, S = 61, 3, 7
K = N + 1 - A


def silent(*_):
    pass


def traced(family, seed=1):
    """A trace of random ids, and the model's own attention matrices of them, (L, H, N, N) float64."""
    model = tiny(family)
    ids = torch.randint(3, VOCABULARY, (N,), generator=torch.Generator().manual_seed(seed))
    with record(model, weights=torch.ones(4, 4)) as recording, torch.no_grad():
        model(ids[None], use_cache=False)
    answer, question = torch.zeros(N), torch.zeros(N)
    answer[K - 1 :] = 1
    question[40:48] = A / 8
    segment_of = (torch.arange(K) // 5) % (S + 1) - 1  # some tokens belong to none
    layers = [_kept(recording.layer(index)) for index in range(4)]
    return Trace(layers, answer, question, segment_of, S), eager_attentions(model, ids).double()


def dense(trace, attentions, weights, share):
    """The same scores from whole matrices, which autograd can follow."""
    rows = (1 - share) * trace.answer.double() + share * trace.question.double()
    for layer in reversed(range(4)):
        rows = rows + rows @ (weights[layer, :, None, None] * attentions[layer]).sum(0)
    found = trace.segment_of >= 0
    return torch.zeros(S, dtype=torch.float64).index_add(0, trace.segment_of[found], rows[:K][found])


# windows, capped logits, sinks, chunks: what a layer may be
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss", "llama4_text"])
def test_scores_and_gradients_are_those_of_whole_matrices(family):
    trace, attentions = traced(family)
    g = torch.Generator().manual_seed(2)
    weights = torch.rand(4, 4, generator=g, dtype=torch.float64).requires_grad_()
    share = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    asked = torch.randn(S, generator=g, dtype=torch.float64)  # gradients of both signs
    got = trace.scores(weights, share)
    found = torch.autograd.grad(got @ asked, (weights, share))
    true = dense(trace, attentions, weights, share)
    expected = torch.autograd.grad(true @ asked, (weights, share))
    torch.testing.assert_close(got, true, rtol=2e-5, atol=0)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-5 * float(theirs.abs().max()))


def test_heads_of_weight_zero_are_left_out():
    trace, attentions = traced("llama")
    weights = torch.zeros(4, 4, dtype=torch.float64)
    weights[3, 1], weights[0, 2] = 0.5, 0.25
    share = torch.tensor(0.5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            trace.scores(weights, share), dense(trace, attentions, weights, share), rtol=2e-5, atol=0
        )


def test_received_is_what_attention_times_values_gives():
    trace, attentions = traced("gemma2")
    values = torch.randn(N, generator=torch.Generator().manual_seed(3))
    for layer, matrices in zip(trace.layers, attentions, strict=True):
        torch.testing.assert_close(received(layer, values).double(), matrices @ values.double(), rtol=0, atol=2e-5)


def test_what_evidence_asks_for():
    target = Gold.of({"segments": [0] * 4, "gold": [1, 3]})
    scores = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    expected = -(torch.tensor(0.4 / 0.7).log() + torch.tensor(0.3 / 0.6).log()) / 2
    assert float(target.loss(scores)) == pytest.approx(float(expected))
    assert float(target.loss(9 * scores)) == pytest.approx(float(expected))
    assert target.metric(scores) == 1
    assert target.metric(-scores) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert Gold.of({"segments": [0], "gold": [0]}) is None
    assert Gold.of({"segments": [0, 1], "gold": []}) is None


def test_what_ablations_ask_for():
    g = torch.Generator().manual_seed(4)
    kept = torch.rand(16, 5, generator=g) < 0.5
    worth = torch.tensor([2.0, 0.0, 1.0, 0.5, 0.0], dtype=torch.float64)
    log_probs = torch.nn.functional.logsigmoid(kept.double() @ worth - 3)  # logits that are sums
    record = {
        "id": "a",
        "faithfulness": {
            "effects": {
                "kept": ["".join("01"[int(mark)] for mark in row) for row in kept],
                "log_probs": log_probs.tolist(),
            }
        },
    }
    target = Ablations.of(record)
    assert float(target.loss(worth)) == pytest.approx(0, abs=1e-9)
    assert float(target.loss(7 * worth)) == pytest.approx(0, abs=1e-9)
    assert target.metric(worth) == pytest.approx(1)
    assert float(target.loss(-worth)) == pytest.approx(2)
    with pytest.raises(InputError, match="row a holds no effects of ablations"):
        Ablations.of({"id": "a", "faithfulness": None})
    record["faithfulness"]["effects"]["log_probs"] = [-1.0] * 16
    assert Ablations.of(record) is None


def test_learning_finds_the_head_that_was_planted():
    planted = torch.zeros(4, 4, dtype=torch.float64)
    planted[2, 1] = 0.7
    g = torch.Generator().manual_seed(5)
    rows = []
    for seed in range(9):
        trace, attentions = traced("llama", seed)
        true = dense(trace, attentions, planted, torch.tensor(0.0, dtype=torch.float64))
        kept = torch.rand(24, S, generator=g) < 0.5
        logits = kept.double() @ true
        rows.append(Row(trace, Ablations(kept, torch.nn.functional.logsigmoid(logits / logits.std() - 2))))
    start = Weights(torch.full((4, 4), 0.05), question=0.5)
    epochs = list(fit(rows[:6], rows[6:], start, (4, 4), epochs=15, rate=0.3, batch=2, progress=silent))
    assert [epoch.number for epoch in epochs] == list(range(16))
    heads = epochs[-1].weights.heads
    assert heads.argmax() == 2 * 4 + 1
    assert epochs[-1].weights.question < 0.2
    assert epochs[-1].loss < 0.3 * epochs[1].loss
    assert epochs[-1].held_out > max(0.97, epochs[0].held_out)
    assert int((heads > 0).sum()) < 16  # small ones are dropped


def test_starts_that_cannot_be_learned_from():
    for given in ({"power": 2.0}, {"value_norms": True}, {"sink": "drop"}):
        with pytest.raises(InputError, match="learning starts from plain weights"):
            next(fit([], [], Weights(torch.ones(4, 4), **given), (4, 4), epochs=1, progress=silent))


def test_splits_that_leave_nothing():
    rows = list(range(5))
    learned, held_out = split(rows, 0.4, 0)
    assert sorted(learned + held_out) == rows
    assert len(held_out) == 2
    for share in (0, 0.01, 1):
        with pytest.raises(InputError, match="leaves nothing on one side"):
            split(rows, share, 0)


# From a run


@pytest.fixture(scope="module")
def chat():
    tokenizer = tiny_tokenizer()
    return tiny_model(len(tokenizer)), tokenizer


@pytest.fixture(scope="module")
def run(chat, tmp_path_factory):
    """A finished run of 8 rows with the effects of 8 ablations each."""
    folder = tmp_path_factory.mktemp("learning")
    source = write_rows(folder / "rows.jsonl", [row(i) for i in range(8)])
    config = Config(
        source=str(source), methods=("random",), check_answer=False, cost_rows=0, faithfulness=True, masks=8
    )
    model, tokenizer = chat
    return runner.run(config, folder / "run", model=model, tokenizer=tokenizer).folder


@pytest.fixture
def command(chat, run, tmp_path, monkeypatch):
    """`attributor eval learn` with the tiny model: (result, file)."""
    model, tokenizer = chat
    load = learning_rows.load_rows
    monkeypatch.setattr(
        learning_rows, "load_rows", lambda source, told: load(source, told, model=model, tokenizer=tokenizer)
    )
    out = tmp_path / "learned.safetensors"

    def go(*arguments, folder=run):
        given = ["learn", str(folder), "--out", str(out), "--start", "mean", *map(str, arguments)]
        return CliRunner().invoke(app, given), out

    return go


def test_rows_of_a_run_are_read_again(run, chat):
    model, tokenizer = chat
    source = learning_rows.open_source(run, "gold")
    rows, shape, _ = learning_rows.load_rows(source, silent, model=model, tokenizer=tokenizer)
    assert shape == (2, 4)
    assert len(rows) == 8
    # the same scores as the public call gives, per sentence, summed over the answer
    weights = Weights(torch.rand(2, 4, generator=torch.Generator().manual_seed(6)) / 4, question=0.5)
    records = [json.loads(line) for line in (run / "cases.jsonl").read_text("ascii").splitlines()]
    trace, text = rows[0].trace, records[0]["text"]
    prompt = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    answer = tokenizer(records[0]["answer"] + tokenizer.eos_token, add_special_tokens=False, return_tensors="pt")
    found = flow(
        model,
        torch.cat([prompt, answer["input_ids"][0]]),
        prompt_length=len(prompt),
        weights=weights,
        tokenizer=tokenizer,
        question=records[0]["question"],
        normalize=False,
    ).scores.sum(0)
    expected = torch.zeros(trace.segments, dtype=torch.float64)
    inside = trace.segment_of >= 0
    expected.index_add_(0, trace.segment_of[inside], found.double()[inside])
    got = trace.scores(weights.heads.double(), torch.tensor(0.5, dtype=torch.float64))
    torch.testing.assert_close(got, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("against", ["gold", "ablations"])
def test_the_command_writes_weights_that_are_better_on_rows_held_out(command, against):
    result, out = command("--against", against, "--epochs", 4, "--rate", 0.5, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["best"] else 1), result.output
    assert bool(found["file"]) == out.exists() == bool(found["best"])
    assert found["rows"] == 8
    assert found["metric"] == {"gold": "AP", "ablations": "LDS"}[against]
    assert len(found["epochs"]) == 5
    best = found["epochs"][found["best"]]
    assert best["held_out"] == max(epoch["held_out"] for epoch in found["epochs"])
    if found["best"]:
        weights = Weights.load(out)
        assert weights.name == f"learned-{against}"
        assert int((weights.heads > 0).sum()) == best["heads"]
        assert f"against {against} on 6 rows" in weights.note


def test_the_command_shows_every_epoch(command):
    result, _ = command("--against", "gold", "--epochs", 2, "--rate", 0.5)
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["Epoch", "Loss", "AP", "Held", "out", "Heads", "Question"]
    assert [line[0] for line in lines[1:4]] == ["0", "1", "2"]


def test_what_cannot_be_learned_from(command, run, tmp_path):
    result, out = command("--against", "sums")
    assert result.exit_code == 1
    assert "against gold or ablations, got 'sums'" in " ".join(result.output.split())
    result, _ = command(folder=tmp_path)
    assert "is no run of attributor eval" in " ".join(result.output.split())
    result, _ = command("--start", "nowhere.safetensors")
    assert "unknown weights 'nowhere.safetensors'" in " ".join(result.output.split())
    result, _ = command("--held-out", 1)
    assert "leaves nothing on one side" in " ".join(result.output.split())
    out.write_bytes(b"kept")
    result, _ = command()
    assert "is there already" in " ".join(result.output.split())
    assert out.read_bytes() == b"kept"


def test_runs_that_cannot_be_learned_from(run, tmp_path):
    found = json.loads((run / "run.json").read_text("utf-8"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "cases.jsonl").write_bytes((run / "cases.jsonl").read_bytes())
    found["config"]["answer"] = "generated"
    (other / "run.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="attributed generated answers"):
        learning_rows.open_source(other, "gold")
    found["config"]["answer"] = "expected"
    (other / "run.json").write_text(json.dumps(found))
    (other / "cases.jsonl").write_bytes(b"".join((run / "cases.jsonl").read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(InputError, match="has 3 rows to learn gold from"):
        learning_rows.open_source(other, "gold")
    (other / "run.json").write_text("{")
    with pytest.raises(FileFormatError):
        learning_rows.open_source(other, "gold")

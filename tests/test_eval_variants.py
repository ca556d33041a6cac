"""The sweep's weights files: each differs from the standard in what its name says, and all can be run."""

from pathlib import Path

import pytest
import torch

from attributor import Weights
from attributor._calibration.scores import HeadScores
from attributor.eval.variants import combined, methods, variants
from attributor.methods import parse

L, H, C = 6, 8, 12


@pytest.fixture(scope="module")
def scores():
    g = torch.Generator().manual_seed(0)
    kinds = ("fact", "two_hop", "copy") * (C // 3)
    per_case = {name: torch.rand(C, L, H, generator=g) for name in ("ap", "mass", "answer_ap", "answer_mass")}
    per_case |= {name: torch.rand(C, L, H, generator=g) for name in ("question_ap", "question_mass")}
    hops = {name: torch.rand(C, 2, L, H, generator=g) for name in ("hop_ap", "hop_mass")}
    links = {name: torch.rand(C, L, H, generator=g) for name in ("link_ap", "link_mass")}
    more = {"link_from": torch.zeros(C, dtype=torch.int64), "chance": torch.full((C,), 0.1)}
    meta = {"model": "m", "prompts": str(C)}
    return HeadScores(kinds, **per_case, **hops, **links, **more, meta=meta)


def test_each_differs_in_one_thing(scores):
    found = variants(scores)
    standard = found["standard"]
    assert int((standard.heads > 0).sum()) == 4
    for heads in (3, 6, 8, 12, 20):
        assert int((found[f"heads-{heads}"].heads > 0).sum()) == heads
        assert found[f"heads-{heads}"].heads.max() == 1 / 16
    for name, field in (("power-2", "power"), ("sink-drop", "sink"), ("question-0.8", "question")):
        assert getattr(found[name], field) != getattr(standard, field)
        assert torch.equal(found[name].heads, standard.heads)
    assert torch.equal(found["weight-0.375"].heads, 6 * standard.heads)
    assert found["value-norms"].value_norms
    best = scores.mean("ap", ["copy"]).flatten().topk(4).indices
    assert set(found["only-copy"].heads.flatten().nonzero()[:, 0].tolist()) == set(best.tolist())
    layers = standard.heads.nonzero()[:, 0]
    assert torch.allclose(found["late-layers"].heads.sum(1)[layers], standard.heads.sum(1)[layers] * 2 * layers / L)
    assert torch.allclose(found["late-layers"].heads + found["early-layers"].heads, 2 * standard.heads)
    graded = found["all-heads"].heads
    assert graded.sum().item() == pytest.approx(standard.heads.sum().item())
    assert graded.flatten().argmax() == scores.mean("ap").flatten().argmax()
    assert int((graded > 0).sum()) < L * H


def test_another_number_of_heads(scores):
    found = variants(scores, 6)
    assert int((found["standard"].heads > 0).sum()) == int((found["only-copy"].heads > 0).sum()) == 6
    assert torch.equal(found["heads-4"].heads, variants(scores)["standard"].heads)
    assert torch.equal(found["weight-0.125"].heads, 2 * found["standard"].heads)


def test_together(scores):
    found = combined(scores)
    assert torch.equal(found["all-4"].heads, variants(scores)["standard"].heads)
    best = scores.mean("ap", ["two_hop"]).flatten().topk(5).indices
    assert set(found["two_hop-5"].heads.flatten().nonzero()[:, 0].tolist()) == set(best.tolist())
    assert (found["all-3-power-2"].power, found["all-3"].power) == (2, 1)
    both = found["two_hop-4-power-2-value-norms"]
    assert both.value_norms
    assert both.power == 2
    assert "straight:f/all-4.safetensors" in methods(Path("f"), found)


def test_the_names_are_methods(scores, tmp_path):
    found = variants(scores)
    for name, weights in found.items():
        weights.save(tmp_path / f"{name}.safetensors")
        assert torch.equal(Weights.load(tmp_path / f"{name}.safetensors").heads, weights.heads)
    parsed = parse(methods(tmp_path, found))
    assert len(parsed) == len(found) + 3
    assert parsed[-1].name == "max-attention"


def test_the_script_finds_the_heads_of_a_model(tmp_path, monkeypatch, capsys):
    from tiny_chat import model as tiny_model
    from tiny_chat import tokenizer as tiny_tokenizer

    from attributor.eval import variants as script

    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(script, "load_model", lambda *_, **__: (tiny_model(len(tokenizer), 8192), tokenizer))
    script._write(tmp_path / "deep" / "folder", count=4)
    written = sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir())
    assert "methods.txt" in written
    assert "only-paraphrase.safetensors" in written
    assert f"Wrote {len(written) - 1} weights files" in capsys.readouterr().out

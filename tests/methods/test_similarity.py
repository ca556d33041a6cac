"""The method that compares sentences, with a stand-in encoder instead of a model."""

import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from attributor import InputError
from attributor._text.segments import Segment
from attributor.methods import Similarity, parse


class FakeSentences:
    """Embed a text by the number of letters a, b and c in it."""

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


def test_similarity_loads_a_model_from_a_folder(sentence_transformers, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    (method,) = parse("similarity:~/model")
    method(reading_of_texts("a"))
    assert FakeSentences.made == [str(tmp_path / "model")]
    assert method.name == "similarity:~/model"
    with pytest.raises(OSError, match=r"not on the hub \(similarity:FOLDER takes one from this machine\)$"):
        Similarity("missing").needs(None)


def test_similarity_names_the_required_extra(monkeypatch):
    from attributor.methods import similarity

    similarity._encoder.cache_clear()
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"pip install 'attributor\[similarity\]'"):
        Similarity().needs(None)

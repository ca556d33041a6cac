"""The public functions refuse unusable models and arguments with a clear message."""

import unicodedata

import pytest
import tiny_chat
import torch
from families import VOCABULARY, tiny
from tokenizers import normalizers
from transformers import LlamaConfig, LlamaForCausalLM

import attributor
from attributor._heads import measure_heads, resolve

IDS = torch.randint(3, VOCABULARY, (12,), generator=torch.Generator().manual_seed(5))


def record_nothing(model):
    with attributor.record(model):
        pass


@pytest.mark.parametrize(
    "use",
    [
        lambda model: attributor.flow(model, IDS),
        lambda model: attributor.flow(model, IDS, impl="reference"),
        lambda model: attributor.flow(model, IDS, weights="output_norm"),
        record_nothing,
        lambda model: attributor.calibrate(model, None),
        lambda model: measure_heads(model, None),
        lambda model: resolve("retrieval", model),
    ],
)
def test_a_model_without_weights_is_refused(use):
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1))
    with pytest.raises(attributor.InputError, match=r"embed_tokens.weight is on the meta device; load it"):
        use(model)


def test_a_single_parameter_without_numbers_is_named():
    model = tiny("llama")
    model.model.layers[2].mlp.up_proj.to("meta")
    with pytest.raises(attributor.InputError, match=r"model.layers.2.mlp.up_proj.weight is on the meta device"):
        attributor.flow(model, IDS)


def test_decomposed_documents_are_found_with_a_composing_tokenizer():
    made = tiny_chat.tokenizer()
    made.backend_tokenizer.normalizer = normalizers.NFC()  # as Qwen's tokenizer does
    model = tiny_chat.model(len(made))
    documents = [unicodedata.normalize("NFD", text) for text in ("Le café du port.", "Où est-il ?")]
    ids = made("\n".join(documents))["input_ids"]
    result = attributor.flow(model, ids, tokenizer=made, documents=documents)
    assert [result.text[d.start : d.stop] for d in result.documents] == ["Le café du port.", "Où est-il ?"]
    rows = attributor.flow(model, ids, tokenizer=made, question=documents[1], weights=attributor.Weights(question=0.5))
    assert torch.isfinite(rows.scores).all()

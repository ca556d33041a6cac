"""A tokenizer with a chat template, trained here on a few sentences, and a random Llama for it."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<|pad|>", "<|start|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TRIMMING = TEMPLATE.replace("m['content']", "m['content'] | trim")
CORPUS = [
    "The harbour of the island was built on the sheltered side. Fishing boats leave before dawn.",
    "The lighthouse stands on the cliff and has many steps. The keeper writes the weather into a book.",
    "Who keeps the light? system user assistant\n\nDo not explain your reasoning. Simply provide the answer.",
]


def tokenizer(template: str | None = TEMPLATE, metaspace: bool = False) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer, or with `metaspace` one that puts a blank before the first word of a text."""
    inner = Tokenizer(models.BPE(unk_token=None, byte_fallback=False))
    if metaspace:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        inner.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = sorted(set("".join(CORPUS) + "<|>01x'"))
    else:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=SPECIAL[0], eos_token=SPECIAL[2])
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    made.chat_template = template
    return made


def model(vocabulary: int, positions: int = 1024) -> LlamaForCausalLM:
    """Return a model with two layers of four heads and fixed random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.4,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def save(folder: Path, positions: int = 1024, template: str | None = TEMPLATE) -> Path:
    """Save model and tokenizer as a folder for `--model FOLDER`."""
    made = tokenizer(template)
    model(len(made), positions).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder

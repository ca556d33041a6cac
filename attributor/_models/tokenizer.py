"""Load the tokenizer of a model, or say why it cannot be loaded."""

import re
from pathlib import Path
from typing import Any

__all__ = ["TokenizerError", "load_tokenizer"]

# files with a vocabulary, of all model families; configurations alone give an empty tokenizer, or none
VOCABULARY = re.compile(
    r"tokenizer\.json|.*vocab.*\.(json|txt)|dict\.txt|tekken\.json|.*\.(model|tiktoken|codes|tokenizer)"
)


class TokenizerError(Exception):
    """A tokenizer that cannot be loaded; the message says what is missing, and its cause is transformers' error."""


def load_tokenizer(target: str, **options: Any) -> Any:
    """The tokenizer that belongs to the model in a folder or on the hub.

    Args:
        target: the folder or hub id.
        options: other arguments of `AutoTokenizer.from_pretrained`.

    Raises:
        TokenizerError: there is none, it cannot be read, or its vocabulary is empty: for several families transformers
            makes an empty tokenizer if the files are missing.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(target, **options)
    except Exception as error:  # transformers, tokenizers and sentencepiece raise many kinds
        first = (str(error).strip().splitlines() or [""])[0][:500].rstrip(" :")
        raise TokenizerError(_describe_failure(target, f"{type(error).__name__}: {first}")) from error
    if set(tokenizer.get_vocab()) <= {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}:
        raise TokenizerError(_describe_failure(target, "its vocabulary is empty"))
    return tokenizer


def _describe_failure(target: str, reason: str) -> str:
    folder = Path(target)
    if not folder.is_dir():
        return f"its tokenizer cannot be loaded ({reason})"
    files = sorted(path.name for path in folder.iterdir() if VOCABULARY.fullmatch(path.name))
    cure = f"tokenizer.save_pretrained({target!r})"
    if not files:
        return (
            "the folder holds a model but no tokenizer: there is no tokenizer.json and no other vocabulary; save the "
            f"model's tokenizer there, with {cure}"
        )
    return f"the tokenizer in the folder ({', '.join(files)}) cannot be read ({reason}); save it again, with {cure}"

"""How many of a claim's content words a cited sentence holds: a comparison of texts, without the model."""

from collections.abc import Sequence

__all__ = ["measure_says"]


def measure_says(claim: str, sentences: Sequence[str]) -> list[float | None]:
    """How much of the claim each sentence says: the content-word coverage of the package cite-right, 0 to 1.

    The words of the claim that are no English stop words, each as often as it occurs, and the part of them that the
    sentence has as often. Words are compared in lower case; of numbers, commas are left out. The order of the words
    does not matter. The package is imported here, on first use, because it imports pydantic.

    Returns:
        One value a sentence; None where the claim has no content words, or the package is not installed.
    """
    unknown: list[float | None] = [None] * len(sentences)
    if not sentences:
        return unknown
    try:
        from cite_right.text.content_coverage import STOPWORDS, content_token_coverage
        from cite_right.text.tokenizer import SimpleTokenizer
    except ImportError:
        return unknown
    tokenizer = SimpleTokenizer()
    stop_words = frozenset(tokenizer.tokenize(" ".join(STOPWORDS)).token_ids)
    words = tokenizer.tokenize(claim).token_ids
    if stop_words.issuperset(words):
        return unknown
    return [
        float(content_token_coverage(words, tokenizer.tokenize(sentence).token_ids, stop_words))
        for sentence in sentences
    ]

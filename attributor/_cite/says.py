"""The part of a claim's content words that a cited sentence holds: a comparison of texts, without the model."""

import re
from collections import Counter
from collections.abc import Sequence

from attributor._text import has_unspaced_words, split_words

__all__ = ["measure_says"]

MARKERS = re.compile(r"\[\d+(?:\s*[,;–-]\s*\d+)*\]")  # [1] and [1, 2], which many models write themselves
# English words without content. "no", "not" and "never" are content: they change what a claim says. So is "us", which
# can also be the U.S.
STOP_WORDS = """
a an the this that these those
i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
we our ours ourselves they them their theirs themselves
who whom whose which what when where why how
am is are was were be been being have has had having do does did doing done
will would shall should can could may might must
and or but if then else than as because while so though although whether
of in on at by for with from to into onto upon about against between among through during before after above below
under over up down out off within
again further once here there now just only own same such other each all both any some few more most very too also
"""
STOP_WORD_SET = frozenset(STOP_WORDS.split())


def measure_says(claim: str, sentences: Sequence[str]) -> list[float | None]:
    """How much of the claim each sentence says: the part of the claim's content words that it holds, 0 to 1.

    Content words are the words of `split_words` except English stop words. Each counts as often as it occurs in the
    claim, and is held as often as it occurs in the sentence. Order and denials do not matter. "Lava is not black."
    holds all content words of "Lava is black." Marks such as [1] in the claim are left out.

    Returns:
        One value for each sentence. None if the claim has no content words, or if claim or sentence is in Thai, Lao,
        Khmer or Burmese, which write no spaces between words.
    """
    words = _count_content(MARKERS.sub(" ", claim))
    if not words or has_unspaced_words(claim):
        return [None] * len(sentences)
    return [
        None if has_unspaced_words(sentence) else (words & _count_content(sentence)).total() / words.total()
        for sentence in sentences
    ]


def _count_content(text: str) -> Counter[str]:
    return Counter(word for word in split_words(text) if word not in STOP_WORD_SET)

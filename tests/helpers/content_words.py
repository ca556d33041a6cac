"""Content words of a text, which generated rows share or do not share by design."""

import re

FUNCTION_WORDS = (
    "a about again all also an and any are as at be been before beside but by can did do does each else every for from "
    "get gets had has have he her his how i if in into is it its itself many more most much no not of off on once only "
    "or other out over s she so some than that the their them then there these they this those to too under up was we "
    "were what whatever when where which who whoever whom whose why will with you"
)


def content_words(text: str) -> set[str]:
    """Return the words in lower case, without function words and without the s of a plural."""
    words = set(re.findall(r"[^\W_]+", text.lower())) - set(FUNCTION_WORDS.split())
    return {word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words}

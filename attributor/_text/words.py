"""Split a text into words, so that two texts can be compared."""

import re
import unicodedata
from functools import cache

__all__ = ["has_unspaced_words", "split_words"]

# Chinese and Japanese, which write no spaces: 々 〇, Hiragana, Katakana, Han
CJK = (
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U000323af"
)
UNSPACED = re.compile(r"(?=[^\W\d])[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f]")
THOUSANDS = re.compile(r"(?<!\d)(?<!\d[.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
INITIALS = re.compile(r"\b(?:[^\W\d_]\.)+[^\W\d_]\b")
POSSESSIVE = re.compile(r"(?<=\w)['’]s\b")


def split_words(text: str) -> list[str]:
    """The words of a text, in a form that is equal for equal words.

    Unicode form NFKC, without case. A number is one word with its point and comma, "3.5"; commas between thousands go,
    so that "1,000" is "1000". "U.S." is "us". The possessive ending is removed: "lighthouse". Hyphens separate words.
    Each Chinese or Japanese character is a word.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = INITIALS.sub(lambda match: match[0].replace(".", ""), text)
    return _compile_word().findall(POSSESSIVE.sub("", text))


def has_unspaced_words(text: str) -> bool:
    """Whether a text has letters of Thai, Lao, Khmer or Burmese, whose words only a dictionary separates."""
    return UNSPACED.search(text) is not None


@cache
def _compile_word() -> re.Pattern[str]:
    r"""One Chinese or Japanese character, or others of `\w`, their combining marks, and [.,] between two digits."""
    marks = "".join(mark for mark in map(chr, range(0x300, 0x3100)) if unicodedata.category(mark)[0] == "M")
    letters = f"(?:[^\\W{CJK}][{marks}]*)+"
    return re.compile(rf"[{CJK}]|{letters}(?:(?<=\d)[.,](?=\d){letters})*")

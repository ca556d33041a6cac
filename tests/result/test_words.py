"""A text is split into words in a normal form."""

import pytest

from attributor._text import has_unspaced_words, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Lava, LAVA!", "lava lava"),
        ("1,000 and 12,345,678.5 km", "1000 and 12345678.5 km"),
        ("5,5 3,14 0,125 1868,164 12,34,567", "5,5 3,14 0,125 1868,164 12,34,567"),  # no thousands separators
        ("In 1868, 164 steps.", "in 1868 164 steps"),
        ("3.5km on 1.2.2024", "3.5km on 1.2.2024"),
        ("The U.S. and J.K. Rowling", "the us and jk rowling"),
        ("The end.A new", "the end a new"),
        ("Rowling's and Rowling’s, don't", "rowling and rowling don t"),
        ("well-known “town”—here", "well known town here"),
        ("１２ ﬁsh Straße", "12 fish strasse"),
        ("2024年の東京タワー", "2024 年 の 東 京 タ ワ ー"),
        ("ﾀﾜｰ", "タ ワ ー"),
        ("हिन्दी भाषा", "हिन्दी भाषा"),  # combining marks stay with their word
        ("서울은 수도", "서울은 수도"),
        ("?! … —", ""),
    ],
)
def test_a_text_is_split_into_words(text, words):
    assert split_words(text) == words.split()


@pytest.mark.parametrize(("text", "unspaced"), [("ลาวา", True), ("Lava ลาวา", True), ("5 ฿ ๕", False), ("北京", False)])
def test_texts_without_spaces_are_detected(text, unspaced):
    assert has_unspaced_words(text) is unspaced

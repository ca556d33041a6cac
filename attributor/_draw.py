"""Draw from lists so that a key gives the same choices in every version of Python."""

import random
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Draw"]

T = TypeVar("T")


class Draw:
    """Choices that follow from a key.

    Only `random.Random.random` is used: Python promises to keep its sequence for a seed.
    """

    def __init__(self, *key: object) -> None:
        self._random = random.Random(" ".join(map(str, key))).random

    def number(self) -> float:
        """A number from 0 up to 1."""
        return self._random()

    def below(self, stop: int) -> int:
        """A whole number from 0 up to `stop` - 1."""
        return int(self._random() * stop)

    def one(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in any order."""
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in range(count)]

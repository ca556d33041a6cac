"""Reader of NVIDIA machine code as printed by cuobjdump -sass: control flow, and exponentials that hide products."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush

__all__ = ["Function", "Instruction", "Products", "functions"]

LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);", re.MULTILINE)


@dataclass(frozen=True)
class Instruction:
    """One line: address, predicate as in `@P0`, name with modifiers, and operands as printed."""

    address: int
    guard: str
    name: str
    operands: str

    @property
    def kind(self) -> str:
        return self.name.split(".")[0]

    @property
    def target(self) -> int | None:
        """The target address of a branch or call."""
        found = re.search(r"\b0x([0-9a-f]+)\b", self.operands) if self.kind in ("BRA", "CALL") else None
        return int(found[1], 16) if found else None

    @property
    def highest(self) -> int:
        """The highest register that is named or that the sums of products fill; -1 if there is none."""
        named = [int(number) for number in re.findall(r"\bR(\d+)\b", self.operands)]
        columns = re.match(r"HGMMA\.64x(\d+)x", self.name)
        if columns:
            named.append(named[0] + int(columns[1]) // 2 - 1)
        return max(named, default=-1)


@dataclass(frozen=True)
class Products:
    """Products of a warpgroup with a common wait.

    Attributes:
        first: address of the first product.
        count: number of instructions.
        hidden: exponentials between the last product and the wait, on the path with the fewest.
    """

    first: int
    count: int
    hidden: int


@dataclass(frozen=True)
class Function:
    """The code of one kernel in the order of addresses."""

    name: str
    code: tuple[Instruction, ...]

    def count(self, prefix: str) -> int:
        return sum(instruction.name.startswith(prefix) for instruction in self.code)

    @cached_property
    def index(self) -> dict[int, int]:
        return {instruction.address: i for i, instruction in enumerate(self.code)}

    def after(self, i: int) -> Iterator[int]:
        """Return the numbers of the instructions that may run directly after number `i`."""
        instruction = self.code[i]
        if instruction.target is not None:
            yield self.index[instruction.target]
        ends = instruction.kind in ("BRA", "EXIT", "RET") and not instruction.guard and "," not in instruction.operands
        if not ends and i + 1 < len(self.code):
            yield i + 1

    def reached(self, start: int) -> list[Instruction]:
        """Return all instructions that may run after instruction number `start`."""
        seen: set[int] = set()
        todo = list(self.after(start))
        while todo:
            i = todo.pop()
            if i not in seen:
                seen.add(i)
                todo += self.after(i)
        return [self.code[i] for i in sorted(seen)]

    def hidden_behind(self, start: int) -> int:
        """Return the exponentials from product number `start` to its wait, on the path with the fewest."""
        best, todo = {start: 0}, [(0, start)]
        while todo:
            so_far, i = heappop(todo)
            if self.code[i].name.startswith("WARPGROUP.DEPBAR"):
                return so_far
            for j in self.after(i):
                cost = so_far + self.code[j].name.startswith("MUFU.EX2")
                if cost < best.get(j, 1 << 30):
                    best[j] = cost
                    heappush(todo, (cost, j))
        raise AssertionError(f"{self.name}: nothing waits for the products at {self.code[start].address:#x}")

    @cached_property
    def products(self) -> tuple[Products, ...]:
        """Return every run of products in address order; WARPGROUP.ARRIVE begins a run, a wait ends it."""
        runs: list[list[int]] = []
        fresh = True
        for i, instruction in enumerate(self.code):
            if instruction.kind == "WARPGROUP":
                fresh = True
            elif instruction.kind == "HGMMA":
                if fresh:
                    runs.append([])
                runs[-1].append(i)
                fresh = False
        return tuple(Products(self.code[run[0]].address, len(run), self.hidden_behind(run[-1])) for run in runs)


def functions(text: str) -> list[Function]:
    """Return every kernel in the output of cuobjdump -sass."""
    found = []
    for part in re.split(r"^\s+Function : ", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        code = tuple(Instruction(int(at, 16), guard, op, rest) for at, guard, op, rest in LINE.findall(body))
        found.append(Function(name.strip(), code))
    return found

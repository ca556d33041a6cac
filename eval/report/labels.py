"""Places the labels of a plot so that they do not overlap."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["place", "spread"]

Floats = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, bottom, right, top


def spread(targets: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return the positions nearest to the targets with `gap` between neighbours, between low and high.

    If the gap does not fit, the positions are spread evenly from low to high.
    """
    n = len(targets)
    if n and (n - 1) * gap > high - low:
        gap = (high - low) / max(n - 1, 1)
    order = sorted(range(n), key=lambda i: targets[i])
    # Neighbours that would be too close form a block around the mean of their targets.
    blocks: list[list[float]] = []  # each [sum of (target - place in the block), members]
    for i in order:
        blocks.append([targets[i], 1])
        while len(blocks) > 1 and _start(blocks[-2], gap, low, high) + blocks[-2][1] * gap > _start(
            blocks[-1], gap, low, high
        ):
            total, members = blocks.pop()
            blocks[-1][0] += total - members * blocks[-1][1] * gap
            blocks[-1][1] += members
    positions = [0.0] * n
    places = [_start(block, gap, low, high) + j * gap for block in blocks for j in range(int(block[1]))]
    for i, place_ in zip(order, places, strict=True):
        positions[i] = place_
    return positions


def _start(block: Sequence[float], gap: float, low: float, high: float) -> float:
    total, members = block
    return float(np.clip(total / members, low, max(high - (members - 1) * gap, low)))


def place(anchors: Floats, sizes: Floats, taken: Sequence[Box], frame: Box, margin: float = 3.0) -> Floats:
    """Return the lower left corners (n, 2) of labels of `sizes` (n, 2) near their anchors (n, 2), all in one unit.

    The labels are placed one after the other, inside the frame. Each gets the place where it overlaps least with the
    other labels, `taken` and the anchors. Of equal places it gets the nearest.
    """
    boxes: list[Box] = list(taken)
    boxes += [(x - margin, y - margin, x + margin, y + margin) for x, y in anchors]
    corners = np.zeros_like(anchors)
    for i in np.argsort(-anchors[:, 1]):
        (x, y), (width, height) = anchors[i], sizes[i]
        best = (float("inf"), 0.0, 0.0)
        for distance in (8.0, 13.0, 20.0, 30.0, 44.0, 60.0, 80.0):
            for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
                dx, dy = np.cos(angle) * distance, np.sin(angle) * distance
                left = x + dx - (0 if dx > 1 else width if dx < -1 else width / 2)
                bottom = y + dy - height / 2
                box = (left - 1, bottom - 1, left + width + 1, bottom + height + 1)
                cost = sum(_shared_area(box, other) for other in boxes) + 10 * _outside(box, frame) + distance / 4
                cost += 0.5 * (dx < -1)  # the right side is better
                if cost < best[0]:
                    best = (cost, left, bottom)
        corners[i] = best[1:]
        boxes.append((best[1], best[2], best[1] + width, best[2] + height))
    return corners


def _shared_area(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Box, frame: Box) -> float:
    return sum(
        max(over, 0.0) for over in (frame[0] - box[0], frame[1] - box[1], box[2] - frame[2], box[3] - frame[3])
    ) * (box[3] - box[1])

"""Draw a flow with matplotlib, which the extra `plot` installs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from attributor._checks import shorten_value
from attributor._errors import InputError
from attributor._result.grouped import Grouped, import_extra, shorten
from attributor._result.view.escape import escape_invisible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from attributor._result.flow import Flow

__all__ = ["draw_flow"]

MOST_ROWS, MOST_COLUMNS, MOST_BARS = 400, 1000, 12  # a picture cannot show more
MOST_LABELS = 40

Floats = npt.NDArray[np.float64]


def draw_flow(flow: Flow, kind: str, by: str, ax: Axes | None) -> Axes:
    """Draw on `ax`, or on a new figure; see `Flow.plot`."""
    if not isinstance(kind, str) or kind not in ("heat", "bars"):
        raise InputError(f'kind must be "heat" or "bars", got {shorten_value(kind)}')
    if ax is not None and not hasattr(ax, "imshow"):
        raise InputError(f"ax must be axes of matplotlib, or None, got {shorten_value(ax)}")
    pyplot = import_extra("matplotlib.pyplot", "plot()")
    if isinstance(by, str) and by == "sentence" and flow.text is None:
        by = "token"  # the default for a flow without text
    grouped = flow.by(by)
    if not len(grouped):
        raise InputError("there is nothing to draw: the text has no such pieces")
    if ax is None:
        bars = min(len(grouped), MOST_BARS)
        size = (8.0, 1.2 + 0.34 * bars) if kind == "bars" else (9.0, float(np.clip(1.6 + 0.2 * len(flow.scores), 3, 9)))
        _, ax = pyplot.subplots(figsize=size, layout="constrained")
    assert ax is not None
    if kind == "bars":
        _draw_bars(flow, grouped, by, ax)
    else:
        _draw_heat(flow, grouped, by, ax)
    return ax


def _draw_bars(flow: Flow, grouped: Grouped, by: str, ax: Axes) -> None:
    hits = grouped.top(MOST_BARS)[::-1]
    positions = np.arange(len(hits))
    unit = 100 if flow.normalized else 1
    ax.barh(positions, [unit * hit.share for hit in hits], color="#d86a26", height=0.62)
    ax.set_yticks(positions, [_escape_label(hit.label or hit.text, 52) for hit in hits])
    for position, hit in zip(positions, hits, strict=True):
        value = f"{hit.share:.1%}" if flow.normalized else f"{hit.share:.3g}"
        ax.annotate(value, (unit * hit.share, position), (4, 0), textcoords="offset points", va="center")
    ax.set_xlabel("share of the answer's flow, %" if flow.normalized else "score")
    ax.set_title(f"Top {by}s", loc="left")
    ax.margins(x=0.12)
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _draw_heat(flow: Flow, grouped: Grouped, by: str, ax: Axes) -> None:
    values = grouped.scores.double().numpy() * (100 if flow.normalized else 1)
    values = _coarsen(_coarsen(values, MOST_ROWS, axis=0, mean=True), MOST_COLUMNS, axis=1, mean=False)
    rows, columns = values.shape
    # A sink (a first token with a third of the flow) would leave the rest white, so the scale may end below it.
    most, high = float(values.max()), 2 * float(np.quantile(values, 0.995))
    clipped = 0 < high < most / 2
    top = high if clipped else most
    image = ax.imshow(values, aspect="auto", cmap="Oranges", interpolation="nearest", vmin=0, vmax=top or 1)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.01, extend="max" if clipped else "neither")
    bar.set_label("share of the row's flow, %" if flow.normalized else "score")
    bar.outline.set_visible(False)
    tokens = flow.answer_tokens
    if tokens and len(tokens) == rows <= MOST_LABELS:
        ax.set_yticks(np.arange(rows), [_escape_label(token, 18) for token in tokens])
    else:
        ax.set_ylabel("answer token")
    if by == "document" and columns == len(grouped) <= MOST_LABELS // 2:
        names = [_escape_label(s.label or f"document {i + 1}", 24) for i, s in enumerate(grouped.segments)]
        ax.set_xticks(np.arange(columns), names, rotation=40, ha="right", rotation_mode="anchor")
    else:
        ax.set_xlabel(f"{by} of the prompt" if columns == len(grouped) else f"{by}s of the prompt, several a column")
    ax.set_title(f"Answer tokens x {by}s", loc="left")


def _coarsen(values: Floats, most: int, axis: int, mean: bool) -> Floats:
    """Merge neighbours until there are at most `most`."""
    length = values.shape[axis]
    together = -(-length // most)
    if together == 1:
        return values
    starts = np.arange(0, length, together)
    sums: Floats = np.add.reduceat(values, starts, axis=axis)
    if not mean:
        return sums
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    means: Floats = sums / np.diff(np.r_[starts, length]).reshape(shape)
    return means


def _escape_label(text: str, width: int) -> str:
    """A short label with hidden characters escaped, and $ as well, which would start a formula."""
    return (shorten(escape_invisible(text), width) or repr(text)).replace("$", r"\$")

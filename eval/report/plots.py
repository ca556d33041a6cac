"""Draws the report's plots with matplotlib: narrow enough for a phone, labels beside the marks."""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attributor._result import escape_invisible
from attributor.eval.metrics import BINS, LEVELS
from attributor.eval.report.build import Part, Report
from attributor.eval.report.labels import place, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INK", "LINE", "PAPER", "SERIES", "SOFT", "draw_plots", "to_png", "to_svg"]

# The colours of Okabe and Ito, without yellow, which is invisible on white. In dark mode the page has its own tones.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
INK, SOFT, LINE, PAPER = "#1d1b19", "#6a645d", "#e4dfd8", "#ffffff"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (4, 1.2, 1, 1.2)), "-", (0, (5, 1.5)))
WIDTH = 5.2  # inches: 374 points, so that 9 points stay 9 on a phone
CHEAPEST = 0.01  # of a plain forward pass; lower values are drawn here
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"],
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "attributor",
    "lines.solid_capstyle": "round",
}


def draw_plots(report: Report) -> dict[str, "Figure"]:
    """Draw the plots, by the name of their file: those of each run, and of several runs one more with all.

    Raises:
        ImportError: matplotlib is not installed.
    """
    colours = {name: SERIES[i] if i < len(SERIES) else SOFT for i, name in enumerate(report.methods)}
    draw: list[tuple[str, Callable[[Part, dict[str, str]], Figure | None]]] = [
        ("average-precision", _draw_average_precision),
        ("precision-recall", _draw_precision_recall),
        ("first-gold", _draw_first_gold),
        ("cost", _draw_cost),
    ]
    figures: dict[str, Figure] = {}
    from matplotlib import rc_context

    with rc_context(STYLE):
        if len(report.parts) > 1:
            figures["runs"] = _draw_runs(report)
        for i, part in enumerate(report.parts, 1):
            for name, function in draw:
                if part.order and (figure := function(part, colours)) is not None:
                    figures[name if len(report.parts) == 1 else f"run-{i}-{name}"] = figure
    return figures


def to_svg(figure: "Figure", background: str = PAPER) -> str:
    """Render as SVG with text as text; the bytes are the same every time."""
    return _render(figure, "svg", background).decode("utf-8")


def to_png(figure: "Figure") -> bytes:
    """Render as PNG, at twice the size of a common screen."""
    return _render(figure, "png", PAPER)


def _render(figure: "Figure", form: str, background: str) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the font may lack letters of a name
        figure.savefig(buffer, format=form, dpi=200, facecolor=background, metadata=metadata)
    return buffer.getvalue()


def _new_figure(height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height))


def _write_text(ax: "Axes", x: float, y: float, text: str, **more: Any) -> Any:
    """Write text without interpreting formulas."""
    return ax.text(x, y, text, parse_math=False, **more)


def _shorten_name(text: str, most: int = 21) -> str:
    """Return the name in one line; if it is too long, cut its middle, since both ends distinguish methods."""
    shown = " ".join(escape_invisible(text).split())
    return shown if len(shown) <= most else f"{shown[: most - 9]}…{shown[-8:]}"


def _main_interval(part: Part, method: str, metric: str = "ap") -> dict[str, Any] | None:
    method_summary = part.summary["methods"][method]
    interval = method_summary["sentence"].get(method_summary["main"], {}).get("all", {}).get(metric)
    return None if interval is None or interval["value"] is None else dict(interval)


def _write_row_names(ax: "Axes", names: Sequence[str], ys: Sequence[float]) -> None:
    """Write the names of rows left of the axes."""
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    for name, y in zip(names, ys, strict=True):
        _write_text(ax, -0.03, y, _shorten_name(name), ha="right", va="center", transform=ax.get_yaxis_transform())


def _draw_average_precision(part: Part, colours: dict[str, str]) -> "Figure | None":
    """Draw AP with intervals, and beside it the paired difference from another method."""
    rows = [(name, interval) for name in part.order if (interval := _main_interval(part, name)) is not None]
    if not rows:
        return None
    names = [name for name, _ in rows]
    figure = _new_figure(1.15 + 0.34 * len(rows))
    inch = 1 / figure.get_figheight()
    bottom, height = 0.55 * inch, 1 - 1.1 * inch
    left, right = figure.add_axes((0.31, bottom, 0.34, height)), figure.add_axes((0.70, bottom, 0.28, height))
    ys = list(range(len(rows), 0, -1))
    for (name, interval), y in zip(rows, ys, strict=True):
        colour = colours[name]
        if interval["low"] is not None:
            left.plot([interval["low"], interval["high"]], [y, y], color=colour, lw=2, alpha=0.55)
        best = part.summary["methods"][name]["best"]
        other = part.summary["methods"][name]["sentence"][best]["all"]["ap"]["value"]
        if best != part.summary["methods"][name]["main"] and other is not None:
            left.plot(other, y, "o", ms=5, mfc=PAPER, mec=colour, mew=1.2)
        left.plot(interval["value"], y, "o", ms=6, color=colour)
        change = part.difference(name, part.against[name], "ap") if name in part.against else None
        if change is not None:
            if change["low"] is not None:
                right.plot([change["low"], change["high"]], [y, y], color=colour, lw=2, alpha=0.55)
            right.plot(change["value"], y, "o", ms=6, color=colour)
    _write_row_names(left, names, ys)
    left.set_title("AP by sentence")
    left.set_xlabel("○ best aggregation" if any(_has_better(part, name) for name in names) else "95% intervals")
    left.set_xlim(left=0)
    right.axvline(0, color=SOFT, lw=1)
    right.set_yticks([])
    right.spines["left"].set_visible(False)
    right.set_title("Difference")
    others = set(part.against.values())
    right.set_xlabel("from the best other" if len(others) > 1 else f"from {_shorten_name(next(iter(others), ''), 18)}")
    for ax in (left, right):
        ax.set_ylim(0.4, len(rows) + 0.6)
        ax.grid(axis="x")
        ax.set_axisbelow(True)
        ax.tick_params(length=0)
        ax.locator_params(axis="x", nbins=4)
    return figure


def _has_better(part: Part, name: str) -> bool:
    method = part.summary["methods"][name]
    return bool(method["best"] != method["main"])


def _draw_precision_recall(part: Part, colours: dict[str, str]) -> "Figure | None":
    """Draw precision over recall: the mean of the rows' interpolated curves."""
    names = list(part.arrays.methods)
    there = [name for name in part.order if not np.isnan(part.arrays.curve[:, names.index(name)]).all()]
    if not there:
        return None
    figure = _new_figure(max(3.4, 0.9 + 0.19 * len(there)))
    ax = figure.add_axes((0.1, 0.14, 0.58, 0.76))
    gap = 0.18 / (0.76 * figure.get_figheight())  # height of a label, in units of precision
    ends = []
    for name in reversed(there):
        curve = np.nanmean(part.arrays.curve[:, names.index(name)], axis=0)
        dash = DASHES[SERIES.index(colours[name])] if colours[name] in SERIES else "-"
        ax.plot(LEVELS, curve, color=colours[name], lw=1.8 if colours[name] in SERIES else 1.1, ls=dash)
        ends.append((name, float(curve[-1])))
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title="Precision and recall, mean of rows")
    ax.grid()
    ax.set_axisbelow(True)
    ax.tick_params(length=0)
    places = spread([end for _, end in ends], gap, 0.02, 0.98)
    for (name, end), y in zip(ends, places, strict=True):
        ax.plot([1, 1.035], [end, y], color=colours[name], lw=1, clip_on=False)
        ax.plot([1.035, 1.06], [y, y], color=colours[name], lw=1.8, clip_on=False)
        _write_text(ax, 1.075, y, _shorten_name(name), va="center", fontsize=8.5)
    return figure


def _draw_first_gold(part: Part, colours: dict[str, str]) -> "Figure | None":
    """Draw a small histogram for each method: the share of rows by the rank of the first gold sentence."""
    names = list(part.arrays.methods)
    there = [name for name in part.order if not np.isnan(part.arrays.first[:, names.index(name), 0]).all()]
    if not there:
        return None
    figure = _new_figure(0.95 + 0.42 * len(there))
    inch = 1 / figure.get_figheight()
    ax = figure.add_axes((0.31, 0.5 * inch, 0.67, 1 - 0.85 * inch))
    shares = [np.nanmean(part.arrays.first[:, names.index(name)], axis=0) for name in there]
    most = max(float(share.max()) for share in shares)
    ys = list(range(len(there), 0, -1))
    for name, share, y in zip(there, shares, ys, strict=True):
        ax.bar(np.arange(len(share)), 0.72 * share / most, 0.86, bottom=y - 0.5, color=colours[name])
        ax.axhline(y - 0.5, color=LINE, lw=0.8)
        _write_text(
            ax, 0, y - 0.5 + 0.72 * share[0] / most + 0.03, f"{share[0]:.0%}", ha="center", va="bottom", fontsize=8
        )
    _write_row_names(ax, there, [y - 0.28 for y in ys])
    labels, low = [], 1
    for bin_ in BINS:
        labels.append(str(bin_) if bin_ == low else f"{low}–{bin_}")
        low = bin_ + 1
    ax.set_xticks(range(len(labels) + 1), [*labels, f"> {BINS[-1]}"])
    ax.set(ylim=(0.4, len(there) + 0.55), xlabel="rank of the first gold sentence, share of rows")
    ax.set_title("Where the first gold sentence stands")
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(length=0)
    return figure


def _draw_cost(part: Part, colours: dict[str, str]) -> "Figure | None":
    """Draw AP against time, in plain forward passes."""
    rows = []
    for name in part.order:
        interval, forwards = _main_interval(part, name), part.summary["methods"][name]["costs"]["forwards"]
        if interval is not None and forwards["value"] is not None:
            rows.append((name, interval, max(forwards["value"], CHEAPEST), forwards))
    if not rows:
        return None
    figure = _new_figure(3.6)
    ax = figure.add_axes((0.11, 0.14, 0.86, 0.76))
    ax.set_xscale("log")
    dearest = max(x for _, _, x, _ in rows)
    cheapest = min(x for _, _, x, _ in rows)
    top = max(interval["high"] or interval["value"] for _, interval, _, _ in rows)
    ax.set(xlim=(min(cheapest / 1.6, 0.4), max(dearest * 2.2, 4)), ylim=(0, min(top * 1.1, 1.02)))
    ax.axvline(1, color=SOFT, lw=1, ls=(0, (2, 2)))
    taken = []
    for name, interval, x, forwards in rows:
        if interval["low"] is not None:
            ax.plot([x, x], [interval["low"], interval["high"]], color=colours[name], lw=1.6, alpha=0.5)
            ends = ax.transData.transform([(x, interval["low"]), (x, interval["high"])])
            taken.append((ends[0][0] - 2, ends[0][1], ends[1][0] + 2, ends[1][1]))
        if forwards["low"] is not None and forwards["low"] >= CHEAPEST:
            ax.plot(
                [forwards["low"], forwards["high"]], [interval["value"]] * 2, color=colours[name], lw=1.6, alpha=0.5
            )
        ax.plot(x, interval["value"], "o", ms=6.5, color=colours[name])
    ax.set(
        xlabel="time in plain forward passes, shared read included", ylabel="AP by sentence", title="Quality and cost"
    )
    _set_multiple_ticks(ax)
    ax.grid()
    ax.set_axisbelow(True)
    ax.tick_params(length=0, which="both")
    _write_names_beside(figure, ax, [(name, x, interval["value"]) for name, interval, x, _ in rows], taken)
    return figure


def _set_multiple_ticks(ax: "Axes") -> None:
    """Set ticks such as 0.1×, 1×, 10×."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = ax.get_xlim()
    ticks = [tick for tick in (0.01, 0.1, 1, 2, 5, 10, 30, 100, 300, 1000, 10_000) if low <= tick <= high]
    if low < 0.05:
        ticks = [tick for tick in ticks if tick not in (2, 5)]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels(["≤ 0.01×" if tick == CHEAPEST else f"{tick:g}×" for tick in ticks])


def _write_names_beside(
    figure: "Figure", ax: "Axes", points: Sequence[tuple[str, float, float]], taken: Sequence[Any]
) -> None:
    """Write names beside points without overlap; a line connects a distant name with its point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    texts = [_write_text(ax, x, y, _shorten_name(name), fontsize=8.5, va="bottom") for name, x, y in points]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        boxes = [text.get_window_extent(renderer) for text in texts]
    anchors = ax.transData.transform([(x, y) for _, x, y in points])
    sizes = np.array([(box.width, box.height) for box in boxes])
    frame = ax.get_window_extent(renderer)
    corners = place(anchors, sizes, taken, (frame.x0, frame.y0, frame.x1, frame.y1))
    for text, corner, size, anchor in zip(texts, corners, sizes, anchors, strict=True):
        text.set_position(ax.transData.inverted().transform(corner))
        near = np.clip(anchor, corner, corner + size)
        if np.hypot(*(near - anchor)) > 9:
            line = ax.transData.inverted().transform([anchor, near])
            ax.plot(line[:, 0], line[:, 1], color=SOFT, lw=0.7)


def _draw_runs(report: Report) -> "Figure":
    """Draw AP of the same methods in every run."""
    names = report.methods
    figure = _new_figure(1.35 + 0.42 * len(names) + 0.16 * len(report.parts))
    inch = 1 / figure.get_figheight()
    top = 0.35 + 0.18 * len(report.parts)
    ax = figure.add_axes((0.31, 0.5 * inch, 0.67, 1 - (0.5 + top + 0.1) * inch))
    step = 0.7 / len(report.parts)
    marks = "oDs^vP"
    for j, part in enumerate(report.parts):
        colour = SERIES[j % len(SERIES)]
        for i, name in enumerate(names):
            interval = _main_interval(part, name) if name in part.arrays.methods else None
            if interval is None:
                continue
            y = len(names) - i + (len(report.parts) - 1) * step / 2 - j * step
            if interval["low"] is not None:
                ax.plot([interval["low"], interval["high"]], [y, y], color=colour, lw=2, alpha=0.55)
            ax.plot(interval["value"], y, marks[j % len(marks)], ms=5.5, color=colour)
        y = 1 + (0.12 + 0.18 * (len(report.parts) - 1 - j)) / (ax.get_position().height * figure.get_figheight())
        ax.plot(0.015, y, marks[j % len(marks)], ms=5.5, color=colour, transform=ax.transAxes, clip_on=False)
        _write_text(ax, 0.045, y, _shorten_name(part.name, 44), va="center", transform=ax.transAxes)
    figure.text(0.31, 1 - 0.1 * inch, "AP by sentence in every run", fontweight="bold", fontsize=10, va="top")
    _write_row_names(ax, names, list(range(len(names), 0, -1)))
    ax.set(ylim=(0.4, len(names) + 0.6), xlabel="AP by sentence, 95% intervals")
    ax.set_xlim(left=0)
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    ax.tick_params(length=0)
    return figure

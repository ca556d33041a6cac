"""Plots can be drawn from any flow and show the right numbers."""

import builtins

import pytest
import torch
from example_flow import TEXT, example

from attributor._errors import InputError
from attributor._result.flow import Flow

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _no_window():
    from matplotlib import pyplot

    with matplotlib.rc_context({"backend": "agg"}):
        pyplot.switch_backend("agg")
        yield
        pyplot.close("all")


def test_bars_show_the_top_segments():
    flow = example()
    axes = flow.plot("bars")
    hits = flow.top(12, by="sentence")
    assert [bar.get_width() for bar in axes.patches][::-1] == pytest.approx([100 * hit.share for hit in hits])
    assert axes.get_yticklabels()[-1].get_text().startswith(hits[0].text[:20])
    assert "%" in axes.get_xlabel()


def test_the_heat_map_shows_the_scores():
    flow = example()
    axes = flow.plot("heat", by="document")
    assert axes.images[0].get_array().data == pytest.approx(100 * flow.by("document").to_numpy(), rel=1e-6)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Twice", "a", "day", "."]


@pytest.mark.parametrize("changes", [{"normalized": False}, {"missing_mass": None}], ids=["raw", "power"])
def test_unnormalized_scores_are_not_labelled_as_shares(changes):
    flow = example(**changes)
    axes = flow.plot("bars", by="document")
    assert axes.get_xlabel() == "score"
    assert max(bar.get_width() for bar in axes.patches) == pytest.approx(flow.top(1, by="document")[0].share)


def test_the_color_range_ignores_a_sink():
    scores = torch.rand(4, 500) / 1000
    scores[:, 0] = 0.5
    axes = Flow(scores=scores, ids=torch.arange(504), missing_mass=torch.zeros(4)).plot("heat", by="token")
    assert axes.images[0].get_clim()[1] < 1.0  # in percent; the sink alone has 50


@pytest.mark.parametrize("kind", ["heat", "bars"])
@pytest.mark.parametrize("by", ["token", "sentence", "document"])
def test_unusual_text_is_drawn(kind, by):
    flow = example(
        text=TEXT + "costs $3 and $4_{ 東京 \0 \u202e", answer="$x^ \\frac{ \0 y", documents=[(0, 8), (9, 40)]
    )
    flow.plot(kind, by=by).figure.savefig("/dev/null", format="png")


def test_long_flows_and_flows_without_text_are_drawn():
    flow = Flow(scores=torch.rand(900, 3_100), ids=torch.arange(4_000), missing_mass=torch.zeros(900))
    image = flow.plot().images[0].get_array()
    assert image.shape[0] <= 400
    assert image.shape[1] <= 1000
    assert float(image.sum()) == pytest.approx(100 * float(flow.scores.sum()) * image.shape[0] / 900, rel=0.02)
    assert flow.plot("bars").patches


def test_the_given_axes_are_used():
    from matplotlib import pyplot

    _, axes = pyplot.subplots()
    assert example().plot("bars", ax=axes) is axes
    assert len(pyplot.get_fignums()) == 1


def test_unknown_kinds_are_refused():
    with pytest.raises(InputError, match="got 'pie'"):
        example().plot("pie")
    with pytest.raises(InputError, match='"token", "sentence", "document"'):
        example().plot("heat", by="word")


def test_missing_matplotlib_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError("No module named 'matplotlib'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'attributor\[plot\]'"):
        example().plot()

"""Metrics, answers, intervals and summaries agree with values by hand, brute force and other libraries."""

import itertools
import json
import math

import numpy as np
import pytest
from fake_cases import AGGREGATIONS, METHODS, case, cases
from hypothesis import given, settings
from hypothesis import strategies as st

from attributor import InputError
from attributor.eval.metrics import answers
from attributor.eval.metrics.case_arrays import BINS, measure_cases
from attributor.eval.metrics.evidence import (
    LEVELS,
    METRICS,
    Ranking,
    linear_datamodeling_score,
    measure,
    measure_case,
    precision_recall,
)
from attributor.eval.metrics.intervals import mean_intervals, median_interval
from attributor.eval.metrics.summary import SECONDARY, RunningMetrics, summarize, summarize_arrays

SCORES = [0.9, 0.1, 0.8, 0.3, 0.5, 0.2]  # ranks 1, 6, 2, 4, 3, 5
GOLD = [0, 3]  # at ranks 1 and 4


@st.composite
def rows(draw, most=9):
    """Draw scores with many ties, and at least one but not all pieces as gold."""
    S = draw(st.integers(2, most))
    scores = draw(st.lists(st.integers(-2, 2).map(lambda x: x / 4), min_size=S, max_size=S))
    gold = draw(st.lists(st.integers(0, S - 1), min_size=1, max_size=S - 1, unique=True))
    return scores, gold


def test_metrics_equal_values_computed_by_hand():
    got = measure_case(SCORES, GOLD)
    assert got["ap"] == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert got["auroc"] == pytest.approx(6 / 8)  # 2 of 8 pairs are wrong: rank 4 after ranks 2 and 3
    assert got["first_is_gold"] == 1
    assert got["r_precision"] == pytest.approx(1 / 2)
    assert (got["mrr"], got["first_rank"]) == (1, 1)
    assert [got[f"precision@{k}"] for k in (3, 5, 10)] == pytest.approx([1 / 3, 2 / 5, 2 / 10])
    assert [got[f"recall@{k}"] for k in (1, 3, 5, 10)] == pytest.approx([1 / 2, 1 / 2, 1, 1])
    assert [got[f"full_support@{k}"] for k in (1, 3, 5, 10)] == [0, 0, 1, 1]


def test_equal_scores_have_the_values_of_a_random_order():
    S, gold = 7, [2, 5]
    got = measure_case([0.5] * S, gold)
    assert got["auroc"] == pytest.approx(0.5)
    for name in ("first_is_gold", "precision@3", "precision@5", "r_precision"):
        assert got[name] == pytest.approx(2 / 7), name
    assert got["recall@3"] == pytest.approx(3 / 7)
    assert got["full_support@3"] == pytest.approx(3 / math.comb(7, 2))
    assert got["first_rank"] == pytest.approx((S + 1) / 3)
    harmonic = sum(1 / i for i in range(1, S + 1))
    assert got["ap"] == pytest.approx(1 / 6 + 5 / 6 * harmonic / S)  # the closed form for a random order


def brute_force(scores, gold):
    """Return every metric as its mean over all orders of pieces with tied scores."""
    found = []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            found.append(measure_case([-order.index(i) for i in range(len(scores))], gold))
    return {name: np.mean([row[name] for row in found]) for name in METRICS}


@settings(deadline=None, max_examples=30)
@given(rows(most=6))
def test_ties_count_as_the_mean_over_their_orders(row):
    assert measure_case(*row) == pytest.approx(brute_force(*row))


@settings(deadline=None)
@given(rows(), st.randoms(use_true_random=False))
def test_the_order_of_the_pieces_does_not_count(row, random):
    scores, gold = row
    order = list(range(len(scores)))
    random.shuffle(order)
    moved = measure_case([scores[i] for i in order], [order.index(g) for g in gold])
    assert moved == pytest.approx(measure_case(scores, gold))


@settings(deadline=None)
@given(rows())
def test_metrics_keep_their_bounds_and_their_meaning(row):
    scores, gold = row
    got = measure_case(scores, gold)
    for name, value in got.items():
        low, high = (1, len(scores)) if name == "first_rank" else (0, 1)
        assert low - 1e-9 <= value <= high + 1e-9, name
    assert got["mrr"] >= got["first_is_gold"] - 1e-9
    assert got["recall@1"] * len(gold) == pytest.approx(got["first_is_gold"])
    assert got["full_support@5"] <= got["recall@5"] + 1e-9
    best = measure_case(np.isin(np.arange(len(scores)), gold).astype(float), gold)
    assert [best[name] for name in ("ap", "auroc", "first_is_gold", "r_precision", "mrr")] == pytest.approx([1] * 5)
    ranking = Ranking.of(scores, gold)
    for chances in (ranking.first, ranking.last):
        assert chances.sum() == pytest.approx(1)
    curve = precision_recall(ranking)[0]
    assert (np.diff(curve) <= 1e-12).all()
    assert (curve > 0).all()


def test_metrics_without_ties_equal_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = np.random.default_rng(3)
    for S in (2, 3, 17, 60):
        scores = generator.permutation(S) / 7
        gold = generator.choice(S, max(S // 5, 1), replace=False)
        truth = np.isin(np.arange(S), gold)
        got = measure_case(scores, gold.tolist())
        assert got["ap"] == pytest.approx(sklearn.average_precision_score(truth, scores))
        assert got["auroc"] == pytest.approx(sklearn.roc_auc_score(truth, scores))
        precision, recall, _ = sklearn.precision_recall_curve(truth, scores)
        wanted = [precision[:-1][recall[:-1] >= level - 1e-9].max() for level in LEVELS]
        assert precision_recall(Ranking.of(scores, gold))[0] == pytest.approx(wanted)
    tied = generator.integers(0, 4, 30)
    assert measure_case(tied, [1, 2, 9])["auroc"] == pytest.approx(
        sklearn.roc_auc_score(np.isin(np.arange(30), [1, 2, 9]), tied)
    )


def test_several_methods_at_once_equal_each_alone():
    generator = np.random.default_rng(5)
    table = generator.integers(0, 5, (7, 20)).astype(float)
    together = measure(table, [0, 4, 11])
    for m, row in enumerate(table):
        assert measure_case(row, [0, 4, 11]) == pytest.approx({name: value[m] for name, value in together.items()})


@pytest.mark.parametrize("gold", [[], [0, 1, 2]])
def test_rows_with_only_gold_or_no_gold_have_no_value(gold):
    assert set(measure_case([1.0, 2.0, 3.0], gold).values()) == {None}


@pytest.mark.parametrize(
    ("scores", "gold", "said"),
    [
        ([1.0, math.nan], [0], "finite; 1 of 2"),
        ([1.0, math.inf], [0], "finite"),
        ([1.0, 2.0], [2], "from 0 to 1"),
        ([1.0, 2.0], [-1], "from 0 to 1"),
        ([1.0, 2.0, 3.0], [1, 1], "different"),
        ([1.0, 2.0], [0.5], "indices"),
        ([1.0, 2.0], [], "0 gold of 2"),
        ([1.0, 2.0], [1, 0], "2 gold of 2"),
        (np.zeros((2, 0)), [0], "S > 0"),
        (np.zeros((2, 2, 2)), [0], "must be"),
    ],
)
def test_bad_rows_are_refused(scores, gold, said):
    with pytest.raises(InputError, match=said):
        measure(scores, gold)


def test_lds_is_the_rank_correlation_of_predicted_and_measured():
    scipy = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    generator = np.random.default_rng(1)
    kept = generator.integers(0, 2, (32, 9))
    scores, effects = generator.normal(size=9), np.round(generator.normal(size=32), 1)
    wanted = scipy.spearmanr(kept @ scores, effects).statistic
    assert linear_datamodeling_score(scores, kept, effects) == pytest.approx(wanted)
    assert linear_datamodeling_score(scores, kept, np.exp(kept @ scores)) == pytest.approx(1)
    assert linear_datamodeling_score(-scores, kept, kept @ scores) == pytest.approx(-1)


def test_lds_of_constant_predictions_is_0_and_of_constant_effects_unknown():
    kept = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])
    assert linear_datamodeling_score([0, 0, 0, 0], kept, [1, 2, 3]) == 0
    # 0.1 + 0.2 and 0.2 + 0.1 in different places: equal predictions except for the last bit
    assert linear_datamodeling_score([0.1, 0.2, 0.2, 0.1], kept[:2], [1.0, 2.0]) == 0
    assert linear_datamodeling_score([1, 2, 3, 4], kept, [5, 5, 5]) is None
    for scores, effects in (([1, 2], [1, 2, 3]), ([1, 2, 3, math.nan], [1, 2, 3])):
        with pytest.raises(InputError):
            linear_datamodeling_score(scores, kept, effects)
    with pytest.raises(InputError, match="two masks"):
        linear_datamodeling_score([1, 2, 3, 4], kept[:1], [1])


@pytest.mark.parametrize(
    ("answer", "expected", "em", "f1"),
    [
        ("The Eiffel Tower.", "eiffel tower", 1, 1),
        ("An apple a day", "apple day", 1, 1),
        ("in Paris, France", "Paris", 0, 1 / 2),  # 1 of 3 words and all expected words: 2 * 1/3 / (4/3)
        ("yes", "Yes", 1, 1),
        ("yes it is", "yes", 0, 0),
        ("no", "no one", 0, 0),
        ("noanswer", "something", 0, 0),
        ("yes it is", "it is so", 0, 2 / 3),  # neither is only "yes"
        ("the", "a", 1, 0),  # both are empty: equal, but without a shared word
        ("la la land", "la la", 0, 4 / 5),
        ("la", "la la land", 0, 1 / 2),
        ("theory", "ory", 0, 0),  # "the" inside a word stays
        ("well-known", "wellknown", 1, 1),
        ("", "Paris", 0, 0),
        ("Zürich", "zürich", 1, 1),
    ],
)
def test_exact_match_and_f1_equal_the_official_ones(answer, expected, em, f1):
    assert answers.exact_match(answer, expected) == em
    assert answers.f1(answer, expected) == pytest.approx(f1)


def test_an_alias_counts_as_the_answer():
    assert answers.exact_match("NYC", "New York City", ["N.Y.C."]) == 1
    assert answers.f1("York city", "NYC", ["New York City", "yes"]) == pytest.approx(4 / 5)
    assert answers.f1("York city", "New York City", ["NYC"]) == pytest.approx(4 / 5)


def test_intervals_are_the_percentiles_of_resampled_means():
    generator = np.random.default_rng(0)
    values = generator.normal(3, 2, 400)
    (found,) = mean_intervals(values[:, None])
    assert found.value == pytest.approx(values.mean())
    assert found.n == 400
    error = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - error, abs=0.03)
    assert found.high == pytest.approx(values.mean() + error, abs=0.03)


def test_intervals_agree_with_scipy():
    scipy = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    values = np.random.default_rng(4).random(25) ** 3
    (found,) = mean_intervals(values[:, None], resamples=20_000)
    wanted = scipy.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx(wanted, abs=0.005)


def test_intervals_are_paired_seeded_and_leave_missing_rows_out():
    generator = np.random.default_rng(2)
    a = generator.random(60)
    b = a - 0.1
    table = np.stack([a, b, a - b, np.where(np.arange(60) < 20, a, np.nan), np.full(60, np.nan)], axis=1)
    found = mean_intervals(table)
    assert found == mean_intervals(table)
    assert (found[2].low, found[2].high) == pytest.approx((0.1, 0.1))  # even though each mean is uncertain
    assert found[0].high - found[0].low > 0.05
    assert found[3] == mean_intervals(a[:20, None])[0]
    assert found[3].n == 20
    assert (found[4].value, found[4].low, found[4].n) == (None, None, 0)
    single = mean_intervals([[0.5]])[0]
    assert (single.value, single.low, single.high, single.n) == (0.5, None, None, 1)
    with pytest.raises(InputError, match="resamples"):
        mean_intervals(table, resamples=0)


def test_an_interval_has_its_nominal_coverage():
    generator = np.random.default_rng(8)
    samples = generator.exponential(1, (60, 300))
    covered = [i.low <= 1 <= i.high for i in mean_intervals(samples, resamples=1000)]
    assert 0.88 <= np.mean(covered) <= 0.98


def test_the_median_is_not_moved_by_one_slow_row():
    found = median_interval([1.0, 1.1, 1.2, 1.1, 90.0])
    assert found.value == 1.1
    assert found.low <= found.value <= found.high
    assert median_interval([]).value is None
    assert median_interval([2.0, math.nan]).n == 1


def test_a_summary_equals_values_computed_by_hand():
    generator = np.random.default_rng(0)
    records = [case(i, generator, methods={"flow": METHODS["flow"]}, S=4, documents=2) for i in range(2)]
    scores = [[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]]
    for record, row in zip(records, scores, strict=True):
        record["gold"], record["gold_documents"] = [0], [0]
        record["methods"]["flow"]["scores"] = {"sum": row}
        record["methods"]["flow"]["documents"] = {"sum": [row[0] + row[1], row[2] + row[3]]}
        record["methods"]["flow"]["seconds"], record["seconds_read"], record["seconds_plain"] = 0.5, 2.0, 1.0
    records[0]["em"], records[1]["em"] = 1, None
    got = summarize(records)
    flow = got["methods"]["flow"]
    assert flow["sentence"]["sum"]["all"]["ap"]["value"] == pytest.approx((1 + 1 / 4) / 2)
    assert flow["sentence"]["sum"]["all"]["first_is_gold"]["value"] == 0.5
    assert flow["document"]["sum"]["all"]["ap"]["value"] == pytest.approx((1 + 1 / 2) / 2)
    assert flow["sentence"]["sum"]["kind:bridge"]["ap"] == {"value": 0.25, "low": None, "high": None, "n": 1}
    assert got["strata"] == {
        "all": 2,
        "kind:bridge": 1,
        "kind:comparison": 1,
        "level:hard": 2,
        "answer:right": 1,
        "answer:wrong": 0,
    }
    assert got["answers"]["em"] == {"value": 1.0, "low": None, "high": None, "n": 1}
    assert flow["costs"]["seconds_with_read"]["value"] == 2.5
    assert flow["costs"]["forwards"]["value"] == 2.5
    assert (flow["main"], flow["best"]) == ("sum", "sum")
    assert got["differences"] == []
    assert flow["faithfulness"] is None


def test_levels_are_strata_from_easy_to_hard_without_rows_that_have_none():
    records = cases(14)
    given = ["hard", "easy", "", "medium", None, "easy", *(f"odd {i}" for i in range(8))]
    for record, level in zip(records, given, strict=True):
        record["level"] = level
    got = summarize(records)
    assert {name: n for name, n in got["strata"].items() if name.startswith("level:")} == {
        "level:easy": 2,
        "level:medium": 1,
        "level:hard": 1,
        **{f"level:odd {i}": 1 for i in range(8)},
    }
    assert [name for name in got["strata"] if name.startswith("level:")][:3] == [
        *("level:easy", "level:medium", "level:hard")
    ]
    easy = summarize([records[1], records[5]])["methods"]["flow"]["sentence"]["sum"]["all"]["ap"]["value"]
    assert got["methods"]["flow"]["sentence"]["sum"]["level:easy"]["ap"]["value"] == pytest.approx(easy)


@pytest.fixture(scope="module")
def many():
    return cases(40, only={"contextcite:32": 15}, faithful=True)


@pytest.fixture(scope="module")
def summary(many):
    return summarize(many)


def test_a_summary_has_every_method_aggregation_and_metric(summary):
    assert list(summary["methods"]) == list(METHODS)
    for name, method in summary["methods"].items():
        for unit in ("sentence", "document"):
            assert tuple(method[unit]) == METHODS[name][4]
            for by in method[unit].values():
                assert set(by["all"]) == set(METRICS)
                assert {"kind:bridge", "kind:comparison", "answer:right", "answer:wrong"} < set(by)
    assert summary["methods"]["contextcite:32"]["sentence"]["segment"]["all"]["ap"]["n"] == 15
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["peak_bytes"] == 10**9 + 39
    assert summary["settings"]["secondary_resamples"] == SECONDARY


def test_differences_are_paired_on_common_rows_and_the_better_comes_first(many, summary):
    found = {(d["method"], d["other"]): d for d in summary["differences"] if d["metric"] == "ap"}
    assert len(found) == math.comb(len(METHODS), 2)
    best = found["flow:retrieval", "random"]
    assert best["low"] > 0
    short = next(d for pair, d in found.items() if "contextcite:32" in pair and "flow:retrieval" in pair)
    assert short["n"] == 15
    ap = measure_cases(many).main("ap")
    names = list(METHODS)
    wanted = ap[:15, names.index(short["method"])] - ap[:15, names.index(short["other"])]
    assert short["value"] == pytest.approx(wanted.mean(), abs=1e-6)
    assert {d["metric"] for d in summary["differences"]} >= {"auroc", "mrr", "drop@1", "lds"}


def test_a_summary_has_faithfulness_and_costs(many, summary):
    found = summary["methods"]["flow:retrieval"]["faithfulness"]
    wanted = np.mean([record["faithfulness"]["lds"]["flow:retrieval"] for record in many])
    assert found["lds"]["value"] == pytest.approx(wanted, abs=1e-6)
    assert set(found) == {"drop@1", "drop@3", "drop@5", "lds"}
    assert summary["ablations"] == [{"convention": "text", "masks": 32, "seed": 7}]
    costs = summary["methods"]["contextcite:32"]["costs"]
    assert costs["passes"]["value"] == 32
    assert costs["forwards"]["n"] == 8
    assert not costs["reads"]


def test_rows_that_cannot_be_ranked_are_counted_and_left_out():
    records = cases(8, methods={"flow": METHODS["flow"], "random": METHODS["random"]})
    records[0]["gold"] = []
    records[1]["gold"] = list(range(12))
    records[2]["gold"] = [99]
    records[3]["methods"]["flow"]["scores"]["sum"][0] = math.nan
    records[4]["methods"]["flow"]["scores"]["sum"] = [1.0]
    records[5]["methods"]["flow"]["scores"]["sum"][0] = None
    records += [{"id": "s", "status": "skipped"}, {"id": "f", "status": "failed", "reason": "x"}, {"id": "?"}]
    got = summarize(records)
    counts = {"cases": 11, "done": 8, "skipped": 1, "failed": 1, "no_gold": 1, "all_gold": 1, "unusable": 4}
    assert got["counts"] == counts
    methods = got["methods"]
    assert methods["flow"]["sentence"]["sum"]["all"]["ap"]["n"] == 2
    assert methods["flow"]["sentence"]["max"]["all"]["ap"]["n"] == 5  # the other aggregations of those rows are usable
    assert methods["random"]["sentence"]["segment"]["all"]["ap"]["n"] == 5
    json.dumps(got, allow_nan=False)
    running = RunningMetrics()
    for record in records:
        running.add(record)
    assert running.counts == {"done": 8, "skipped": 1, "failed": 1, "None": 1}
    assert set(running.average_precision) == {"flow", "random"}


@pytest.mark.parametrize("records", [[], [{"id": "a", "status": "failed", "reason": "no"}]])
def test_a_run_without_a_done_case_has_a_summary(records):
    got = summarize(records)
    assert got["methods"] == {}
    assert got["differences"] == []
    assert got["counts"]["cases"] == len(records)


def test_running_means_are_those_of_the_summary(many, summary):
    running = RunningMetrics()
    assert running.average_precision == {}
    assert running.right is None
    for record in many:
        running.add(record)
    for name, value in running.average_precision.items():
        main = summary["methods"][name]["main"]
        assert value == pytest.approx(summary["methods"][name]["sentence"][main]["all"]["ap"]["value"], abs=1e-6)
    assert running.right == pytest.approx(summary["answers"]["em"]["value"], abs=1e-6)


def test_the_main_aggregation_can_be_chosen(many):
    got = summarize_arrays(measure_cases(many, "max"), main="max", resamples=50)
    assert got["methods"]["flow"]["main"] == "max"
    assert got["methods"]["random"]["main"] == "segment"
    assert got["settings"]["main"] == "max"
    assert {method["best"] for method in got["methods"].values()} <= {*AGGREGATIONS, "segment"}


def test_the_order_of_cases_does_not_change_means(many, summary):
    other = summarize(many[::-1], resamples=10)
    for name, method in summary["methods"].items():
        for how, by in method["sentence"].items():
            for metric, found in by["all"].items():
                same = other["methods"][name]["sentence"][how]["all"][metric]["value"]
                assert same == pytest.approx(found["value"], abs=2e-6)


def test_curves_and_first_ranks_of_a_run(many):
    arrays = measure_cases(many)
    assert np.nansum(arrays.first[0], axis=1) == pytest.approx(1)
    assert arrays.first.shape == (40, len(METHODS), len(BINS) + 1)
    assert np.isnan(arrays.first[20, list(METHODS).index("contextcite:32")]).all()
    assert arrays.first[:, 0, 0] == pytest.approx(arrays.main("first_is_gold")[:, 0])


@pytest.mark.parametrize(
    ("written", "expected", "right"),
    [
        ('The answer is: "Animorphs", a series.', "Animorphs", 1),
        ("It is in New York.", "York", 1),
        ("It is in Yorkshire.", "York", 0),
        ("Yes, both were.", "yes", 1),
        ("No. Yes was said before.", "yes", 0),
        ("", "York", 0),
        ("anything", "the", 0),
    ],
)
def test_says_finds_the_answer_in_a_sentence(written, expected, right):
    assert answers.contains_expected(written, expected) == right
    assert answers.contains_expected(written, "something else", (expected,)) == right

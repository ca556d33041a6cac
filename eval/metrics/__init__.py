"""Compute the metrics of a run: evidence, removals, bootstrap intervals and summaries. Imports numpy only."""

from attributor.eval.metrics.answers import contains_expected, exact_match, f1
from attributor.eval.metrics.case_arrays import BINS, DROPS, CaseArrays, are_indices, main_aggregation, measure_cases
from attributor.eval.metrics.evidence import LEVELS, MAIN, METRICS, linear_datamodeling_score
from attributor.eval.metrics.intervals import RESAMPLES, SEED, mean_intervals
from attributor.eval.metrics.removals import MODEL, NEEDED, SCORED
from attributor.eval.metrics.summary import RunningMetrics, summarize, summarize_arrays

__all__ = [
    "BINS",
    "DROPS",
    "LEVELS",
    "MAIN",
    "METRICS",
    "MODEL",
    "NEEDED",
    "RESAMPLES",
    "SCORED",
    "SEED",
    "CaseArrays",
    "RunningMetrics",
    "are_indices",
    "contains_expected",
    "exact_match",
    "f1",
    "linear_datamodeling_score",
    "main_aggregation",
    "mean_intervals",
    "measure_cases",
    "summarize",
    "summarize_arrays",
]

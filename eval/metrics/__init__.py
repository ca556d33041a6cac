"""From the scores of a run to numbers: evidence metrics, bootstrap intervals, summaries. numpy and scipy only."""

from attributor.eval.metrics.answers import exact_match, f1, says
from attributor.eval.metrics.case_arrays import BINS, DROPS, Scored, are_indices, main_aggregation, score_cases
from attributor.eval.metrics.evidence import LEVELS, MAIN, METRICS, linear_datamodeling_score
from attributor.eval.metrics.intervals import RESAMPLES, SEED, mean_intervals
from attributor.eval.metrics.summary import Running, summarize, summary_of

__all__ = [
    "BINS",
    "DROPS",
    "LEVELS",
    "MAIN",
    "METRICS",
    "RESAMPLES",
    "SEED",
    "Running",
    "Scored",
    "are_indices",
    "exact_match",
    "f1",
    "linear_datamodeling_score",
    "main_aggregation",
    "mean_intervals",
    "says",
    "score_cases",
    "summarize",
    "summary_of",
]

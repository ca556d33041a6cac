"""Fixtures of the evaluation tests: a tiny model, a file of examples, and a function that runs an evaluation."""

from eval_runs import evaluate, examples, model, tokenizer  # noqa: F401

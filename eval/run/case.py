"""Run one question: the model reads it once, every method scores this reading, and the result is one record."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attributor import methods as registry
from attributor._ask import AnswerPass, follow, force_answer, write_answer
from attributor._errors import InputError
from attributor._models import window_of
from attributor._prompt import encode_answer
from attributor.eval.config import Config
from attributor.eval.data import GeneratedQuestion, Question
from attributor.eval.metrics import contains_expected, exact_match, f1
from attributor.eval.run import faithfulness
from attributor.eval.run.memory import peak_bytes
from attributor.eval.run.prompts import CasePrompt, build_case_prompt
from attributor.eval.run.removals import fit_length, length_limit, measure_removals
from attributor.eval.run.verifier import Verifier
from attributor.eval.run.write_from_cache import write_from_cache
from attributor.methods import Fitted, FlowMethod, InNats, Method, Reading

__all__ = ["Setting", "failed_record", "release", "run_case", "unusable_record"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What all cases of a run share.

    Attributes:
        config: the run's settings.
        model: on its devices, in evaluation mode.
        tokenizer: the model's.
        methods: in the order in which they are run.
        weights: the weights to record with, for all methods; None: record nothing.
        verifier: judges written answers; None: no judgement.
        flow_file: returns the file for the flow of a case; None: flows are not saved.
    """

    config: Config
    model: Any
    tokenizer: Any
    methods: Sequence[Method]
    weights: Any
    verifier: Verifier | None = None
    flow_file: Callable[[str], Path] | None = None

    def close(self) -> None:
        """Close the verifier's connection."""
        if self.verifier is not None:
            self.verifier.__exit__()


def run_case(question: Question, setting: Setting, *, timed: bool = False, warm: bool = True) -> Record:
    """Run one question and attribute its answer by every method.

    Args:
        question: a question of the data set.
        setting: what all cases share.
        timed: also time the same pass without recording.
        warm: whether the model has run before; if not, it first reads this question untimed.

    Returns:
        The record that docs/eval.md describes, "done" or "skipped".

    Raises:
        AttributorError: the case cannot be run.
    """
    began = time.perf_counter()
    if isinstance(question, GeneratedQuestion):
        question = fit_length(question, setting.tokenizer, setting.config)
    case = build_case_prompt(setting.tokenizer, question)
    record = _empty(question) | _prompt_fields(case)
    writes = _is_written(question, setting.config)
    forced = None if writes else forced_answer(question, setting.tokenizer, setting.config)
    reason = _too_long(question, len(case.prompt.ids), forced, setting)
    if reason:
        return record | {"status": "skipped", "reason": reason, "seconds": time.perf_counter() - began}
    if not warm:
        _plain(case, forced, setting)
    answer_pass, generated = _answer(case, forced, setting)
    record |= {"seconds_plain": _plain(case, forced, setting) if timed else None, "seconds_read": answer_pass.seconds}
    text = question.answer if forced is not None else _decode(setting.tokenizer, answer_pass.answer)
    ablator = registry.Ablator(
        setting.model,
        setting.tokenizer,
        case.prompt,
        answer_pass.answer,
        case.segments,
        convention=setting.config.ablation,
        batch=setting.config.ablation_batch,
    )
    reading = Reading(
        setting.model,
        setting.tokenizer,
        case.prompt,
        answer_pass,
        case.segments,
        question=question.text,
        answer_text=text,
        ablate=ablator,
    )
    record |= {
        "status": "done",
        "answer": text,
        "answer_tokens": answer_pass.answer.numel(),
        "log_prob": float(reading.log_probs.sum()),
        **_judge_answer(question, generated, setting),
    }
    record["methods"] = {method.name: _score_method(method, reading) for method in setting.methods}
    if setting.config.faithfulness:
        designs = [method.design(reading) for method in setting.methods if isinstance(method, Fitted)]
        record["faithfulness"] = faithfulness.measure(
            {name: fields["scores"] for name, fields in record["methods"].items()},
            ablator,
            len(case.segments),
            convention=setting.config.ablation,
            count=setting.config.masks,
            seed=setting.config.mask_seed,
            case_id=question.id,
            fitted=designs,
        )
    if isinstance(question, GeneratedQuestion):
        record["removals"] = _measure_removals(question, case, answer_pass.answer, setting)
    if setting.flow_file is not None:
        _save_flow(reading, answer_pass, setting, question.id)
    record |= {"peak_bytes": peak_bytes(setting.model), "seconds": time.perf_counter() - began}
    return record


def failed_record(question: Question, error: BaseException) -> Record:
    """Return the record of a case that failed."""
    return _empty(question) | {"status": "failed", "reason": f"{type(error).__name__}: {error}"}


def unusable_record(name: str, reason: str) -> Record:
    """Return the record of a row that cannot be converted to a question."""
    return _empty(Question(name, "", "", (), frozenset())) | {"status": "failed", "reason": f"DataError: {reason}"}


def release(model: Any) -> None:
    """Free the memory that a failed case still holds; other cases leave nothing behind."""
    gc.collect()
    if getattr(model, "device", None) is not None and model.device.type == "cuda":
        torch.cuda.empty_cache()


def forced_answer(question: Question, tokenizer: Any, config: Config) -> Tensor:
    """(a,) int64: the expected answer, and with `config.end_token` its end token, if the tokenizer has one."""
    answer = encode_answer(tokenizer, question.answer)
    end = getattr(tokenizer, "eos_token_id", None)
    if not config.end_token or end is None:
        return answer
    return torch.cat([answer, torch.tensor([end])])


def _empty(question: Question) -> Record:
    return {
        "id": question.id,
        "status": "failed",
        "reason": None,
        "kind": question.kind,
        "level": question.level,
        "question": question.text,
        "expected": question.answer,
        "aliases": list(question.aliases),
        **dict.fromkeys(("tokens", "answer_tokens", "answer", "log_prob", "generated", "em", "f1", "says", "verified")),
        **dict.fromkeys(("verifier_error", "text")),
        **{name: [] for name in ("segments", "documents", "gold", "gold_documents")},
        "methods": {},
        **dict.fromkeys(("seconds", "seconds_read", "seconds_plain", "peak_bytes", "faithfulness", "removals")),
    }


def _prompt_fields(case: CasePrompt) -> Record:
    return {
        "tokens": len(case.prompt.ids),
        "text": case.prompt.text,
        "segments": [[s.start, s.stop, s.document] for s in case.segments],
        "documents": [[d.start, d.stop, d.label or ""] for d in case.prompt.documents],
        "gold": sorted(case.gold),
        "gold_documents": sorted(case.gold_documents),
    }


def _is_written(question: Question, config: Config) -> bool:
    """Return whether the model's own answer is attributed."""
    return config.answer == "generated" or (isinstance(question, GeneratedQuestion) and question.written)


def _too_long(question: Question, k: int, forced: Tensor | None, setting: Setting) -> str | None:
    """Return why a prompt of k tokens is skipped, or None. The last token of an answer is never read."""
    limits = {"--max-tokens": setting.config.max_tokens}
    if isinstance(question, GeneratedQuestion):
        limits["--tokens"] = length_limit(setting.config)
    for option, most in limits.items():
        if most is not None and k > most:
            return f"the prompt has {k:,} tokens, more than {option} {most:,}"
    window = window_of(setting.model)
    a = setting.config.max_new_tokens if forced is None else forced.numel()
    if window is not None and k + a - 1 > window:
        return f"the prompt has {k:,} tokens and its answer {a:,}; the model reads {window:,}"
    return None


def _answer(case: CasePrompt, forced: Tensor | None, setting: Setting) -> tuple[AnswerPass, str | None]:
    """Run the recorded pass over prompt and answer; also return the text of the model's own answer, or None."""
    model, ids, config = setting.model, case.prompt.ids, setting.config
    if forced is None:
        answer_pass = write_answer(
            model, ids, config.max_new_tokens, setting.weights, log_probs=True, keep_end=config.end_token
        )
        return answer_pass, _decode(setting.tokenizer, answer_pass.answer)
    answer_pass = force_answer(model, ids, forced, setting.weights, log_probs=True, cache=config.check_answer)
    if not config.check_answer:
        return answer_pass, None
    window = window_of(model)
    count = config.max_new_tokens if window is None else min(config.max_new_tokens, window - len(ids) + 1)
    written = write_from_cache(model, ids, count, answer_pass.cache)
    return replace(answer_pass, cache=None), _decode(setting.tokenizer, written)


def _plain(case: CasePrompt, forced: Tensor | None, setting: Setting) -> float:
    """Return the seconds of the same pass without recording."""
    model, ids = setting.model, case.prompt.ids
    if forced is None:
        return write_answer(model, ids, setting.config.max_new_tokens, None, log_probs=True).seconds
    return force_answer(model, ids, forced, None, log_probs=True).seconds


def _decode(tokenizer: Any, ids: Tensor) -> str:
    return str(tokenizer.decode(ids.tolist(), skip_special_tokens=True)).strip()


def _judge_answer(question: Question, generated: str | None, setting: Setting) -> Record:
    if generated is None:
        return {}
    judgement: Record = {
        "generated": generated,
        "em": exact_match(generated, question.answer, question.aliases),
        "f1": f1(generated, question.answer, question.aliases),
        "says": contains_expected(generated, question.answer, question.aliases),
    }
    if setting.verifier is not None:
        judgement["verified"], judgement["verifier_error"] = setting.verifier.ask(
            question.text, question.answer, generated, question.aliases
        )
    return judgement


def _score_method(method: Method, reading: Reading) -> Record:
    scored = registry.score(method, reading)
    return {
        "scores": {how: values.tolist() for how, values in scored.segments.items()},
        "documents": {how: values.tolist() for how, values in scored.documents.items()},
        "seconds": scored.seconds,
        "reads": scored.reads,
        "passes": scored.passes,
        "nats": isinstance(method, InNats),
    }


def _measure_removals(question: GeneratedQuestion, case: CasePrompt, answer: Tensor, setting: Setting) -> Record:
    """Measure what the answer loses when documents are removed with their titles."""
    convention = setting.config.ablation
    ablator = registry.Ablator(
        setting.model,
        setting.tokenizer,
        case.prompt,
        answer,
        case.documents,
        convention=convention,
        batch=setting.config.ablation_batch,
    )
    return measure_removals(question, ablator, convention=convention)


def _save_flow(reading: Reading, answer_pass: AnswerPass, setting: Setting, name: str) -> None:
    """Save the token-level flow of the first flow method, with the prompt's text and documents."""
    method = next((method for method in setting.methods if isinstance(method, FlowMethod)), None)
    if method is None or setting.flow_file is None:
        raise InputError("no method is a flow, so there is none to save")
    sequence = reading.prompt.with_answer(reading.answer, setting.tokenizer)
    weights = method.weights_for(setting.model)
    follow(answer_pass.recorded, sequence, weights, reading.question_tokens).save(setting.flow_file(name))

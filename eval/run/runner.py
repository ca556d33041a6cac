"""Runs the methods over the questions of a data set, case by case; a killed run resumes from its folder."""

import platform
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from attributor import methods as registry
from attributor._errors import ImplementationError, InputError, OutputError, UnsupportedModelError
from attributor._models import load_model, model_source
from attributor._prompt import build_prompt
from attributor.eval.config import Config
from attributor.eval.data import Question
from attributor.eval.metrics import summarize
from attributor.eval.run.case import Setting, failed_record, release, run_case
from attributor.eval.run.observer import RunObserver, SilentObserver
from attributor.eval.run.questions import (
    describe_data,
    list_case_ids,
    make_notes,
    make_unusable_records,
    read_questions,
)
from attributor.eval.run.shards import Shards
from attributor.eval.run.verifier import Verifier
from attributor.eval.store import CASE_PARTS, CASES, CaseWriter, Follower, RunFolder
from attributor.methods import FlowMethod

__all__ = ["RunOutcome", "run_evaluation"]

PACKAGES = (
    "attributor",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scikit-learn",
    "scipy",
    "sentence-transformers",
)
FATAL = (UnsupportedModelError, ImplementationError, OutputError)  # the next case would fail too
Record = dict[str, Any]


@dataclass(frozen=True)
class RunOutcome:
    """The result of a run.

    Attributes:
        folder: the run folder.
        run: the content of run.json.
        was_complete: whether the run was complete before, so that nothing was run.
        is_first: whether this is the first of the processes that shared the cases.
    """

    folder: Path
    run: Record
    was_complete: bool
    is_first: bool = True

    @property
    def failed(self) -> int:
        """The number of failed cases."""
        return int(self.run["counts"]["failed"])


def run_evaluation(
    config: Config,
    out: Path,
    *,
    model: Any = None,
    tokenizer: Any = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    observer: RunObserver | None = None,
    debug: Callable[[str], None] | None = None,
) -> RunOutcome:
    """Run or resume an evaluation.

    Args:
        config: the settings.
        out: the run folder, which is created if missing.
        model: a loaded model; None: load `config.model`.
        tokenizer: the tokenizer of `model`.
        overwrite: remove the earlier run in the folder and start anew.
        retry_failed: run failed cases again; otherwise their records are kept.
        observer: receives the progress; in a shared run only that of the first process does.
        debug: called with the traceback of each case that fails.

    Returns:
        The outcome, metrics included. Cases that failed are counted in it and raise no error.

    Raises:
        InputError: settings, data or a folder that cannot be used.
        OutputError: a record could not be written; every case before is kept.
        OtherProcessError: in a shared run, another process failed and has reported why.
        KeyboardInterrupt: the run was interrupted; the folder is complete up to the last case.
    """
    shards = Shards.join()
    observer = observer if observer is not None and shards.is_first else SilentObserver()
    folder = RunFolder(out)
    try:
        return _run(config, folder, shards, observer, model, tokenizer, overwrite, retry_failed, debug)
    finally:
        observer.end()
        folder.close()
        shards.leave()


def _run(
    config: Config,
    folder: RunFolder,
    shards: Shards,
    observer: RunObserver,
    model: Any,
    tokenizer: Any,
    overwrite: bool,
    retry_failed: bool,
    debug: Callable[[str], None] | None,
) -> RunOutcome:
    earlier: list[Record] = []

    def prepare() -> tuple[list[str], bool]:
        """Open the folder before a model is loaded; return the earlier cases' ids, and whether the run is complete."""
        shards.device_map(config.device_map)
        _check_settings(config)
        data = read_questions(config)
        for note in [*folder.open(config, describe_data(data), overwrite=overwrite), *make_notes(data)]:
            observer.note(note)
        for record in folder.records().values():
            if not (retry_failed and record["status"] == "failed"):
                earlier.append(record)
        ids = [record["id"] for record in earlier]
        return ids, set(list_case_ids(data)) <= set(ids) and (folder.run or {}).get("status") == "done"

    observer.start_stage("Reading the data")
    known, complete = shards.run_in_first(prepare)
    if complete:
        return RunOutcome(folder.path, folder.run or {}, True, shards.is_first)
    data = read_questions(config)
    earlier_ids = set(known)
    problems = [record for record in make_unusable_records(data) if record["id"] not in earlier_ids]
    pending = [(i, question) for i, question in enumerate(data.questions) if question.id not in earlier_ids]
    began = time.perf_counter()
    try:
        with ExitStack() as stack:
            setting = None
            if pending:
                observer.start_stage(f"Loading {config.model}")
                device_map = shards.device_map(config.device_map)
                setting = _prepare_setting(config, folder, observer, model, tokenizer, device_map)
                stack.callback(setting.close)
            if shards.is_first:
                folder.update(
                    {"status": "running"} | ({} if setting is None else _describe_environment(setting, shards))
                )
            own = folder.path / (CASE_PARTS.replace("*", str(shards.rank)) if shards.is_shared else CASES)
            follower = Follower(folder, own)
            observer.start_cases(len(list_case_ids(data)), earlier)

            def report_others() -> None:
                for record in follower.read_new():
                    observer.add_case(record)

            writer = stack.enter_context(CaseWriter(own))
            for number, (index, question) in enumerate(shards.own_share(pending)):
                assert setting is not None
                timed = index < config.cost_rows
                record = _run_or_record_failure(question, setting, timed=timed, warm=number > 0, debug=debug)
                writer.write(record)
                observer.add_case(record)
                if shards.is_first and shards.is_shared:
                    report_others()
            for record in problems if shards.is_first else ():
                writer.write(record)
                observer.add_case(record)
        shards.wait(report_others if shards.is_first else None)
    except KeyboardInterrupt:
        if shards.is_first:
            folder.update({"status": "interrupted"})
        raise
    observer.start_stage("Computing the metrics")
    seconds = time.perf_counter() - began
    result = shards.run_in_first(lambda: _finish_run(folder, list_case_ids(data), seconds))
    return RunOutcome(folder.path, result, False, shards.is_first)


def _check_settings(config: Config) -> None:
    """Raise InputError for settings that conflict."""
    methods = registry.parse(config.methods)
    registry.check_libraries(config.methods)
    if config.save_flows and not any(isinstance(method, FlowMethod) for method in methods):
        raise InputError(f"--save-flows keeps flows, and no method is one ({', '.join(config.methods)}); add flow")
    if config.verifier is not None:
        if config.answer == "expected" and not config.check_answer:
            raise InputError("--verifier judges the model's own answer; --no-check-answer has it write none")
        with Verifier(config.verifier, config.verifier_model):
            pass
    elif config.verifier_model is not None:
        raise InputError("--verifier-model goes with --verifier URL")


def _prepare_setting(
    config: Config, folder: RunFolder, observer: RunObserver, model: Any, tokenizer: Any, device_map: str | None
) -> Setting:
    """Load what all cases share; an error that would affect every case is raised here."""
    methods = registry.parse(config.methods)
    if model is None:
        model, tokenizer = load_model(
            config.model,
            dtype=config.dtype,
            device_map=device_map,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    # an unusable chat template or tokenizer raises here, before the first case
    if note := build_prompt(tokenizer, [("A title", "A sentence.")], "A question?").note:
        observer.note(note)
    weights = registry.union(methods, model)
    verifier = None if config.verifier is None else Verifier(config.verifier, config.verifier_model)
    flow_file = folder.flow_file if config.save_flows else None
    return Setting(config, model, tokenizer, methods, weights, verifier, flow_file)


def _run_or_record_failure(
    question: Question, setting: Setting, *, timed: bool, warm: bool, debug: Callable[[str], None] | None
) -> Record:
    """Run one case; an error of this case alone is written into its record."""
    try:
        record: Record = run_case(question, setting, timed=timed, warm=warm)
        return record
    except FATAL:
        raise
    except Exception as error:
        if debug is not None:
            debug(traceback.format_exc())
        record = failed_record(question, error)
    release(setting.model)  # outside the handler, where no traceback holds the case's tensors
    return record


def _finish_run(folder: RunFolder, order: Sequence[str], seconds: float) -> Record:
    """Merge the parts, compute the metrics, write run.json."""
    cases = list(folder.merge(order).values())
    counts = {status: sum(case["status"] == status for case in cases) for status in ("done", "skipped", "failed")}
    more: Record = {
        "status": "done",
        "counts": {"rows": len(order), **counts},
        "metrics": summarize(cases),
        "seconds": {"last_session": seconds, "cases": sum(case.get("seconds") or 0.0 for case in cases)},
    }
    content: Record = folder.update(more)
    return content


def _describe_environment(setting: Setting, shards: Shards) -> Record:
    """Return the versions, device and processes of this session."""
    return {
        "versions": {"python": platform.python_version()} | {name: _version_of(name) for name in PACKAGES},
        "device": _describe_device(setting.model),
        "processes": shards.count,
        "weights_from": model_source(setting.model),
    }


def _describe_device(model: Any) -> str:
    """Describe the model's devices, the threads and the dtype."""
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    names = [torch.cuda.get_device_name(torch.device(name)) for name in devices if name.startswith("cuda")]
    shown = f"{', '.join(devices)} ({', '.join(names)})" if names else ", ".join(devices)
    return f"{shown}, {torch.get_num_threads()} threads, {str(model.dtype).removeprefix('torch.')}"


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

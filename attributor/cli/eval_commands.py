"""The commands below `attributor eval`: one for each data set, with shared options, and `report`."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer
from typer import rich_utils
from typer.core import TyperCommand

from attributor._models import DEFAULT_MODEL
from attributor.cli import eval_options as opt
from attributor.cli import options as shared
from attributor.cli.run_command import report_errors
from attributor.eval.data import DataSet, data_sets

__all__ = ["app"]

READ_ONLY = ("data", "config", "split", "limit", "max_tokens")  # options of data sets that are read from files
GENERATED_ONLY = ("rows", "tokens", "kinds", "seed")  # options of data sets that are generated

app = typer.Typer(name="eval", help=opt.EVAL_HELP, no_args_is_help=True, rich_markup_mode="rich")


class _WithMethods(TyperCommand):
    """A command whose help ends with a panel of all methods, which is built when the help is printed."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print typer's panels, then the panel of methods."""
        super().format_help(ctx, formatter)
        from rich.console import Console
        from rich.panel import Panel
        from rich.table import Table

        from attributor.methods import describe

        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="bold cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for name, summary, _ in describe():
            table.add_row(name, summary)
        Console(width=rich_utils.MAX_WIDTH).print(
            Panel(table, title="Methods", title_align="left", border_style=rich_utils.STYLE_OPTIONS_PANEL_BORDER)
        )


def _run(
    context: typer.Context,
    data: opt.Data = None,
    config: str | None = None,
    split: str | None = None,
    limit: opt.Limit = None,
    max_tokens: opt.MaxTokens = None,
    rows: int | None = None,
    tokens: int | None = None,
    kinds: str | None = None,
    seed: int | None = None,
    model: shared.Model = DEFAULT_MODEL,
    dtype: shared.DtypeOption = shared.Dtype.auto,
    device_map: shared.DeviceMap = None,
    revision: shared.Revision = None,
    trust_remote_code: shared.TrustRemoteCode = False,
    method: opt.MethodNames = None,
    save_flows: opt.SaveFlows = False,
    cost_rows: opt.CostRows = 8,
    answer: opt.Answer = opt.AnswerKind.expected,
    max_new_tokens: opt.MaxNewTokens = 32,
    check_answer: opt.CheckAnswer = True,
    end_token: opt.EndToken = True,
    verifier: opt.VerifierUrl = None,
    verifier_model: opt.VerifierModel = None,
    faithfulness: opt.Faithfulness = False,
    ablation: opt.AblationKind = opt.Ablation.text,
    masks: opt.Masks = 32,
    mask_seed: opt.MaskSeed = 0,
    ablation_batch: opt.AblationBatch = 8,
    out: opt.Out = None,
    overwrite: opt.Overwrite = False,
    retry_failed: opt.RetryFailed = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Evaluate on the data set with the command's name."""
    _evaluate(str(context.info_name), context.params)


def _command(data_set: DataSet) -> Callable[..., None]:
    """`_run` with the options of one data set.

    Data sets on the hub have --config and --split. Data sets with generated rows read no file. The others require DATA.
    """
    signature = inspect.signature(_run)
    parameters = dict(signature.parameters)
    for name in READ_ONLY if data_set.kinds else GENERATED_ONLY:
        del parameters[name]
    if data_set.kinds:
        for name, (annotation, default) in opt.generated_options(data_set).items():
            parameters[name] = parameters[name].replace(annotation=annotation, default=default)
    elif data_set.hub:
        parameters["config"] = parameters["config"].replace(annotation=opt.hub_config(data_set))
        parameters["split"] = parameters["split"].replace(annotation=opt.hub_split(data_set))
    else:
        del parameters["config"], parameters["split"]
        required = inspect.Parameter.empty
        parameters["data"] = parameters["data"].replace(annotation=opt.DataFile, default=required)

    @wraps(_run)
    def command(**options: Any) -> None:
        _run(**options)

    # typer reads a command's options from its signature
    vars(command)["__signature__"] = signature.replace(parameters=list(parameters.values()))
    return command


def _evaluate(dataset: str, options: dict[str, Any]) -> None:
    with report_errors(f"eval {dataset}", options["debug"]):
        from attributor.cli.eval_run import evaluate

        evaluate(dataset, options)


for _data_set in data_sets().values():
    if _data_set.file is None:
        app.command(_data_set.name, cls=_WithMethods, help=opt.dataset_help(_data_set), short_help=_data_set.summary)(
            _command(_data_set)
        )


@app.command(help=opt.REPORT_HELP)
def report(
    runs: opt.Runs,
    out: opt.ReportOut = None,
    baseline: opt.Baseline = None,
    as_json: opt.ReportJson = False,
    debug: shared.Debug = False,
) -> None:
    """Show tables of runs, and write tables and plots."""
    with report_errors("eval report", debug):
        from attributor.cli.eval_report import report_runs

        report_runs(runs, out, baseline, as_json)

"""The options of `attributor eval`, with their help, by panel of `--help`."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from attributor.cli.options import option, unwrap
from attributor.eval.config import default_methods, removal_methods
from attributor.eval.data import DataSet

__all__ = ["EVAL_HELP", "REPORT_HELP", "dataset_help", "generated_options", "hub_config", "hub_split"]

EVAL_HELP = unwrap("""Measure how well attribution finds the evidence that people marked, or what the model really used.

[bold]attributor eval hotpotqa[/] runs on questions that come with attributor, with the default model. It needs
nothing else.""")

DATA, METHODS, ANSWER, ABLATION, RUN = "The data", "The methods", "The answer", "Faithfulness", "The run"


def dataset_help(data_set: DataSet) -> str:
    """The help of one data set's command, without the list of methods, which `_WithMethods` prints."""
    examples = "\n\n".join(_example(line) for line in data_set.commands)
    truth = "what the answers lose without each document" if data_set.kinds else "the evidence that people marked"
    return unwrap(f"""Have a model answer questions, attribute the answers by several methods, and compare with
{truth}.

{data_set.description}

Every method scores the same answers. Methods that read attention share one recorded forward pass for each question.
Each question is written to the run's folder when it is done. To resume a run that was interrupted or killed, give the
same command again.

[bold]Examples[/]

{examples}

Exit status: 0 done; 1 an error, or rows that failed; 2 wrong options; 130 interrupted.""")


def _example(line: str) -> str:
    command, gap, remark = line.partition("  ")
    return f"[cyan]{command}[/]{gap}{remark}"


REPORT_HELP = unwrap("""Show the results of runs: a table here; Markdown, CSV and a page with plots in a folder.

Several runs of the same rows are compared, with intervals.

[bold]Examples[/]

[cyan]attributor eval report runs/sample-SmolLM2-135M-Instruct[/]

[cyan]attributor eval report runs/a runs/b --out comparison[/]""")


class AnswerKind(str, Enum):
    """Which answer is attributed."""

    expected = "expected"
    generated = "generated"


class Ablation(str, Enum):
    """How segments are left out: from the text, or by an attention mask."""

    text = "text"
    mask = "mask"


def _number(panel: str, text: str, low: int = 1) -> Any:
    return option(panel, text, min=low, metavar="N")


Data = Annotated[Path | None, typer.Argument(metavar="DATA", help="A .json or .jsonl file.", show_default=False)]
DataFile = Annotated[Path, typer.Argument(metavar="DATA", help="A .json or .jsonl file.", show_default=False)]


def hub_config(data_set: DataSet) -> Any:
    """The option --config of a data set on the hub."""
    names = " or ".join(data_set.splits)
    return Annotated[
        str | None, option(DATA, f"The configuration of the public data set: {names}.", "--config", metavar="NAME")
    ]


def hub_split(data_set: DataSet) -> Any:
    """The option --split of a data set on the hub."""
    names = ", ".join(data_set.splits[data_set.default_split[0]])
    return Annotated[str | None, option(DATA, f"The split of the public data set: {names}.", metavar="NAME")]


def generated_options(data_set: DataSet) -> dict[str, tuple[Any, Any]]:
    """{name: (annotation, default)} of the options that only generated data sets have."""
    kinds = ", ".join(data_set.kinds)
    kinds_help = f"Some of {kinds}, separated by commas.  [dim]\\[default: all][/]"
    tokens_help = "The longest prompt: distractors are added until no more fit into it."
    return {
        "rows": (Annotated[int, _number(DATA, "The number of rows of each kind.")], data_set.rows),
        "tokens": (Annotated[int, _number(DATA, tokens_help)], data_set.tokens),
        "kinds": (Annotated[str | None, option(DATA, kinds_help, "--kinds", metavar="KINDS")], None),
        "seed": (Annotated[int, option(DATA, "Another seed gives other names, facts and questions.", metavar="N")], 0),
        "method": (RemovalMethodNames, None),
    }


Limit = Annotated[int | None, _number(DATA, "Use only the first N rows.")]
MaxTokens = Annotated[
    int | None,
    _number(
        DATA, "Skip prompts longer than N tokens. Prompts that do not fit the model are always skipped, never cut."
    ),
]


def _method_names(default: str) -> Any:
    shown = f"[dim]\\[default: {default} if heads are shipped for the model][/]"
    text = f"Names, separated by commas, see below.  {shown}"
    return Annotated[str | None, option(METHODS, text, "--method", "--methods", metavar="NAMES")]


MethodNames = _method_names(f"{', '.join(default_methods())}, and flow:retrieval")
RemovalMethodNames = _method_names(f"{', '.join(removal_methods())}; flow:retrieval in place of flow")
SaveFlows = Annotated[bool, option(METHODS, "Save the scores of every token by the first flow method.", "--save-flows")]
CostRows = Annotated[int, _number(METHODS, "On the first N rows, also time a plain forward pass.", 0)]

Answer = Annotated[
    AnswerKind, option(ANSWER, "Attribute the data set's answer, or the answer that the model writes.", "--answer")
]
MaxNewTokens = Annotated[int, _number(ANSWER, "Maximum number of tokens to generate.")]
CheckAnswer = Annotated[
    bool,
    option(ANSWER, "With the expected answer, also have the model write its own, to check whether it is right."),
]
EndToken = Annotated[
    bool,
    option(ANSWER, "Also attribute the token that ends the answer.", "--end-token/--no-end-token"),
]
VerifierUrl = Annotated[
    str | None,
    option(
        ANSWER,
        "Base URL of an OpenAI-compatible endpoint that judges written answers. Its key comes from the environment: "
        "ATTRIBUTOR_VERIFIER_KEY or OPENAI_API_KEY.",
        "--verifier",
        metavar="URL",
    ),
]
VerifierModel = Annotated[str | None, option(ANSWER, "The model that judges.", metavar="NAME")]

Faithfulness = Annotated[
    bool,
    option(ABLATION, "Also measure how leaving segments out changes the answer: drops and LDS.", "--faithfulness"),
]
AblationKind = Annotated[
    Ablation, option(ABLATION, "How segments are left out, also by methods that leave segments out.", "--ablation")
]
Masks = Annotated[int, _number(ABLATION, "The number of random ablations for LDS.", 3)]
MaskSeed = Annotated[int, option(ABLATION, "The seed of the random ablations.", metavar="N")]
AblationBatch = Annotated[int, _number(ABLATION, "The number of ablations in one batch.")]

Out = Annotated[
    Path | None,
    option(RUN, "The run's folder.  [dim]\\[default: runs/DATA-MODEL-ROWS][/]", "--out", "-o", metavar="FOLDER"),
]
Overwrite = Annotated[bool, option(RUN, "Remove the run in the folder and start again.", "--overwrite")]
RetryFailed = Annotated[bool, option(RUN, "Run failed rows again.", "--retry-failed")]
Json = Annotated[bool, option(RUN, "Print run.json on stdout and nothing else.", "--json")]
Debug = Annotated[bool, option(RUN, "Show the tracebacks of errors, also of rows that failed.", "--debug")]

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)]
ReportOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FOLDER",
        help="The folder for the files.  [dim]\\[default: report, or compared, in the first run's folder][/]",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD", help="Compare every method with this one.  [dim]\\[default: the best of the others][/]"
    ),
]
ReportJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON; write no files.")]

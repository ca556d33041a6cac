"""The options of the command line, with their help, by panel of `--help`."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from attributor._heads import PRESETS
from attributor._models import DEFAULT_MODEL


def unwrap(text: str) -> str:
    """Put each paragraph on one line: the help's renderer breaks lines itself, and keeps line breaks of the text."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


HELP = unwrap("""Show which sentences and documents a language model's answer came from.

[bold]attributor demo[/] does this with documents that come with attributor, [bold]attributor ask[/] with your own.""")

ASK_HELP = unwrap("""Answer a question about documents, and cite the sentences that the answer came from.

The model reads the prompt once and writes an answer, or reads the answer that you give. attributor then follows the
attention from the answer back to the prompt. A share is a part of what came from the documents. Options of two words
may also be written with an underscore (--device_map). [cyan]attributor flow[/] is the old name of this command.

[bold]Examples[/]

[cyan]attributor ask -d notes.txt -d minutes.txt -q "When do we meet?"[/]

[cyan]attributor ask -d notes/ -q "When do we meet?" --answer "On Monday." --html monday.html[/]

[cyan]attributor ask -d report.pdf -q "How much did it cost?" --effects claims --without 1[/]

[cyan]attributor ask --model Qwen/Qwen2.5-7B-Instruct --device-map auto --messages chat.json[/]

[cyan]attributor ask --prompt-file prompt.txt --raw --answer " Paris" --by token --json[/]

Exit status: 0 done; 1 failed, one sentence on stderr gives the reason; 2 wrong options; 130 interrupted.""")

DEMO_HELP = unwrap(f"""Show where an answer came from, with ten short documents that come with attributor: notes on an
invented island.

Uses {DEFAULT_MODEL}, downloaded once, and the retrieval heads that are shipped for it. They were found without labels.
[cyan]--weights mean[/] shows the plain definition, in which all heads count the same.""")

INFO_HELP = "Show versions, implementations (and why one is missing), instruction set, memory, cache and default model."

PROMPT, ANSWER, MODEL, FLOW, OUTPUT = "The prompt", "The answer", "The model", "The flow", "The output"


class By(str, Enum):
    """The kind of pieces that are listed."""

    token = "token"
    sentence = "sentence"
    document = "document"


class EffectsBy(str, Enum):
    """The text whose log-probability `needed` describes: the whole answer, or each claim."""

    answer = "answer"
    claims = "claims"


class Dtype(str, Enum):
    """The dtype in which a model is loaded."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


Documents = Annotated[
    list[Path] | None,
    option(
        PROMPT,
        "A UTF-8 text file, a PDF, a folder of .txt, .md and .pdf files, or - for stdin. Repeat it for more documents. "
        "If the first line of a text ends in a colon, it is the title; otherwise the title is the file's name.",
        "--document",
        "-d",
        metavar="FILE",
    ),
]
Question = Annotated[
    str | None, option(PROMPT, "The question about the documents.", "--question", "-q", metavar="TEXT")
]
Instruction = Annotated[
    str | None, option(PROMPT, "The line that says how to answer, in place of the default one.", metavar="TEXT")
]
Messages = Annotated[
    Path | None,
    option(
        PROMPT,
        r'Chat messages, JSON: \[{"role": "user", "content": "..."}, ...]. '
        "If the last message is the assistant's, it is the answer.",
        metavar="FILE",
    ),
]
PromptFile = Annotated[
    Path | None, option(PROMPT, "One text as the prompt; its paragraphs count as documents.", metavar="FILE")
]
Chat = Annotated[
    bool | None,
    option(
        PROMPT,
        "Use the prompt file as a chat turn, or unchanged.  "
        r"[dim]\[default: chat, if the model has a chat template][/]",
        "--chat/--raw",
    ),
]
System = Annotated[str | None, option(PROMPT, "A system message.", metavar="TEXT")]

Answer = Annotated[
    str | None, option(ANSWER, "Attribute this answer; the model does not write one.", "--answer", "-a", metavar="TEXT")
]
MaxNewTokens = Annotated[
    int | None, option(ANSWER, r"Maximum number of tokens to generate.  [dim]\[default: 64][/]", min=1, metavar="N")
]

Model = Annotated[str, option(MODEL, "A hub id, a folder or a .gguf file.", "--model", "-m", metavar="MODEL")]
DtypeOption = Annotated[
    Dtype,
    option(
        MODEL, "The dtype to load it in; auto: the saved dtype.", "--dtype", metavar="auto|float32|bfloat16|float16"
    ),
]
DeviceMap = Annotated[str | None, option(MODEL, "The device to load it on: auto, cuda, cpu ...", metavar="MAP")]
Revision = Annotated[str | None, option(MODEL, "Branch, tag or commit on the hub.", metavar="REV")]
TrustRemoteCode = Annotated[bool, option(MODEL, "Run Python code that comes with the model.", "--trust-remote-code")]

PRESET_HELP = ", ".join(f"{name} ({preset.help})" if preset.help else name for name, preset in PRESETS.items())
Weights = Annotated[
    str,
    option(
        FLOW,
        f"How much each head counts: {PRESET_HELP}, or a weights file.",
        "--weights",
        "-w",
        metavar="NAME|FILE",
    ),
]
Power = Annotated[
    float | None,
    option(FLOW, "Exponent of the attention; above 1 favours heads whose attention is concentrated.", metavar="P"),
]
Impl = Annotated[
    str | None,
    option(FLOW, "Implementation of the sweep, see attributor info.  [dim]\\[default: the best][/]", metavar="NAME"),
]
ByOption = Annotated[By, option(FLOW, "The pieces to list.", "--by")]
How = Annotated[
    str,
    option(
        FLOW,
        "How the tokens' scores become one number; top5: the mean of the 5 largest.",
        "--how",
        metavar="sum|mean|max|topK",
    ),
]

Top = Annotated[int, option(OUTPUT, "How many pieces to list; 0: all.", "--top", "-n", min=0)]
Json = Annotated[bool, option(OUTPUT, "Print JSON on stdout and nothing else.", "--json")]
Html = Annotated[Path | None, option(OUTPUT, "Also write a standalone page.", metavar="FILE")]
Page = Annotated[Path, option(OUTPUT, "Where to write the standalone page.", "--html", metavar="FILE")]
Save = Annotated[
    Path | None, option(OUTPUT, "Also save the flow (.safetensors), for attributor.load().", metavar="FILE")
]
Without = Annotated[
    int | None,
    option(
        ANSWER,
        "Afterwards leave out source [N] and answer again. Shows the new answer, and how much log p of the first "
        "answer changes.",
        "--without",
        min=1,
        metavar="N",
    ),
]
Effects = Annotated[
    EffectsBy | None,
    option(
        ANSWER,
        "For each cited sentence, compute needed: how much log-probability the answer, or the claim, loses without "
        "it. This takes one forward pass for each cited sentence, and one backward pass for the answer or for each "
        "claim.",
        "--effects",
        metavar="answer|claims",
    ),
]
Debug = Annotated[bool, option(OUTPUT, "Show the traceback of an error.", "--debug")]

"""The options of the command line: each with its help, in the panels that `--help` shows."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from attributor._heads import PRESETS
from attributor._models import DEFAULT_MODEL


def unwrap(text: str) -> str:
    """Paragraphs on one line each: the help's renderer breaks lines itself, and would keep ours."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


HELP = unwrap("""Which sentences and documents did a language model's answer come from?

[bold]attributor demo[/] shows it on documents that come with attributor; [bold]attributor ask[/] is for your own.""")

ASK_HELP = unwrap("""Answer a question about documents, and cite the sentences that the answer came from.

The model reads the prompt once and writes its answer, or takes the one you give it. Its attention is then followed
back from the answer to the prompt. Shares are of what came from the documents. Options of two words may also be
written with an underscore (--device_map). [cyan]attributor flow[/] is the same command.

[bold]Examples[/]

[cyan]attributor ask -d notes.txt -d minutes.txt -q "When do we meet?"[/]

[cyan]attributor ask -d notes/ -q "When do we meet?" --answer "On Monday." --html monday.html[/]

[cyan]attributor ask -d report.pdf -q "How much did it cost?" --effects claims --without 1[/]

[cyan]attributor ask --model Qwen/Qwen2.5-7B-Instruct --device-map auto --messages chat.json[/]

[cyan]attributor ask --prompt-file prompt.txt --raw --answer " Paris" --by token --json[/]

Exit status: 0 done; 1 it could not be done, and one sentence on stderr says why; 2 wrong options; 130 interrupted.""")

DEMO_HELP = unwrap(f"""Show where an answer came from, on ten short documents of our own: notes on an
invented island.

Uses {DEFAULT_MODEL}, fetched once, and the retrieval heads shipped for it: heads that were found, without any labels,
to look facts up in a prompt. [cyan]--weights mean[/] shows the plain definition, in which all heads count the same.""")

INFO_HELP = "Show versions, implementations (and why one is missing), instruction set, memory, cache and default model."

PROMPT, ANSWER, MODEL, FLOW, OUTPUT = "The prompt", "The answer", "The model", "The flow", "The output"


class By(str, Enum):
    """What is listed."""

    token = "token"
    sentence = "sentence"
    document = "document"


class EffectsBy(str, Enum):
    """Whose log-probability is followed back to the sentences."""

    answer = "answer"
    claims = "claims"


class Dtype(str, Enum):
    """What a model is loaded as."""

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
        "A UTF-8 text file, a PDF, a folder of .txt, .md and .pdf files, or - for stdin; repeat it for more. A text's "
        "first line that ends in a colon is the title, else the file's name is.",
        "--document",
        "-d",
        metavar="FILE",
    ),
]
Question = Annotated[str | None, option(PROMPT, "What to ask about the documents.", "--question", "-q", metavar="TEXT")]
Instruction = Annotated[str | None, option(PROMPT, "How to answer, in place of our own line.", metavar="TEXT")]
Messages = Annotated[
    Path | None,
    option(
        PROMPT,
        r'Chat messages, JSON: \[{"role": "user", "content": "..."}, ...]. '
        "If the last one is the assistant's, it is the answer.",
        metavar="FILE",
    ),
]
PromptFile = Annotated[Path | None, option(PROMPT, "One text; its paragraphs count as documents.", metavar="FILE")]
Chat = Annotated[
    bool | None,
    option(
        PROMPT,
        "The prompt file is a chat turn, or is used as it stands.  "
        r"[dim]\[default: chat, where the model has a template][/]",
        "--chat/--raw",
    ),
]
System = Annotated[str | None, option(PROMPT, "A system message.", metavar="TEXT")]

Answer = Annotated[
    str | None, option(ANSWER, "Attribute this answer; the model writes none.", "--answer", "-a", metavar="TEXT")
]
MaxNewTokens = Annotated[
    int | None, option(ANSWER, r"The longest answer to write.  [dim]\[default: 64][/]", min=1, metavar="N")
]

Model = Annotated[str, option(MODEL, "A hub id, a folder or a .gguf file.", "--model", "-m", metavar="MODEL")]
DtypeOption = Annotated[
    Dtype,
    option(MODEL, "What to load it as; auto: as it was saved.", "--dtype", metavar="auto|float32|bfloat16|float16"),
]
DeviceMap = Annotated[str | None, option(MODEL, "Where to put it: auto, cuda, cpu ...", metavar="MAP")]
Revision = Annotated[str | None, option(MODEL, "Branch, tag or commit on the hub.", metavar="REV")]
TrustRemoteCode = Annotated[bool, option(MODEL, "Run Python code that comes with the model.", "--trust-remote-code")]

PRESET_HELP = ", ".join(f"{name} ({preset.help})" if preset.help else name for name, preset in PRESETS.items())
Weights = Annotated[
    str,
    option(
        FLOW,
        f"How much each head counts: {PRESET_HELP}, or a weights file. mean is the plain definition.",
        "--weights",
        "-w",
        metavar="NAME|FILE",
    ),
]
Power = Annotated[float | None, option(FLOW, "Exponent of the attention; above 1 favours decided heads.", metavar="P")]
Impl = Annotated[
    str | None, option(FLOW, "Implementation: see attributor info.  [dim]\\[default: the best][/]", metavar="NAME")
]
ByOption = Annotated[By, option(FLOW, "What to list.", "--by")]
How = Annotated[
    str, option(FLOW, "How its tokens add up; top5: the mean of the 5 largest.", "--how", metavar="sum|mean|max|topK")
]

Top = Annotated[int, option(OUTPUT, "How many to list; 0: all.", "--top", "-n", min=0)]
Json = Annotated[bool, option(OUTPUT, "JSON on stdout and nothing else.", "--json")]
Html = Annotated[Path | None, option(OUTPUT, "Write a standalone page.", metavar="FILE")]
Page = Annotated[Path, option(OUTPUT, "Where to write the standalone page.", "--html", metavar="FILE")]
Save = Annotated[Path | None, option(OUTPUT, "Save the flow (.safetensors) for attributor.load().", metavar="FILE")]
Without = Annotated[
    int | None,
    option(
        ANSWER,
        "Afterwards leave out source [N], answer again, and compare: the new answer, and the change in log p of the "
        "first one.",
        "--without",
        min=1,
        metavar="N",
    ),
]
Effects = Annotated[
    EffectsBy | None,
    option(
        ANSWER,
        "Also say what the answer, or each claim, needed: a share says how much was read of a sentence, needed says "
        "how much log-probability is lost without it. One more forward pass a cited sentence, and one backward pass "
        "for the answer, or one a claim.",
        "--effects",
        metavar="answer|claims",
    ),
]
Debug = Annotated[bool, option(OUTPUT, "Show the traceback of an error.", "--debug")]

"""The JSON bodies of requests and responses of `attributor serve`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from attributor._heads import PRESETS, PresetName

__all__ = [
    "CountRequest",
    "Counted",
    "Document",
    "Dtype",
    "Head",
    "JobStarted",
    "LoadRequest",
    "Memory",
    "Message",
    "ModelState",
    "RunInfo",
    "RunRequest",
    "Runs",
    "WeighRequest",
]

PRESET_NAMES = ", ".join(f'"{name}"' for name in PRESETS)
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Index = Annotated[int, Field(ge=0, le=1 << 20)]
Head = tuple[Index, Index]


class _Body(BaseModel):
    """The body of a request; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class LoadRequest(_Body):
    """The model to load, and how to read it."""

    id: str = Field(
        min_length=1, max_length=4096, description="a hub id, or the model that the server was started with"
    )
    revision: str | None = Field(None, max_length=128, description="branch, tag or commit on the hub")
    dtype: Dtype = "auto"
    device_map: str | None = Field(None, max_length=32, description="one of ModelState.device_maps; null: cpu")
    max_tokens: int | None = Field(
        None, ge=2, le=1 << 31, description="prompt and answer together; null: the model's window"
    )


class Message(_Body):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Document(_Body):
    """One document of a prompt."""

    title: str = ""
    text: str


class CountRequest(_Body):
    """A prompt that the user still writes: parts may be empty."""

    messages: list[Message] = Field(default_factory=list, max_length=10_000)
    documents: list[Document] = Field(default_factory=list, max_length=100_000)
    question: str | None = None
    answer: str | None = None


class RunRequest(CountRequest):
    """`messages`, or `question` with `documents`. Without an `answer` to attribute, the model writes one."""

    max_new_tokens: int = Field(64, ge=1, le=1 << 20)
    weights: PresetName = "retrieval"
    model: str | None = Field(None, max_length=1000, description="refuse to run with another one, loaded meanwhile")


class WeighRequest(_Body):
    """Other weights for the same recording: a name, or (layer, head) pairs; all other heads then have weight 0."""

    weights: PresetName | None = None
    heads: list[Head] | None = Field(None, min_length=1, max_length=100_000)


class JobStarted(BaseModel):
    """The job of the request; its events report the progress and the result."""

    job: str


class Counted(BaseModel):
    """The tokens of a prompt and of its answer, and how many they may have together."""

    prompt_tokens: int
    answer_tokens: int
    window: int | None
    max_tokens: int


class Memory(BaseModel):
    """Bytes that recordings and flows may take, that they take now, and that the machine has."""

    budget: int
    used: int
    total: int | None


class ModelState(BaseModel):
    """The model, and the options of load requests."""

    state: Literal["none", "loading", "ready", "failed"]
    id: str | None
    revision: str | None
    dtype: str
    device_map: str
    device: str | None
    layers: int | None
    heads: int | None
    kv_heads: int | None
    window: int | None
    max_tokens: int | None
    parameters: int | None
    weights: list[PresetName]
    default_model: str
    dtypes: list[Dtype]
    device_maps: list[str]
    job: str | None
    error: str | None
    memory: Memory


class RunInfo(BaseModel):
    """One run in the list."""

    id: str
    flow: str
    title: str
    model: str
    weights: str = Field(description=f'{PRESET_NAMES}, or "heads" where some were chosen by hand')
    prompt_tokens: int
    answer_tokens: int
    created: float = Field(description="seconds since 1970")
    bytes: int
    recorded: bool = Field(description="whether layers and heads can be looked at, and other weights tried")
    heads: list[Head] | None
    notes: list[str]


class Runs(BaseModel):
    """Every run, the newest first, and bytes of memory."""

    runs: list[RunInfo]
    budget: int
    used: int

"""Types of the extension for GPUs (csrc/cuda/bindings.cpp). Addresses are integers; strides count elements."""

class Error(RuntimeError): ...

class Tuning:
    queries: int
    turns: bool
    cluster: int
    emulated: int
    keys_shared: bool
    held: int
    group: int
    parts: int
    def __init__(self, **values: int) -> None: ...

def kernels() -> str: ...
def versions() -> tuple[int, int]: ...
def scratch_bytes(
    *, sizes: tuple[int, int, int, int, int], key_bias: bool, window: int, device: int, tuning: Tuning
) -> int: ...
def flow_step(
    *,
    sizes: tuple[int, int, int, int, int],
    dtype: str,
    rows: int,
    query: tuple[int, int, int],
    key: tuple[int, int, int],
    row_bias: int,
    key_bias: int,
    heads: int,
    result: int,
    scale: float,
    power: float,
    window: int,
    softcap: float,
    scratch: tuple[int, int],
    device: int,
    stream: int,
    tuning: Tuning,
) -> None: ...

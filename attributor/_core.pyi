"""Types of the C++ extension (csrc/bindings.cpp). Addresses are integers; strides count elements."""

def isas() -> list[str]: ...
def isa() -> str: ...
def flow_step(
    *,
    sizes: tuple[int, int, int, int, int],
    dtype: str,
    rows: int,
    query: tuple[int, int, int],
    key: tuple[int, int, int],
    row_bias: int,
    key_bias: int,
    kv_index: int,
    result: int,
    scale: float,
    power: float,
    window: int,
    softcap: float,
    threads: int,
    team: int,
    isa: str,
) -> None: ...

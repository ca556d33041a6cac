"""Types of the C++ extension (csrc/bindings.cpp).

Addresses are integers; strides count elements: matrices are (address, head stride, row stride). Threads are their
number and the address of GOMP_parallel, or 0.
"""

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
    threads: tuple[int, int],
    isa: str,
) -> None: ...
def removal_step(
    *,
    sizes: tuple[int, int, int, int, int, int],
    dtype: str,
    query: tuple[int, int, int],
    key: tuple[int, int, int],
    value: tuple[int, int, int],
    d_output: tuple[int, int, int],
    lse: int,
    delta: int,
    stops: int,
    result: int,
    scale: float,
    window: int,
    softcap: float,
    threads: tuple[int, int],
    isa: str,
) -> None: ...

"""Faults that the emulator must detect, as changes of the kernel's source; FAULT is the number of the active one."""

from pathlib import Path

# name of the fault: (text of the kernel, its replacement)
FAULTS = {
    "rows released before their products": (
        "products_wait(into);\n                c.release(at);",
        "if (FAULT) c.release(at);\n products_wait(into);\n if (!FAULT) c.release(at);",
    ),
    "queries released before their biases were read": (
        "exponentiate(total, other, V::WIDTH, stage, key_bias, masked, gap);\n            release(stage);",
        "if (FAULT) release(stage);\n exponentiate(total, other, V::WIDTH, stage, key_bias, masked, gap);\n"
        "if (!FAULT) release(stage);",
    ),
    "keys released before they were read": (
        "hold_keys();\n                release_keys();",
        "if (FAULT) release_keys();\n hold_keys();\n if (!FAULT) release_keys();",
    ),
    "results read before the wait": ("products_wait(other);", "if (!FAULT) products_wait(other);"),
    "feeding by the wrong parity": (
        "barrier_wait(shared.empty(ring.stage()), ring.parity() ^ 1);",
        "barrier_wait(shared.empty(ring.stage()), ring.parity() ^ (FAULT ? 0 : 1));",
    ),
    "reading by the wrong parity": (
        "barrier_wait(shared.full(stage), ring.parity());",
        "barrier_wait(shared.full(stage), ring.parity() ^ (FAULT ? 1 : 0));",
    ),
    "bytes that are not expected": ("barrier_expect(full, bytes);", "barrier_expect(full, bytes - (FAULT ? 16 : 0));"),
    "bytes that never come": (
        "barrier_expect(full, V::KEY_BYTES);",
        "barrier_expect(full, V::KEY_BYTES + (FAULT ? 16 : 0));",
    ),
    "a step of 8 columns": (
        "matrix(q + panel * V::QUERIES * BOX * 2) + 2 * step;",
        "matrix(q + panel * V::QUERIES * BOX * 2) + (FAULT ? 1 : 2) * step;",
    ),
    "rows of R from the panel before": (
        "matrix(rows + PART + k / 4 * PANEL)",
        "matrix(rows + PART + (FAULT ? 0 : k / 4) * PANEL)",
    ),
    "no swizzle where K is read": ("^ (row % 8)) * 16", "^ (FAULT ? 0 : row % 8)) * 16"),
    "the factors of other rows": ("(factor + row + 8 * b)", "(factor + (FAULT ? 0 : row) + 8 * b)"),
    "the factors of other columns": (
        "a.factor + int64_t{tile} * a.padded_rows + c.place.column;",
        "a.factor + int64_t{tile} * a.padded_rows + (FAULT ? 0 : c.place.column);",
    ),
    "only one block told of an empty stage": (
        "for (uint32_t to = 0; to < V::CLUSTER; ++to)",
        "for (uint32_t to = 0; to < (FAULT ? 1 : V::CLUSTER); ++to)",
    ),
    "warps of one block counted only": (
        "barrier_init(shared.empty(i), 8 * V::CLUSTER);",
        "barrier_init(shared.empty(i), FAULT ? 8 : 8 * V::CLUSTER);",
    ),
    "products without a fence": (
        "        products_begin();\n#pragma unroll\n        for (int panel",
        "        if (!FAULT) products_begin();\n        for (int panel",
    ),
    "barriers without a fence": ("barrier_init_fence();", "if (!FAULT) barrier_init_fence();"),
    "a block that leaves early": (
        "    sync_cluster();  // the others",
        "    if (!FAULT) sync_cluster();  // the others",
    ),
    "registers that nobody has": (
        "give_registers<24>();",
        "if (FAULT) give_registers<32>(); else give_registers<24>();",
    ),
    "the diagonal hidden": (
        "static_cast<uint32_t>(distance) >= window",
        "static_cast<uint32_t>(distance - FAULT) >= window",
    ),
}


def number(name: str) -> int:
    return list(FAULTS).index(name) + 1


def write_faulty_sources(kernel: Path, folder: Path) -> None:
    """Write the kernel's headers with all FAULTS; each is active if `fault` is its number."""
    texts = {path.name: path.read_text("utf-8") for path in (*kernel.glob("*.cuh"), *kernel.glob("*.h"))}
    for name, (right, wrong) in FAULTS.items():
        holders = [file for file, text in texts.items() for _ in range(text.count(right))]
        assert len(holders) == 1, f"{name}: {right!r} stands {len(holders)} times in the kernel"
        texts[holders[0]] = texts[holders[0]].replace(right, wrong.replace("FAULT", f"(fault == {number(name)})"))
    for file, text in texts.items():
        (folder / file).write_text(text, "utf-8")

"""What the compiled Triton kernels take of a multiprocessor, without a GPU."""

import torch

from benchmarks import show
from benchmarks.subject import Subject

ARCHITECTURES = (80, 90, 100)
DTYPES = (("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "float32"))


def measure(run):
    from tests.compiled import resources

    for features, bank in DTYPES[: 1 if run.settings.quick else None]:
        for arch in ARCHITECTURES:
            for name, tile, used in resources.table(getattr(torch, features), getattr(torch, bank), arch):
                run.record(
                    features=features, bank=bank, sm=arch, kernel=name, tile=tile, registers=used.registers,
                    shared_kb=round(used.shared / 1024), spilled=used.spilled, matrix=used.matrix,
                )  # fmt: skip


def table(results):
    lines = []
    for features, bank in DTYPES:
        for arch in ARCHITECTURES:
            rows = show.pick(results.rows, features=features, bank=bank, sm=arch)
            if rows:
                lines += ["", f"sm_{arch}, features {features}, bank {bank}:", ""]
                lines += one_table(rows)
    return lines[1:]


def one_table(rows):
    columns = ("kernel", "tile", "registers|", "shared, KB|", "spilled, B|", "wgmma")
    names = ("kernel", "tile", "registers", "shared_kb", "spilled", "matrix")
    return show.table(columns, [[row[name] for name in names] for row in rows])


def headline(results):
    worst = max(results.rows, key=lambda row: row["spilled"])
    hopper = max((row["spilled"] for row in show.pick(results.rows, sm=90)), default=0)
    return (
        f"Compiled for Hopper, kernels spill at most {hopper} bytes; the most anywhere is {worst['spilled']} "
        f"({worst['kernel']}, sm_{worst['sm']}, {worst['features']})."
    )


SUBJECT = Subject(
    about="""Pinned tiles of the bank kernels, compiled ahead of time at P = 6 and D = 128: registers a
thread, shared memory and spills off the assembler's report, and whether Hopper's matrix instructions overlap
(pipelined). Float32 features are multiplied as three TF32 products to stay within float32's error budget.
`tests/compiled` holds these rows, and every other tile that tuning may take.""",
    measure=measure,
    show=table,
    headline=headline,
)

"""What the compiled kernels take of a multiprocessor, without a GPU.

Compiles every pinned configuration of the bank kernels ahead of time at the method's sizes (P = 6, D = 128)
and reads registers, spills and shared memory off the assembler's report.
`python -m benchmarks kernels` has them as a table.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from ikem_fast.ops.bank.triton import attention, launch, neighbors, relations, relations_backward, tiles

P, D = 6, 128
A_ROW = "a row"  # in place of a tile: kernels that finish one row, and have nothing to choose
_TYPES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
_INTEGERS = {"num_rows", "num_keys", "keys_per_split", "bank_stride", "key_stride", "anchors", "topk"}
_INTEGERS |= {"splits", "clips"}
_FLOATS = ("root", "scale")


@dataclass(frozen=True)
class Resources:
    """registers a thread; bytes of shared memory; bytes spilled; wgmma instructions, and whether the
    assembler had to put them one after another."""

    registers: int
    shared: int
    spilled: int
    wgmma: int
    serialized: bool

    @property
    def matrix(self):
        """How Hopper's matrix instructions run, in a word."""
        return "–" if not self.wgmma else "serialized" if self.serialized else "pipelined"


def kernels(features, bank, capability, P=P, D=D, every=False):
    """(name, kernel, constants and launch options) of every kernel for these dtypes of features and bank.

    every: with all tiles that tuning may take, not the pinned one alone.
    """
    operand = launch.operand_dtype(torch.empty(0, dtype=features))

    def tiled(kernel, **sizes):
        for choice in launch.candidates(kernel, operand, D, capability, **sizes)[: None if every else 1]:
            chosen = {"RESIDENT": choice.resident, "OUTPUT_CHUNKS": choice.output_chunks, "D": D}
            yield choice.tile(D) | chosen

    for grad in (True, False):
        for name, kernel, chunks in (
            ("info_nce", "attention", 1),
            ("implicit_exchange", "wide_attention", P),
        ):
            label = f"{name}, {'loss and gradient' if grad else 'loss alone'}"
            for tile in tiled(kernel, features=chunks, tiles=chunks, outputs=chunks if grad else 0):
                yield label, attention.attention_kernel, tile | {"CHUNKS": chunks}
    for name, kernel, symmetric in (
        ("cross_modal_contrast", "cross", True),
        ("relational_distillation", "distill", False),
    ):
        chunks, slots = (1, P // 2) if symmetric else (P, P)
        constants = {"CHUNKS": chunks, "SLOTS": slots, "SYMMETRIC": symmetric}
        for tile in tiled(kernel, features=chunks + slots, tiles=chunks + slots if symmetric else chunks):
            yield f"{name}, forward", relations.relations_kernel, tile | constants
        terms = P - 1 if symmetric else P
        constants = {"CHUNKS": chunks, "TERMS": terms, "CONTEXT": True, "SYMMETRIC": symmetric}
        for tile in tiled(
            relations_backward.backward_tiles(symmetric, bank, operand),
            features=chunks + terms,
            tiles=chunks + terms if symmetric else chunks,
            outputs=chunks,
        ):
            yield f"{name}, backward", relations_backward.relations_backward_kernel, tile | constants
    for topk in (1, 16):
        for tile in tiled("nearest"):
            yield f"nearest_neighbors, topk {topk}", neighbors.nearest_kernel, tile | {"TOPK": topk}
    padded = {"D": D, "BLOCK_D": launch.block(D), "MAX_SPLITS": launch.MAX_SPLITS, "TOPK": 1}
    for chunks in (1, P):
        symmetric = chunks == 1
        row = padded | {"CHUNKS": chunks, "BLOCK_CHUNKS": triton.next_power_of_2(chunks)}
        row |= {"WITH_DIRECTION": True, "CONTEXT": True, "SYMMETRIC": symmetric}
        row["SLOTS"] = P // 2 if symmetric else P
        width = f"{chunks} × {D}"
        yield f"normalisation, {width}", tiles.unit_rows_kernel, row
        yield f"InfoNCE combined, {width}", attention.attention_combine_kernel, row
        yield f"relations combined, {width}", relations.relations_combine_kernel, row
        yield f"relations gradient, {width}", relations_backward.relations_gradient_kernel, row
    yield "nearest combined", neighbors.nearest_combine_kernel, padded


def compile_kernel(kernel, constants, features, bank, arch):
    """Compile for compute capability `arch` (90 for sm_90), as it is pinned."""
    constants = dict(constants)
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages") if name in constants}
    operand = launch.operand_dtype(torch.empty(0, dtype=features))
    tiled = "ROWS" in constants

    def type_of(argument):
        if argument in _INTEGERS:
            return "i32"
        if argument in _FLOATS:
            return "fp32"
        if argument in ("queue_ptr", "y_ptr"):
            return _TYPES[bank if argument == "queue_ptr" else features]
        if argument in ("x_ptr", "q_ptr", "anchors_ptr"):
            return _TYPES[operand if tiled else features]
        if argument in ("unit_ptr", "gradient_ptr"):
            return _TYPES[operand if argument == "unit_ptr" else features]
        if argument in ("mined_ptr", "indices_ptr", "part_indices_ptr"):
            return "*i64" if not tiled and argument != "part_indices_ptr" else "*i32"
        return "*fp32"

    signature = {a: "constexpr" if a in constants else type_of(a) for a in kernel.arg_names}
    aligned = [i for i, a in enumerate(kernel.arg_names) if a.endswith(("_ptr", "_stride"))]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={a: constants[a] for a in kernel.arg_names if a in constants},
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    return triton.compile(
        source, target=GPUTarget("cuda", arch, 32), options=options | {"enable_fp_fusion": True}
    )


def assembled(compiled, arch):
    """The `Resources` that the assembler reports for a compiled kernel."""
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / "kernel.ptx"
        ptx.write_text(compiled.asm["ptx"])
        # Matrix instructions of Hopper and Blackwell are specific to the architecture: the "a" targets.
        target = f"sm_{arch}a" if arch >= 90 else f"sm_{arch}"
        command = [get_ptxas(arch).path, "-v", f"--gpu-name={target}", str(ptx), "-o", str(ptx) + ".o"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    return Resources(
        registers=int(re.search(r"Used (\d+) registers", report).group(1)),
        shared=compiled.metadata.shared,
        spilled=int(spills.group(1)) + int(spills.group(2)),
        wgmma=compiled.asm["ptx"].count("wgmma.mma_async"),
        serialized="wgmma.mma_async instructions are serialized" in report,
    )


def table(features, bank, arch, P=P, D=D, every=False):
    """Yield rows of (name, tile, Resources) for one pair of dtypes."""
    for name, kernel, constants in kernels(features, bank, divmod(arch, 10), P, D, every):
        tile = A_ROW if "ROWS" not in constants else "{ROWS}×{KEYS}".format(**constants)
        if "ROWS" in constants:
            tile += f", {constants['num_warps']} warps, {constants['num_stages']} stages"
        yield name, tile, assembled(compile_kernel(kernel, constants, features, bank, arch), arch)

"""What the bank kernels are launched with, and what the compiler makes of them, without a GPU.

`launches` runs the operators' host code on tensors without memory and notes every launch, as on a card that
is not here; `compiled` compiles one ahead of time and reads its instructions.
"""

import contextlib
import functools
import math
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from ikem_fast.ops.bank.triton import losses, plan

_OPTIONS = ("num_warps", "num_stages")


@dataclass(frozen=True)
class Launch:
    """One launch: the kernel, its grid, what was given by name: arguments, groups of them, and options."""

    kernel: triton.JITFunction
    grid: tuple[int, ...]
    given: dict = field(hash=False)

    @property
    def name(self):
        return self.kernel.fn.__name__.removesuffix("_kernel")

    @property
    def programs(self):
        return functools.reduce(lambda a, b: a * b, self.grid)

    @property
    def warps(self):
        return self.given.get("num_warps", 4)

    @functools.cached_property
    def arguments(self):
        """By name, those in groups too; of two groups of one kind the last."""
        groups = (value._asdict() for value in self.given.values() if hasattr(value, "_fields"))
        return functools.reduce(lambda a, b: a | b, groups, self.given)

    @functools.cached_property
    def variant(self):
        """What makes the compiled kernel, as Triton finds it: (signature, constants, what 16 divides).

        The last two by where they are: (argument, position in its group).
        """
        backend = make_backend(GPUTarget("cuda", 90, 32))
        bind = create_function_from_signature(self.kernel.signature, self.kernel.params, backend)
        bound, specialized, _ = bind(**self.given)
        options = backend.parse_options({})
        _, signature, constants, attributes = self.kernel._pack_args(backend, {}, bound, specialized, options)
        return signature, constants, tuple(path for path, attribute in attributes.items() if attribute)


class _Noted:
    """In place of a kernel: notes launches instead of launching."""

    def __init__(self, kernel, note):
        self.kernel, self.note = kernel, note

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            names = [name for name in self.kernel.arg_names if name not in kwargs]
            given = dict(zip(names, args, strict=True)) | kwargs
            self.note(Launch(self.kernel, grid, given))

        return launch


@contextlib.contextmanager
def noting(note, *modules):
    """Have the kernels that modules know call note(`Launch`) in place of launching."""
    with contextlib.ExitStack() as patches:
        for module in modules:
            kernels = {n: _Noted(k, note) for n, k in vars(module).items() if n.endswith("_kernel")}
            patches.enter_context(mock.patch.multiple(module, **kernels))
        yield


def launches(card, call):
    """The launches that call() makes on a card, as a list of `Launch`.

    card: has `capability`, `multiprocessors` and `l2`, the bytes of its second-level cache. call: calls the
    functions of `ikem_fast.ops.bank.triton.losses` with tensors of device "meta".
    """
    log = []
    properties = mock.Mock(multi_processor_count=card.multiprocessors, L2_cache_size=card.l2)
    plan.card.cache_clear()
    with (
        noting(log.append, losses),
        mock.patch.object(plan, "capability", lambda device: card.capability),
        mock.patch.object(plan, "properties", lambda device: properties),
    ):
        call()
    plan.card.cache_clear()
    return log


@dataclass(frozen=True)
class Compiled:
    """registers a thread; bytes of shared memory; instructions that touch the stack, where spilled registers
    go, all and those in a loop; multiply-adds of the matrix instructions in the loop of products, None where
    there are none, and of all, each once; whether each of Hopper's is waited for; instructions of the longest
    loop, and all."""

    registers: int
    shared: int
    spills: int
    looped_spills: int
    multiply_adds: int | None
    all_multiply_adds: int
    serialized: bool
    loop: int
    instructions: int


def _source(kernel, signature, constants, aligned):
    return ASTSource(
        fn=kernel,
        signature=dict(signature),
        constexprs=dict(constants),
        attrs={path: [["tt.divisibility", 16]] for path in aligned},
    )


def compiled_for_amd(launch, arch="gfx942"):
    """(registers spilled, matrix instructions) of what the compiler makes of a launch for an AMD GPU."""
    options = {name: launch.given[name] for name in _OPTIONS if name in launch.given}
    options["enable_fp_fusion"] = True
    made = triton.compile(
        _source(launch.kernel, *launch.variant), target=GPUTarget("hip", arch, 64), options=options
    )
    code = made.asm["amdgcn"]
    spilled = re.search(r"\.vgpr_spill_count:\s+(\d+)", code).group(1)
    return int(spilled), len(re.findall(r"\bv_mfma", code))


@functools.cache
def _compiled(kernel, signature, constants, aligned, options, arch):
    source = _source(kernel, signature, constants, aligned)
    made = triton.compile(
        source, target=GPUTarget("cuda", arch, 32), options=dict(options) | {"enable_fp_fusion": True}
    )
    warps = dict(options).get("num_warps", 4)
    return _read(made.asm["cubin"], made.asm["ttgir"], made.metadata.shared, warps)


def compiled(launch, arch):
    """What the compiler makes of a launch for compute capability `arch` (90 for sm_90): `Compiled`."""
    signature, constants, aligned = launch.variant
    options = tuple((name, launch.given[name]) for name in _OPTIONS if name in launch.given)
    return _compiled(
        launch.kernel, tuple(signature.items()), tuple(constants.items()), aligned, options, arch
    )


def _read(cubin, ttgir, shared, warps):
    disassembler = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        text = subprocess.run([disassembler, "-c", file], capture_output=True, text=True, check=True).stdout
    instructions, labels, loops = [], {}, []
    for line in text.splitlines():
        if label := re.match(r"(\.L_[\w.]+):", line):
            labels[label.group(1)] = len(instructions)
        if instruction := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?\s*(.*?);", line):
            instructions.append(instruction.group(1))
    for end, instruction in enumerate(instructions):
        target = re.search(r"BRA.*`\((\.L_[\w.]+)\)", instruction)
        if target and labels[target.group(1)] < end:
            loops.append(instructions[labels[target.group(1)] : end])
    matrix = r"(HGMMA|HMMA|UTCHMMA|UTCQMMA)"
    products = [loop for loop in loops if any(re.match(matrix, i) for i in loop)]
    inner = min(products, key=len, default=[])
    registers = [int(number) for number in re.findall(r"\bR(\d+)\b", text)]
    return Compiled(
        registers=max(registers, default=0) + 1,
        shared=shared,
        spills=_spills(instructions),
        looped_spills=max(map(_spills, loops), default=0),
        multiply_adds=sum(_multiply_adds(i, ttgir, warps) for i in inner) if inner else None,
        all_multiply_adds=sum(_multiply_adds(i, ttgir, warps) for i in instructions),
        serialized=0
        < sum(i.startswith("HGMMA") for i in inner)
        <= sum(i.startswith("WARPGROUP.DEPBAR") for i in inner),
        loop=max(map(len, loops), default=0),
        instructions=len(instructions),
    )


def _spills(instructions):
    return sum(instruction.startswith(("STL", "LDL")) for instruction in instructions)


def _multiply_adds(instruction, ttgir, warps):
    """Those of one matrix instruction, by all warps of a program that carry it out."""
    if hopper := re.match(r"HGMMA\.(\d+)x(\d+)x(\d+)", instruction):
        m, n, k = map(int, hopper.groups())
        return m * n * k * warps // 4
    if ampere := re.match(r"HMMA\.(16816|1688)", instruction):
        return 16 * 8 * (16 if ampere.group(1) == "16816" else 8) * warps
    if instruction.startswith(("UTCHMMA", "UTCQMMA")):
        # One thread issues it for the program, and its shape is in a descriptor: a share of what all do.
        found = re.findall(r"tc_gen5_mma.*?memdesc<(?:1x)?(\d+)x(\d+)x(\w+), .*?memdesc<\d+x(\d+)x", ttgir)
        products = [(int(m), int(k), 8 if kind == "f32" else 16, int(n)) for m, k, kind, n in found]
        issued = sum(math.ceil(m / 128) * (k // depth) for m, k, depth, n in products)
        return sum(m * k * n for m, k, depth, n in products) // issued
    return 0

"""A model of the bank kernels on cards that are not here, from their launches and their instructions.

A launch's work is multiply-adds (those executed, as the instructions have them), exponentials, and bytes from
memory and from the second-level cache; each by the card's rate, times what is lost where programs do not fill
the last wave. Where a multiprocessor holds several programs their phases overlap and the slowest resource
decides; where it holds one, the matrix product and what follows it take their time one after the other.
Beside it what plain torch moves: the bytes that its operations on tensors of clips × keys read and write.
"""

import math
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.compiled import compiled, launches
from ikem_fast.ops.bank import reference
from ikem_fast.ops.bank.triton import losses

P, D, S, TEMPERATURE = 6, 128, 3, 0.07
N, K = (64, 128, 512, 4096), (4096, 32768, 1 << 20)
# A kernel of a CUDA graph, from its start to the start of the next where neither does anything.
LAUNCH = 1.5e-6
# The share of its peak rates that a good kernel reaches.
REACHED = 0.85


@dataclass(frozen=True)
class Card:
    """Rates a second and a multiprocessor's clock: bytes of memory and cache, multiply-adds of 16 bits."""

    arch: int
    multiprocessors: int
    clock: float
    memory: float
    cache: float
    l2: int
    multiply_adds: int
    shared: int

    @property
    def capability(self):
        return divmod(self.arch, 10)


MB = 1 << 20
CARDS = {
    "A100": Card(80, 108, 1.41e9, 1.9e12, 4.5e12, 40 * MB, 1024, 164 << 10),
    "RTX 3090": Card(86, 82, 1.70e9, 0.94e12, 2.3e12, 6 * MB, 256, 100 << 10),
    "RTX 4090": Card(89, 128, 2.52e9, 1.01e12, 5.0e12, 72 * MB, 256, 100 << 10),
    "H100": Card(90, 132, 1.83e9, 3.35e12, 6.9e12, 50 * MB, 2048, 228 << 10),
    "H200": Card(90, 132, 1.83e9, 4.8e12, 6.9e12, 50 * MB, 2048, 228 << 10),
    "B200": Card(100, 148, 1.85e9, 8.0e12, 10e12, 126 * MB, 4096, 228 << 10),
    "RTX 5090": Card(120, 170, 2.41e9, 1.79e12, 8.0e12, 96 * MB, 256, 100 << 10),
}
EXPONENTIALS = 16  # a clock and multiprocessor


def calls(name, clips, keys, dtype=torch.bfloat16, bank=None, *, P=P, D=D, topk=1):
    """What to give `launches`: {pass: call} of a loss, at the method's sizes if not given."""
    empty = lambda *shape, dtype=dtype: torch.empty(shape, dtype=dtype, device="meta")  # noqa: E731
    q, z, student = empty(P, clips, D), empty(P, clips, P * D), empty(S, clips, P * D)
    queue = empty(P, keys, D, dtype=bank or dtype)
    options = {wide: (TEMPERATURE, wide, topk, True) for wide in (False, True)}

    def backward(x, wide):
        A = len(x)
        saved = [empty(*shape, dtype=torch.float32) for shape in ((A, P, clips), (A, P, clips, topk))]
        mined, values = (empty(P, clips, topk, dtype=dtype) for dtype in (torch.int64, torch.float32))
        grad = empty(A, clips, dtype=torch.float32)
        losses.relations_backward(grad, x, q, queue, *saved, mined, values, *options[wide])

    return {
        "info_nce": {"both": lambda: losses.attention(q, q, queue, TEMPERATURE, False, True)},
        "implicit_exchange": {"both": lambda: losses.attention(z, q, queue, TEMPERATURE, True, True)},
        "cross_modal_contrast": {
            "forward": lambda: losses.relations(q, q, queue, *options[False]),
            "backward": lambda: backward(q, False),
        },
        "relational_distillation": {
            "forward": lambda: losses.relations(student, q, queue, *options[True]),
            "backward": lambda: backward(student, True),
        },
        "nearest_neighbors": {"forward": lambda: losses.nearest(q, queue, topk)},
    }[name]


@dataclass(frozen=True)
class Work:
    """Of one launch: multiply-adds needed, exponentials, bytes from memory and from the cache."""

    multiply_adds: float = 0
    exponentials: float = 0
    memory: float = 0
    cache: float = 0
    after: float = 0  # bytes of the cache that the product's epilogue writes


def work(launch):
    """The `Work` of a launch; of kernels that finish rows, nothing but their launch is counted."""
    a = launch.arguments
    size = lambda name: a[name].element_size()  # noqa: E731
    if launch.name == "similarities":
        depth, tiles = a["CHUNKS"] * a["BLOCK_D"], launch.programs
        tile = a["ROWS"] * a["KEYS"]
        used = math.ceil(a["keys"] / a["KEYS"]) / launch.grid[1] * tiles
        return Work(
            multiply_adds=used * tile * depth,
            exponentials=used * tile if a["sums"] else 0,
            memory=a["bank_ptr"].shape[0] * a["keys"] * a["BLOCK_D"] * size("bank_ptr"),
            cache=used * (a["ROWS"] + a["KEYS"]) * depth * size("unit_ptr"),
            after=used * tile * size("s_ptr") if a["STORE"] else 0,
        )
    if launch.name == "weighted_keys":
        tiles = launch.grid[0]
        tile = a["ROWS"] * a["COLUMNS"]
        return Work(
            multiply_adds=tiles * tile * a["keys"],
            cache=tiles * (a["ROWS"] + a["COLUMNS"]) * a["keys"] * size("s_ptr"),
            after=launch.programs * tile * 8,
        )
    if launch.name in ("pair_sums", "gradients"):
        features = a["FEATURES"] * launch.grid[2]
        elements = a["rows"] * a["keys"]
        pairs = features * (features - 1) // 2 if a["SYMMETRIC"] else features * a["ANCHORS"]
        read = features if a["SYMMETRIC"] else launch.grid[2] * (1 + a["ANCHORS"])
        if launch.name == "pair_sums":
            # One more for each thread's numbers of a tile, by which what it has shrinks.
            exponentials = pairs * (1 + 1 / a["VECTOR"])
            return Work(exponentials=elements * exponentials, cache=elements * read * size("s_ptr"))
        exponentials = features + (pairs if a["CONTEXT"] else 0)
        moved = (read if a["CONTEXT"] else features) + features
        return Work(exponentials=elements * exponentials, cache=elements * moved * size("s_ptr"))
    return Work()


def residents(launch, made, card):
    """How many programs a multiprocessor holds at once."""
    registers = math.ceil(made.registers / 8) * 8 * 32 * launch.warps
    limits = (65536 // registers, card.shared // (made.shared + 1024), 48 // launch.warps)
    return min(limits)


def duplication(launch, made):
    """Executed over needed multiply-adds of a launch's tile: 1, or 3 where float32 is multiplied in parts."""
    a = launch.arguments
    across = a["KEYS"] if launch.name == "similarities" else a["COLUMNS"]
    return made.multiply_adds / (a["ROWS"] * across * a["PIECE"])


def in_flight(launch, arch):
    """Bytes of shared memory that pieces of factors take which are loaded while others are multiplied.

    Matrix instructions of Hopper and Blackwell take factors out of it; for others one piece is in registers.
    """
    a = launch.arguments
    across = a["KEYS"] if launch.name == "similarities" else a["COLUMNS"]
    pieces = a["num_stages"] - (arch not in (90, 100))
    return pieces * (a["ROWS"] + across) * a["PIECE"] * a["bank_ptr"].element_size()


def seconds(launch, card):
    """(predicted, the limit of the scarcest resource) of one launch, without what starting it costs."""
    a, needed = launch.arguments, work(launch)
    if needed == Work():
        return 0.0, 0.0
    made = compiled(launch, card.arch)
    held = residents(launch, made, card)
    places = card.multiprocessors * held
    waves = math.ceil(launch.programs / places) * places / launch.programs
    if launch.programs < places:  # the multiprocessor with the most of them decides
        waves = math.ceil(launch.programs / card.multiprocessors) * card.multiprocessors / launch.programs
    rate = card.multiprocessors * card.clock
    matrix = 0.0
    if needed.multiply_adds:
        speed = card.multiply_adds / (1 if a["bank_ptr"].element_size() == 2 else 2)
        matrix = needed.multiply_adds / (rate * speed)
    special = needed.exponentials / (rate * EXPONENTIALS)
    memory = needed.memory / card.memory
    cache, after = needed.cache / card.cache, needed.after / card.cache
    # Three products for one where float32 is multiplied in parts; more than once for nothing is no limit.
    parts = 3 if matrix and a["PRECISION"] == "tf32x3" and a["bank_ptr"].element_size() == 4 else 1
    limit = max(matrix * parts, special, memory, cache + after)
    if matrix:
        matrix *= duplication(launch, made)
    first, last = max(matrix, memory, cache), max(special, after)
    time = max(first, last, cache + after) if held > 1 else first + last
    return time * waves / REACHED, limit


def predict(name, clips, keys, card, dtype=torch.bfloat16, bank=None):
    """Seconds by kernel, {kernel: (launches, predicted, limit)}, of a loss forward and backward on a card."""
    table = {}
    known = {}
    for call in calls(name, clips, keys, dtype, bank).values():
        for launch in launches(card, call):
            signature, constants, aligned = launch.variant
            key = (
                launch.name, launch.grid, tuple(signature.items()), tuple(constants.items()), aligned,
                launch.arguments.get("keys"), launch.arguments.get("rows"),
            )  # fmt: skip
            if key not in known:
                known[key] = seconds(launch, card)
            count, predicted, limit = table.get(launch.name, (0, 0.0, 0.0))
            time, least = known[key]
            table[launch.name] = count + 1, predicted + time + LAUNCH, limit + least
    return table


class _Traffic(TorchDispatchMode):
    """Bytes that operations on tensors of clips × keys read and write, by the rate of where these lie."""

    def __init__(self, elements, card):
        super().__init__()
        self.elements, self.card, self.seconds = elements, card, 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.is_view:
            return out
        for tensor in tree_leaves((args, kwargs, out)):
            if isinstance(tensor, torch.Tensor) and tensor.numel() >= self.elements:
                size = tensor.numel() * tensor.element_size()
                self.seconds += size / (self.card.memory if size > self.card.l2 / 2 else self.card.cache)
        return out


def plain(name, clips, keys, card, dtype=torch.bfloat16):
    """Seconds below which plain torch does not get on a card: its bytes alone."""
    wide = {"implicit_exchange": P, "relational_distillation": S}.get(name)
    with FakeTensorMode(), _Traffic(clips * keys, card) as traffic:
        q, queue = (torch.empty(P, rows, D, dtype=dtype) for rows in (clips, keys))
        x = torch.empty(wide or P, clips, P * D if wide else D, dtype=dtype, requires_grad=True)
        if name == "nearest_neighbors":
            with torch.no_grad():
                reference.nearest_neighbors(x, queue, 1)
        else:
            mining = (1, True) if name in ("cross_modal_contrast", "relational_distillation") else ()
            getattr(reference, name)(x, q, queue, TEMPERATURE, *mining).sum().backward()
    return traffic.seconds

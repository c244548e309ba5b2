"""How the bank kernels are launched: tile sizes for each GPU architecture, and the split of the bank.

One pinned choice for each architecture, dtype and shape: the first of a table that fits. `tuning` takes the
fastest instead where the user asked for that.
"""

import contextlib
import functools
import math
import os
from collections import defaultdict
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ikem_fast.ops.bank.triton.tiles import unit_rows_kernel

LOG2E = math.log2(math.e)
MAX_SPLITS = 256
MAX_MODALITIES, MAX_DIM, MAX_TOPK = 8, 256, 16

# With TRITON_INTERPRET=1 kernels run on the CPU, one program after the other, in NumPy.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_OPERANDS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


# How a program comes by the factors of its products: rows resident in shared memory beside each tile of keys;
# rows read again for every tile; or both read in pieces, a few numbers of a feature at a time.
RESIDENT, AGAIN, PIECES = "rows kept", "rows read again", "in pieces"


@dataclass(frozen=True)
class Choice:
    """A tile of rows × keys, the warps that work on it, and how many tiles are in flight.

    factors: RESIDENT, AGAIN or PIECES. output_chunks: modalities whose gradient one program accumulates in
    registers. operand: dtype of the factors of matrix products; sums are float32.
    """

    rows: int
    keys: int
    warps: int
    stages: int
    factors: str
    output_chunks: int
    operand: torch.dtype

    @property
    def resident(self):
        return self.factors == RESIDENT

    def tile(self, dim):
        """The keyword arguments that every tiled kernel takes."""
        return {
            "BLOCK_D": block(dim),
            "PIECE": _piece(self.factors, dim),
            "OPERAND": _OPERANDS[self.operand],
            "PRECISION": "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32",
            "WIDEN": INTERPRETED and self.operand == torch.bfloat16,
            "ROWS": self.rows,
            "KEYS": self.keys,
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


# (rows, keys, warps, stages, factors) of each kernel, from the largest tile that compiles without spilling at
# P = 6 and D = 128 down to one that fits anywhere; the first that fits is taken.
_TILES = {
    "attention": [(128, 64, 8, 3, RESIDENT), (64, 64, 8, 2, RESIDENT), (32, 16, 4, 1, AGAIN)],
    "wide_attention": [(64, 32, 8, 2, RESIDENT), (64, 16, 8, 1, RESIDENT), (16, 16, 4, 2, PIECES)],
    "cross": [(64, 64, 8, 2, RESIDENT), (64, 32, 8, 2, RESIDENT), (32, 16, 4, 1, AGAIN)],
    "cross_backward": [(64, 32, 8, 2, RESIDENT), (64, 16, 8, 1, RESIDENT), (16, 16, 4, 2, PIECES)],
    # A bank that is wider than the factors takes registers on its way into them.
    "cross_backward_narrowing": [(64, 16, 8, 2, RESIDENT), (16, 16, 4, 2, PIECES)],
    "distill": [(64, 64, 8, 1, AGAIN), (64, 16, 8, 1, AGAIN), (16, 16, 4, 2, PIECES)],
    "distill_backward": [(64, 16, 8, 1, RESIDENT), (16, 16, 4, 2, PIECES)],
    "nearest": [(128, 128, 8, 3, RESIDENT), (64, 64, 4, 2, RESIDENT), (32, 16, 4, 1, RESIDENT)],
}  # fmt: skip
# Ampere's matrix instructions (and Ada's) take their factors from registers alone.
_TILES_AMPERE = _TILES | {
    "cross": [(64, 16, 8, 2, RESIDENT), (32, 16, 4, 1, AGAIN)],
    "cross_backward": [(64, 32, 8, 2, RESIDENT), (64, 16, 8, 1, RESIDENT), (16, 64, 8, 2, PIECES)],
    "cross_backward_narrowing": [(32, 64, 8, 2, PIECES), (16, 64, 8, 2, PIECES)],
    "distill": [(16, 32, 4, 2, AGAIN), (16, 16, 4, 2, PIECES)],
    "distill_backward": [(32, 64, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
}
# Float32 factors are multiplied in three parts, for which there is room in pieces only.
_TILES_FLOAT32 = {
    "attention": [(64, 64, 8, 2, PIECES), (64, 32, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "wide_attention": [(64, 32, 8, 2, PIECES), (64, 16, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "cross": [(64, 64, 8, 2, PIECES), (64, 32, 8, 2, PIECES), (16, 32, 4, 2, PIECES)],
    "cross_backward": [(64, 32, 8, 1, PIECES), (64, 16, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "distill": [(64, 64, 8, 2, PIECES), (64, 32, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "distill_backward": [(64, 32, 8, 2, PIECES), (64, 16, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "nearest": [(64, 64, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
}
_TILES_AMPERE_FLOAT32 = {
    "attention": [(64, 32, 8, 2, PIECES), (32, 32, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "wide_attention": [(32, 32, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "cross": [(64, 32, 8, 2, PIECES), (32, 32, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "cross_backward": [(32, 64, 8, 2, PIECES), (16, 64, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "distill": [(32, 64, 8, 2, PIECES), (32, 32, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "distill_backward": [(32, 64, 8, 2, PIECES), (16, 64, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
    "nearest": [(64, 32, 8, 2, PIECES), (16, 16, 4, 2, PIECES)],
}
_TILES_INTERPRETED = defaultdict(lambda: [(16, 32, 4, 1, RESIDENT)])
_TILES_INTERPRETED_FLOAT32 = defaultdict(lambda: [(16, 32, 4, 1, PIECES)])


def candidates(kernel, operand, dim, capability, features=1, tiles=1, outputs=0):
    """The launches of a kernel (a name in `_TILES`) that fit a GPU of this compute capability, pinned first.

    features: chunks (rows, BLOCK_D) that a program multiplies; tiles: chunks (keys, BLOCK_D) of one step
    over the bank; outputs: chunks of gradient.
    """
    width, wide_operand = block(dim), operand == torch.float32

    def shared(rows, keys, _warps, stages, factors):
        if factors == PIECES:  # and keys that are summed up; float32 twice, as a large and a small part
            numbers = stages * (rows + keys) * _piece(factors, dim) + (keys * width if outputs else 0)
            return numbers * operand.itemsize * (2 if wide_operand else 1)
        kept = features * rows if factors == RESIDENT else rows
        return operand.itemsize * ((kept + stages * tiles * keys) * width + rows * keys)

    def output_chunks(rows, factors):
        """Chunks of gradient that a program has registers for: so many of each of 256 threads."""
        chunks = (64 if factors == PIECES else 96) * 256 // (rows * width)
        # The backward pass of the distillation has numbers of all anchors to keep besides.
        return min(chunks, 1) if factors == PIECES and kernel == "distill_backward" else chunks

    def fits(tile):
        room = output_chunks(tile[0], tile[-1]) > 0 or not outputs
        return room and shared(*tile) <= shared_memory(capability)

    table = _tiles(wide_operand, capability)[kernel]
    fitting = [tile for tile in table if fits(tile)] or table[-1:]
    return [
        Choice(*tile, min(outputs, max(1, output_chunks(tile[0], tile[-1]))), operand) for tile in fitting
    ]


def _tiles(wide_operand, capability):
    if INTERPRETED:
        return _TILES_INTERPRETED_FLOAT32 if wide_operand else _TILES_INTERPRETED
    if capability[0] in (9, 10):
        return _TILES_FLOAT32 if wide_operand else _TILES
    return _TILES_AMPERE_FLOAT32 if wide_operand else _TILES_AMPERE


def _piece(factors, dim):
    """How many of a feature's numbers are multiplied at a time."""
    return min(block(dim), 16 if INTERPRETED else 32) if factors == PIECES else block(dim)


def shared_memory(capability):
    """Bytes of shared memory that one program can have."""
    major, minor = capability
    if major in (9, 10):
        return 227 << 10
    return (163 << 10) if (major, minor) in ((8, 0), (8, 7)) else (99 << 10)


def capability(device):
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def operand_dtype(features):
    """Low-precision features are multiplied as they are; against float32 ones the bank is widened."""
    return features.dtype if features.dtype in (torch.bfloat16, torch.float16) else torch.float32


def split_bank(num_keys, choice, blocks, device):
    """(splits, keys in each): enough programs, `blocks` in every split, to occupy the GPU once."""
    programs = multiprocessors(device)
    splits = min(max(programs // blocks, 1), MAX_SPLITS, triton.cdiv(num_keys, choice.keys))
    keys = triton.cdiv(triton.cdiv(num_keys, splits), choice.keys) * choice.keys
    return triton.cdiv(num_keys, keys), keys


def readable(queue):
    """The bank with every key in one piece; keys may lie apart from each other, as in a part of a bank."""
    return queue if queue.stride(-1) == 1 else queue.contiguous()


@functools.cache
def multiprocessors(device):
    # Interpreted programs run one after the other; a few of them show that splits are put together rightly.
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 8


def block(dim):
    """Tile width for D numbers: a power of two, and at least the 16 that a matrix instruction takes."""
    return max(16, triton.next_power_of_2(dim))


def on_device(tensor):
    """Triton launches on the current device: make it the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def unit_rows(x, dim, scale, operand):
    """x (…,C·D) normalised to length `scale`, as the kernels read it: (…,C,BLOCK_D) of dtype `operand`."""
    chunks = x.shape[-1] // dim
    unit = x.new_empty((*x.shape[:-1], chunks, block(dim)), dtype=operand)
    unit_rows_kernel[(x.shape[:-1].numel(),)](
        x, unit, scale, D=dim, BLOCK_D=block(dim), CHUNKS=chunks, BLOCK_CHUNKS=triton.next_power_of_2(chunks)
    )
    return unit

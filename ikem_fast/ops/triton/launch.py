"""How the bank kernels are launched: tile sizes for each GPU architecture, and the split of the bank.

One pinned choice for each architecture, dtype and shape; nothing is tuned behind the caller's back.
"""

import contextlib
import functools
import math
import os
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ikem_fast.ops.triton.tiles import unit_rows_kernel

LOG2E = math.log2(math.e)
MAX_SPLITS = 256
MAX_MODALITIES, MAX_DIM, MAX_TOPK = 8, 256, 16

# With TRITON_INTERPRET=1 kernels run on the CPU, one program after the other, in NumPy.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_OPERANDS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@dataclass(frozen=True)
class Choice:
    """A tile of rows × keys, the warps that work on it, and how many tiles are in flight.

    resident: programs that share a multiprocessor. output_chunks: modalities whose gradient one program
    accumulates in registers. operand: dtype of the matrix products' factors; sums are float32.
    """

    rows: int
    keys: int
    warps: int
    stages: int
    resident: int
    output_chunks: int
    operand: torch.dtype

    def tile(self, dim):
        """The keyword arguments that every tiled kernel takes."""
        return {
            "BLOCK_D": block(dim),
            "OPERAND": _OPERANDS[self.operand],
            "PRECISION": "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32",
            "WIDEN": INTERPRETED and self.operand == torch.bfloat16,
            "ROWS": self.rows,
            "KEYS": self.keys,
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


# (rows, keys, warps, stages) from the fastest that is expected to the smallest; the first that fits is taken.
_TILES = {
    "attention": [
        (128, 64, 8, 3),
        (64, 64, 8, 3),
        (64, 32, 8, 2),
        (32, 32, 4, 2),
        (16, 32, 4, 1),
        (16, 16, 4, 1),
    ],
    "relations": [
        (64, 64, 8, 2),
        (64, 32, 8, 2),
        (32, 32, 8, 2),
        (32, 32, 8, 1),
        (16, 32, 4, 1),
        (16, 16, 4, 1),
    ],
    "nearest": [(128, 128, 8, 3), (64, 64, 4, 3), (64, 64, 4, 2), (16, 32, 4, 1)],
}
# Accumulators (rows × features) of one program: 192 of the 255 registers of 256 threads.
_ACCUMULATORS = 192 * 256
_INTERPRETED_TILE = (16, 32, 4, 1)


def pinned(kernel, operand, dim, features, tiles_in_flight, capability, outputs=0):
    """The launch of `kernel` ("attention", "relations", "nearest") on a GPU of this compute capability.

    features: chunks (rows, BLOCK_D) that a program keeps; tiles_in_flight: chunks (keys, BLOCK_D) of one
    step over the bank; outputs: chunks of gradient.
    """
    limit = shared_memory(capability)
    chunk = block(dim) * operand.itemsize
    for rows, keys, warps, stages in [_INTERPRETED_TILE] if INTERPRETED else _TILES[kernel]:
        shared = chunk * (features * rows + stages * tiles_in_flight * keys) + rows * keys * operand.itemsize
        if shared <= limit or INTERPRETED:
            break
    fits = max(1, _ACCUMULATORS // (rows * block(dim)))
    resident = max(1, min(2, limit // shared)) if warps < 8 else 1
    return Choice(rows, keys, warps, stages, resident, min(outputs, fits), operand)


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
    programs = choice.resident * multiprocessors(device)
    splits = min(max(programs // blocks, 1), MAX_SPLITS, triton.cdiv(num_keys, choice.keys))
    keys = triton.cdiv(triton.cdiv(num_keys, splits), choice.keys) * choice.keys
    return triton.cdiv(num_keys, keys), keys


@functools.cache
def multiprocessors(device):
    # Interpreted programs run one after the other; a few of them show that splits are put together rightly.
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 24


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

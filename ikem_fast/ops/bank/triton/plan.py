"""How the bank kernels are launched: tiles for each GPU architecture, chunks in which the bank is met.

A call takes clips in groups and the bank in chunks, so that the similarities of a group with a chunk, the
workspace, stay in the second-level cache. Tiles are pinned, the first of a table; `tuning` takes the fastest
instead where the user asked for that.
"""

import functools
import math
from dataclasses import dataclass

import torch
import triton

from ikem_fast.ops._triton import INTERPRETED, precision
from ikem_fast.ops.bank.triton.pairs import Pairs
from ikem_fast.ops.bank.triton.products import Factors
from ikem_fast.ops.bank.triton.rows import Row

MAX_MODALITIES, MAX_DIM, MAX_TOPK = 8, 256, 16


@dataclass(frozen=True)
class Tiles:
    """Tiles of the matrix products: rows × keys of similarities, rows × columns of weighted keys.

    piece: how much of the summed dimension is in shared memory at a time, and `stages` times that in flight.
    programs: how many of them a multiprocessor holds at once.
    """

    rows: int
    keys: int
    columns: int
    piece: int
    warps: int
    stages: int
    programs: int


# For 16-bit and for float32 factors, from small to large; those of 64 rows for few clips, those of 256 keys
# where registers have nothing but their products to hold. A warp has 16 rows or more: none is computed twice.
_HOPPER = {
    2: [(64, 128, 128, 64, 4, 3, 2), (128, 128, 128, 64, 4, 3, 2), (128, 256, 256, 64, 8, 3, 1)],
    4: [(64, 64, 64, 32, 4, 2, 3)],
}
# Sums of 256 columns go through registers on their way into Blackwell's own memory for them, and spill.
_BLACKWELL = _HOPPER | {2: [_HOPPER[2][0], (128, 128, 128, 64, 8, 3, 1), (128, 256, 128, 64, 8, 3, 1)]}
_AMPERE = {2: [(64, 128, 128, 32, 4, 4, 2), (128, 128, 128, 32, 8, 4, 1)], 4: [(64, 64, 64, 32, 4, 2, 2)]}
# GeForce and workstation cards: 99 KB of shared memory.
_SMALL = {2: [(64, 128, 128, 32, 4, 3, 2), (128, 128, 128, 32, 8, 3, 1)], 4: [(64, 64, 64, 32, 4, 2, 2)]}
_INTERPRETED = {size: [(16, 32, 32, 64, 4, 1, 4)] for size in (2, 4)}

# Similarities two at a time: a row for each of four warps, and for each thread 8 numbers side by side or 4.
PAIR_ROWS, PAIR_LANES = (16, 16) if INTERPRETED else (4, 32)
# Programs for each multiprocessor, of those that sum over pairs and of those of gradients (of an H200).
SUMMING_PROGRAMS, GRADIENT_PROGRAMS = (2, 2) if INTERPRETED else (5, 6)
# Chunks are so many keys long, or a multiple: a whole number of tiles of any kind.
STEP = 64 if INTERPRETED else 256
# Tiles of keys in a chunk at most: each leaves its nearest keys, and one program puts them together.
MAX_BLOCKS = 256
# Clips of a program that finishes rows.
ROWS = 16 if INTERPRETED else 1
# A group's clips at most; more of them share a chunk of the bank, but the chunk gets shorter.
MAX_GROUP = 16 if INTERPRETED else 512
# What a program costs beside its keys, in keys: prologue, reading and writing its part of the sums.
_OVERHEAD = 768


def candidates(operand, capability, clips, large):
    """The `Tiles` for factors of this dtype on a GPU of this compute capability, pinned first.

    large: whether the largest may be taken, too.
    """
    table = [Tiles(*tile) for tile in _table(capability)[operand.itemsize]]
    return [t for t in reversed(table) if t.rows <= max(clips, 64) and (large or t.keys <= 128)]


def _table(capability):
    if INTERPRETED:
        return _INTERPRETED
    if capability[0] in (9, 10):
        return _HOPPER if capability[0] == 9 else _BLACKWELL
    return _AMPERE if capability in ((8, 0), (8, 7)) else _SMALL


def capability(device):
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def operand_dtype(features):
    """Low-precision features are multiplied as they are; against float32 ones the bank is widened."""
    return features.dtype if features.dtype in (torch.bfloat16, torch.float16) else torch.float32


def block(dim):
    """Tile width for D numbers: a power of two, and at least the 16 that a matrix instruction takes."""
    return max(16, triton.next_power_of_2(dim))


def properties(device):
    return torch.cuda.get_device_properties(device)


@functools.cache
def card(device):
    """(multiprocessors, bytes of workspace). Interpreted: few and none, so that every kind of part occurs."""
    if INTERPRETED and device.type != "cuda":
        return 8, 0
    found = properties(device)
    return found.multi_processor_count, max(found.L2_cache_size // 2, 8 << 20)


@dataclass(frozen=True)
class Plan:
    """How one group of clips meets the bank.

    features: how many are multiplied, `chunks` banks wide each. anchors: others whose similarities are
    kept beside theirs. keys: of a chunk of the bank. rows: a feature's clips, padded to whole tiles.
    """

    tiles: Tiles
    operand: torch.dtype
    dim: int
    features: int
    anchors: int
    chunks: int
    rows: int
    keys: int
    device: torch.device

    @functools.cached_property
    def factors(self):
        """The `Factors` of the features."""
        width, tiles = block(self.dim), self.tiles
        widen = INTERPRETED and self.operand == torch.bfloat16
        piece, columns = min(tiles.piece, width), math.gcd(tiles.columns, width * self.chunks)
        return Factors(self.chunks, width, piece, precision(), widen, tiles.rows, tiles.keys, columns)

    @property
    def options(self):
        """The keyword arguments of kernels that multiply matrices."""
        return {"num_warps": self.tiles.warps, "num_stages": self.tiles.stages}

    def row(self, chunks, context=False, symmetric=False):
        """The `Row` of features that are so many banks wide."""
        blocks = triton.next_power_of_2(chunks)
        return Row(self.dim, block(self.dim), chunks, blocks, context, symmetric, ROWS)

    def row_grid(self, clips, features):
        return triton.cdiv(clips, ROWS), features

    @property
    def row_options(self):
        """The keyword arguments of kernels that finish rows: a warp adds up a short row without waiting."""
        return {"num_warps": 1 if self.chunks == 1 else 4}

    @property
    def key_blocks(self):
        return triton.cdiv(self.keys, self.tiles.keys)

    @functools.cached_property
    def blocks(self):
        """Tiles of weighted keys."""
        columns = block(self.dim) * self.chunks // self.factors.COLUMNS
        return self.features * self.rows // self.tiles.rows * columns

    @functools.cached_property
    def splits(self):
        """Parts in which a chunk's weighted keys are summed: the fewest waves of the least work."""
        places = card(self.device)[0] * self.tiles.programs
        return min(
            range(1, max(2, places // self.blocks + 1, 9)),
            key=lambda splits: triton.cdiv(self.blocks * splits, places) * (self.keys // splits + _OVERHEAD),
        )

    def pairs(self, features, anchors, context, symmetric):
        """The `Pairs` of so many features and anchors a program."""
        # Numbers of a row side by side in a thread: what one load brings and registers hold.
        vector = 2 if INTERPRETED else 4 if self.operand == torch.float32 or features > 7 else 8
        return Pairs(features, anchors, context, symmetric, vector, PAIR_ROWS, PAIR_LANES * vector)

    def strips(self, pairs, programs):
        """(the grid, tiles of each strip of a chunk) for those kernels, so many programs a multiprocessor."""
        blocks, groups = triton.cdiv(self.rows, PAIR_ROWS), self.features // pairs.FEATURES
        strips = max(1, card(self.device)[0] * programs // (blocks * groups))
        tiles = triton.cdiv(triton.cdiv(self.keys, pairs.KEYS), strips)
        return (blocks, triton.cdiv(self.keys, tiles * pairs.KEYS), groups), tiles


def plan(features, queue, anchors, tiles):
    """The `Plan` of features (A, clips ≤ MAX_GROUP, ·) that meet the banks (P,K,D), `anchors` beside them."""
    (count, clips, width), (_, K, D), operand = features.shape, queue.shape, operand_dtype(features)
    multiprocessors, workspace = card(features.device)
    rows = triton.cdiv(clips, tiles.rows) * tiles.rows
    keys = max(workspace // (operand.itemsize * (count + anchors) * rows) // STEP * STEP, STEP)
    # Whole waves of the tiles of similarities.
    row_blocks, places = count * rows // tiles.rows, multiprocessors * tiles.programs
    waves = row_blocks * (keys // tiles.keys) // places
    if waves > 0:
        keys = max(waves * places // row_blocks * tiles.keys // STEP * STEP, STEP)
    keys = min(keys, MAX_BLOCKS * tiles.keys, triton.cdiv(K, STEP) * STEP)
    return Plan(tiles, operand, D, count, anchors, width // D, rows, keys, features.device)

"""The two matrix products of the bank losses: features by keys, and weights by keys.

Rows are features padded to whole tiles, the rows of one feature (modality or student) after those of another;
they are CHUNKS·BLOCK_D numbers wide, one chunk for each bank they meet. With one chunk a feature meets the
bank of its own number, with more all of them side by side. Keys past the end are read as the last one, and
what comes of them is masked where it is stored. Exponents are base 2.
"""

from collections import namedtuple

import triton
import triton.language as tl

from ikem_fast.ops._triton import matmul

# Groups of arguments; of numbers only those that may be specialized, since Triton looks at each in a tuple.
# What is compiled for: PIECE numbers of the summed dimension at a time, tiles ROWS × KEYS or ROWS × COLUMNS.
Factors = namedtuple("Factors", "CHUNKS BLOCK_D PIECE PRECISION WIDEN ROWS KEYS COLUMNS")
# Keys (P, ·, BLOCK_D) of a chunk of the bank, and the distance of one bank from the next.
Bank = namedtuple("Bank", "bank_ptr bank_stride")
# s (features, rows, width), the similarities of rows to a chunk: root·s are exponents; or weights in place.
Workspace = namedtuple("Workspace", "s_ptr rows width root")
# Pairs log₂ Σ 2^x = maximum + log₂ total of each part of the keys and each row.
Sums = namedtuple("Sums", "maximum_ptr total_ptr")
# The largest similarities and their keys, of each part of the keys and each row.
Nearest = namedtuple("Nearest", "values_ptr indices_ptr topk")

LOWEST = tl.constexpr(-1e30)  # below every exponent, and finite: LOWEST − LOWEST is 0


@triton.jit
def merged(maximum, total, other_maximum, other_total):
    """log₂ Σ 2^x = maximum + log₂ total of two such pairs together."""
    high = tl.maximum(maximum, other_maximum)
    return high, total * tl.exp2(maximum - high) + other_total * tl.exp2(other_maximum - high)


@triton.jit
def add_to_sums(sums, offsets, first, maximum, total):
    """Merge a pair into the one that the chunks before left there; the first chunk finds nothing."""
    started = tl.where(first > 0, offsets, -1) >= 0
    earlier = tl.load(sums.maximum_ptr + offsets, mask=started, other=LOWEST)
    earlier_total = tl.load(sums.total_ptr + offsets, mask=started, other=0.0)
    maximum, total = merged(maximum, total, earlier, earlier_total)
    tl.store(sums.maximum_ptr + offsets, maximum)
    tl.store(sums.total_ptr + offsets, total)


@triton.jit
def add_to_nearest(nearest, rows, first, s, index, TOPK: tl.constexpr):
    """Take similarities s (ROWS, KEYS) of the keys `index` (KEYS) into the rows' running topk ≤ TOPK largest.

    s is −∞ where there is no key. Of equal similarities the earlier key stays. Slots beyond topk hold +∞ and
    so are never replaced. A single neighbor, the usual, takes one look at the keys.
    """
    best = tl.max(s, 1)
    if TOPK == 1:
        started = tl.where(first > 0, rows, -1) >= 0
        value = tl.load(nearest.values_ptr + rows, mask=started, other=float("-inf"))
        taken = tl.load(nearest.indices_ptr + rows, mask=started, other=0x7FFFFF00)
        key = tl.min(tl.where(s == best[:, None], index[None, :], 0x7FFFFFFF), 1)
        tl.store(nearest.indices_ptr + rows, tl.where(best > value, key, taken))
        tl.store(nearest.values_ptr + rows, tl.where(best > value, best, value))
    else:
        slots = tl.arange(0, TOPK)[None, :]
        offsets = rows[:, None] * TOPK + slots
        started = tl.where(first > 0, offsets, -1) >= 0
        values = tl.load(nearest.values_ptr + offsets, mask=started, other=float("-inf"))
        values = tl.where(slots < nearest.topk, values, float("inf"))
        # What is empty is replaced before any key.
        taken = tl.load(nearest.indices_ptr + offsets, mask=started, other=0x7FFFFF00 + TOPK)
        taken = tl.where(values == float("-inf"), 0x7FFFFF00 + slots, taken)
        smallest = tl.min(values, 1)
        # After the first keys a row seldom improves, and then by one.
        while tl.max((best > smallest).to(tl.int32), 0) > 0:
            key = tl.min(tl.where(s == best[:, None], index[None, :], 0x7FFFFFFF), 1)
            last = tl.max(tl.where(values == smallest[:, None], taken, -1), 1)
            replaced = (taken == last[:, None]) & (best > smallest)[:, None] & (slots < nearest.topk)
            values = tl.where(replaced, best[:, None], values)
            taken = tl.where(replaced, key[:, None], taken)
            s = tl.where(index[None, :] == key[:, None], float("-inf"), s)
            best = tl.max(s, 1)
            smallest = tl.min(values, 1)
        tl.store(nearest.values_ptr + offsets, values)
        tl.store(nearest.indices_ptr + offsets, taken)


@triton.jit(do_not_specialize=["first", "keys", "pieces"])
def similarities_kernel(
    unit_ptr, bank, s, sums, nearest, first, keys, pieces,
    FACTORS: tl.constexpr, STORE: tl.constexpr, TOPK: tl.constexpr,
):  # fmt: skip
    """Similarities of all rows to `keys` keys of a chunk that begins at key `first` of the bank.

    Grid: (row blocks, key blocks). unit (features, rows, CHUNKS, BLOCK_D), `pieces` of PIECE numbers wide (a
    constant would have the loop unrolled, which takes registers). What is done with the similarities:
    STORE: s takes "similarities" or "weights" 2^(root·similarity), 0 past the end.
    sums: running Σ 2^(root·similarity) of each [key block, row], without a maximum where weights are stored.
    nearest: running largest similarities and their keys for each [key block, row, TOPK].
    """
    ROWS: tl.constexpr = FACTORS.ROWS
    KEYS: tl.constexpr = FACTORS.KEYS
    BLOCK_D: tl.constexpr = FACTORS.BLOCK_D
    WIDTH: tl.constexpr = FACTORS.CHUNKS * BLOCK_D
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    key = tl.program_id(1) * KEYS + tl.arange(0, KEYS)
    columns = tl.arange(0, FACTORS.PIECE)
    bank_ptr, bank_stride = bank.bank_ptr, tl.cast(bank.bank_stride, tl.int64)
    if FACTORS.CHUNKS == 1:
        bank_ptr += (tl.program_id(0) * ROWS // s.rows) * bank_stride
    x_ptr = unit_ptr + tl.program_id(0) * (ROWS * WIDTH)
    x_offsets = tl.arange(0, ROWS)[:, None] * WIDTH + columns[None, :]
    key_offsets = tl.minimum(key, keys - 1)[:, None] * BLOCK_D + columns[None, :]
    product = tl.zeros((ROWS, KEYS), tl.float32)
    for index in tl.range(0, pieces):
        piece = index * FACTORS.PIECE
        x = tl.load(x_ptr + piece + x_offsets)
        # Said, for Triton 3.6 does not find it out, and then waits for each piece of keys.
        start = tl.multiple_of((piece // BLOCK_D) * bank_stride + piece % BLOCK_D, 16)
        product = matmul(x, tl.load(bank_ptr + start + key_offsets).T, product, FACTORS)

    inside = (key < keys)[None, :]
    at = tl.program_id(1) * (tl.num_programs(0) * ROWS) + row
    offsets = row[:, None] * s.width + key[None, :]
    if sums is not None:
        exponents = tl.where(inside, product * s.root, LOWEST)
        if STORE == "weights":
            maximum = tl.zeros((ROWS,), tl.float32)
            terms = tl.exp2(exponents)
            tl.store(s.s_ptr + offsets, terms.to(s.s_ptr.dtype.element_ty))
        else:
            maximum = tl.max(exponents, 1)
            terms = tl.exp2(exponents - maximum[:, None])
        add_to_sums(sums, at, first, maximum, tl.sum(terms, 1))
    if STORE == "similarities":
        # A product, not a choice: with that the assembler waits for each of Hopper's matrix instructions.
        tl.store(s.s_ptr + offsets, (product * tl.where(inside, 1.0, 0.0)).to(s.s_ptr.dtype.element_ty))
    if nearest is not None:
        add_to_nearest(nearest, at, first, tl.where(inside, product, float("-inf")), first + key, TOPK)


@triton.jit(do_not_specialize=["first", "keys", "pieces"])
def weighted_keys_kernel(weights, bank, output_ptr, first, keys, pieces, FACTORS: tl.constexpr):
    """Σ weights × key over a split of the chunk, added to what the chunks before left in `output`.

    Grid: (row blocks · column blocks, splits of `pieces` of PIECE keys). weights: 0 past the end; output
    (splits, features, rows, CHUNKS·BLOCK_D) float32. Each number has one program a launch: no atomics.
    """
    ROWS: tl.constexpr = FACTORS.ROWS
    BLOCK_D: tl.constexpr = FACTORS.BLOCK_D
    PIECE: tl.constexpr = FACTORS.PIECE
    BLOCKS: tl.constexpr = FACTORS.CHUNKS * BLOCK_D // FACTORS.COLUMNS
    row_block, column_block = tl.program_id(0) // BLOCKS, tl.program_id(0) % BLOCKS
    row = row_block * ROWS + tl.arange(0, ROWS)
    column = column_block * FACTORS.COLUMNS + tl.arange(0, FACTORS.COLUMNS)
    piece = tl.arange(0, PIECE)
    bank_stride = tl.cast(bank.bank_stride, tl.int64)
    if FACTORS.CHUNKS == 1:
        column_ptr = bank.bank_ptr + (row_block * ROWS // weights.rows) * bank_stride + column
    else:
        column_ptr = bank.bank_ptr + (column // BLOCK_D) * bank_stride + column % BLOCK_D
    start = tl.program_id(1) * pieces
    end = tl.minimum(start + pieces, tl.cdiv(keys, PIECE))
    weights_offsets = row[:, None] * weights.width + piece[None, :]
    all_rows = tl.num_programs(0) // BLOCKS * ROWS
    offsets = (tl.program_id(1) * all_rows + row)[:, None] * (FACTORS.CHUNKS * BLOCK_D) + column[None, :]
    # Read before the loop: after it there are no registers for both.
    summed = tl.load(output_ptr + offsets, mask=tl.where(first > 0, offsets, -1) >= 0, other=0.0)
    for index in tl.range(start, end):
        key = index * PIECE
        weight = tl.load(weights.s_ptr + key + weights_offsets)
        inside = tl.minimum(key + piece, keys - 1)
        tile = tl.load(column_ptr[None, :] + inside[:, None] * BLOCK_D)
        summed = matmul(weight, tile, summed, FACTORS)
    tl.store(output_ptr + offsets, summed)

"""Tile routines that the bank kernels share.

Notation: rows are features (clips, or clips of all modalities), columns are keys of the bank. A feature is
a tuple of CHUNKS tiles (ROWS, BLOCK_D), one for each modality whose bank it meets: one chunk where each
modality meets its own bank, P where it meets the banks side by side. Every chunk is padded from D to
BLOCK_D with zeros, so any D works. Exponents are base 2: features are scaled by log₂e/τ instead of 1/τ.
"""

# ruff: noqa: RUF005 (Triton tuples grow by +, it has no unpacking)

import triton
import triton.language as tl

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def load_chunk(ptr, rows, num_rows, chunk, BLOCK_D: tl.constexpr, CHUNKS: tl.constexpr):
    """One chunk (ROWS, BLOCK_D) of rows that `unit_rows_kernel` wrote."""
    offsets = rows[:, None].to(tl.int64) * (CHUNKS * BLOCK_D) + tl.arange(0, BLOCK_D)[None, :]
    return tl.load(ptr + chunk * BLOCK_D + offsets, mask=rows[:, None] < num_rows, other=0.0)


@triton.jit
def load_chunks(ptr, rows, num_rows, first, BLOCK_D: tl.constexpr, CHUNKS: tl.constexpr):
    """All chunks of those rows, from `first` on, round and round."""
    chunks = ()
    for c in tl.static_range(CHUNKS):
        chunks = chunks + (load_chunk(ptr, rows, num_rows, (first + c) % CHUNKS, BLOCK_D, CHUNKS),)
    return chunks


@triton.jit
def bank_tile(
    ptr,
    key,
    remaining,
    stride,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    OPERAND: tl.constexpr,
    KEYS: tl.constexpr,
):
    """KEYS keys of the bank at `ptr` from row `key` on, (KEYS, BLOCK_D) of OPERAND; zero after `remaining`.

    The large part of an address is one 64-bit number for the whole tile; what differs inside fits 32 bits.
    """
    index = tl.arange(0, KEYS)[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    mask = index < remaining
    if D < BLOCK_D:
        mask &= columns < D
    tile_ptr = ptr + tl.cast(key, tl.int64) * stride
    return tl.load(tile_ptr + (index * stride + columns), mask=mask, other=0.0).to(OPERAND)


@triton.jit
def matmul(a, b, accumulator, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """a @ b + accumulator in float32. WIDEN: the interpreter multiplies bfloat16 as if it were integers."""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, accumulator, input_precision=PRECISION)


@triton.jit
def add_similarities(
    similarities,
    x_ptr,
    rows,
    num_rows,
    chunk,
    bank_ptr,
    key,
    remaining,
    stride,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    PIECE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    KEYS: tl.constexpr,
):
    """similarities (ROWS, KEYS) + one chunk of rows · keys of the bank, PIECE numbers of both at a time.

    For float32: a product in three parts holds its factors in registers, and there is room for a piece only.
    """
    index = tl.arange(0, KEYS)[:, None]
    columns = tl.arange(0, PIECE)[None, :]
    x_offsets = (rows[:, None].to(tl.int64) * CHUNKS + chunk) * BLOCK_D + columns
    tile_ptr = bank_ptr + tl.cast(key, tl.int64) * stride
    for first in tl.range(0, BLOCK_D, PIECE):
        x = tl.load(x_ptr + first + x_offsets, mask=rows[:, None] < num_rows, other=0.0)
        mask = (index < remaining) & (first + columns < D)
        tile = tl.load(tile_ptr + (index * stride + first + columns), mask=mask, other=0.0)
        similarities = matmul(x, tile.to(x.dtype).T, similarities, PRECISION, WIDEN)
    return similarities


@triton.jit
def chunk_similarities(
    x,
    x_ptr,
    rows,
    num_rows,
    first,
    bank_ptr,
    bank_stride,
    key,
    remaining,
    key_stride,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    PIECE: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    RESIDENT: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Similarities (ROWS, KEYS) of features to the banks their chunks meet, and the tiles of these banks.

    Chunks are taken from `first` on, round and round. x holds the rows' chunks in that order if RESIDENT;
    else they are read from x_ptr. In pieces no tile is kept: there are none to return.
    """
    similarities = tl.zeros((ROWS, KEYS), tl.float32)
    tiles = ()
    for c in tl.static_range(CHUNKS):
        chunk = (first + c) % CHUNKS
        chunk_ptr = bank_ptr + chunk * bank_stride
        if PIECE < BLOCK_D:
            similarities = add_similarities(
                similarities, x_ptr, rows, num_rows, chunk, chunk_ptr, key, remaining, key_stride,
                D, BLOCK_D, CHUNKS, PIECE, PRECISION, WIDEN, KEYS,
            )  # fmt: skip
        else:
            tile = bank_tile(chunk_ptr, key, remaining, key_stride, D, BLOCK_D, OPERAND, KEYS)
            x_chunk = x[c] if RESIDENT else load_chunk(x_ptr, rows, num_rows, chunk, BLOCK_D, CHUNKS)
            similarities = matmul(x_chunk, tile.T, similarities, PRECISION, WIDEN)
            tiles = tiles + (tile,)
    return similarities, tiles


@triton.jit
def log_sum_exp_step(maximum, total, exponents):
    """Take a tile of exponents (ROWS, KEYS) into a running log₂ Σ 2^x = maximum + log₂ total.

    Returns the new pair, the tile's terms 2^(x − maximum), and the factor that earlier terms shrank by.
    """
    raised = tl.maximum(maximum, tl.max(exponents, 1))
    decay = tl.exp2(maximum - raised)
    terms = tl.exp2(exponents - raised[:, None])
    return raised, total * decay + tl.sum(terms, 1), terms, decay


@triton.jit
def combine_splits(maximum_ptr, total_ptr, splits, stride, MAX_SPLITS: tl.constexpr):
    """The running pair of one row over the whole bank, from those that the splits left `stride` apart."""
    index = tl.arange(0, MAX_SPLITS)
    mask = index < splits
    offsets = index.to(tl.int64) * stride
    maxima = tl.load(maximum_ptr + offsets, mask=mask, other=float("-inf"))
    totals = tl.load(total_ptr + offsets, mask=mask, other=0.0)
    maximum = tl.max(maxima, 0)
    return maximum, tl.sum(totals * tl.exp2(maxima - maximum), 0)


@triton.jit
def add_log_sum_exp(maximum, total, other_maximum, other_total):
    """The running pair of two log₂ Σ 2^x = maximum + log₂ total together; one maximum must be finite."""
    high = tl.maximum(maximum, other_maximum)
    return high, total * tl.exp2(maximum - high) + other_total * tl.exp2(other_maximum - high)


@triton.jit
def row_layout(D: tl.constexpr, BLOCK_D: tl.constexpr, CHUNKS: tl.constexpr, BLOCK_CHUNKS: tl.constexpr):
    """How one row of CHUNKS·D numbers lies in a tile (BLOCK_CHUNKS, BLOCK_D): offsets, and which are real."""
    chunks = tl.arange(0, BLOCK_CHUNKS)[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    return chunks * D + columns, (chunks < CHUNKS) & (columns < D)


@triton.jit
def unit_row(
    ptr, row, D: tl.constexpr, BLOCK_D: tl.constexpr, CHUNKS: tl.constexpr, BLOCK_CHUNKS: tl.constexpr
):
    """One row of unit length: (the row, 1/its length before, offsets from ptr, which are real)."""
    offsets, inside = row_layout(D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)
    offsets += row * (CHUNKS * D)
    x = tl.load(ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.maximum(tl.sqrt(tl.sum(x * x)), 1e-12)
    return x * inverse, inverse, offsets, inside


@triton.jit(do_not_specialize=["scale"])
def unit_rows_kernel(
    x_ptr,
    unit_ptr,
    scale,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
):
    """x (rows, CHUNKS·D) → unit (rows, CHUNKS, BLOCK_D): of length `scale`, padded with zeros.

    A kernel of its own, since factors that come straight from memory go to the matrix units through shared
    memory, and normalised on the way they would take registers instead. Grid: (rows,).
    """
    row = tl.cast(tl.program_id(0), tl.int64)
    x, _, _, _ = unit_row(x_ptr, row, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)
    chunks = tl.arange(0, BLOCK_CHUNKS)[:, None]
    offsets = (row * CHUNKS + chunks) * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
    tl.store(unit_ptr + offsets, (x * scale).to(unit_ptr.dtype.element_ty), mask=chunks < CHUNKS)


@triton.jit
def unit_keys(
    ptr, row, clips, D: tl.constexpr, BLOCK_D: tl.constexpr, CHUNKS: tl.constexpr, BLOCK_CHUNKS: tl.constexpr
):
    """The keys (P, clips, D) that belong to a row, each of unit length.

    With one chunk the row's own; with more those of its clip, in all modalities.
    """
    chunks = tl.arange(0, BLOCK_CHUNKS)[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    key = chunks * clips + row % clips if CHUNKS > 1 else chunks + row
    inside = (chunks < CHUNKS) & (columns < D)
    y = tl.load(ptr + key.to(tl.int64) * D + columns, mask=inside, other=0.0).to(tl.float32)
    return y / tl.maximum(tl.sqrt(tl.sum(y * y, 1)), 1e-12)[:, None]


@triton.jit
def through_normalisation(gradient, unit, inverse):
    """Gradient in a row, from the gradient in the row of unit length made of it."""
    return (gradient - unit * tl.sum(gradient * unit)) * inverse

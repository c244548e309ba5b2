"""What is done once for a row, before and after its walk over the bank: normalization, sums of parts, losses.

A row is one feature (modality or student) of one clip, CHUNKS·D numbers wide. Programs take ROWS clips of one
feature, in tiles (ROWS, BLOCK_CHUNKS, BLOCK_D). Parts (of key blocks, strips or splits) are put together in
their order, so that the same bits come of every run. The notation is that of `pairs`.
"""

from collections import namedtuple

import triton
import triton.language as tl

from ikem_fast.ops.bank.triton.products import LOWEST, merged

PARTS = tl.constexpr(64)
LN2 = tl.constexpr(0.6931471805599453)


# What is compiled for: numbers of a feature, banks side by side, the kind of loss, clips of a program.
Row = namedtuple("Row", "D BLOCK_D CHUNKS BLOCK_CHUNKS CONTEXT SYMMETRIC ROWS")
# What kernels that finish rows have in common: features x (A, clips, CHUNKS·D), the keys y (P, clips, D) that
# belong to them, the bank as it lies; mined keys and their anchors' similarities to them (B, clips, topk).
# Features are multiplied at length `scale`, root is as in `pairs`, rows are clips padded to whole tiles.
Given = namedtuple(
    "Given",
    "x_ptr y_ptr queue_ptr bank_stride key_stride column_stride mined_ptr nearest_ptr"
    " anchors topk scale root rows",
)
# Rows of a program: their feature, their clips and which there are; chunks (1, BLOCK_CHUNKS, 1), columns
# (1, 1, BLOCK_D) and which numbers are real; where those lie in (A, clips, CHUNKS·D).
Tile = namedtuple("Tile", "feature clip clips written chunks columns inside offsets")


@triton.jit
def rows_of_program(clips, ROW: tl.constexpr):
    """The `Tile` of a program of the grid (blocks of clips, A)."""
    feature = tl.program_id(1)
    clip = tl.program_id(0) * ROW.ROWS + tl.arange(0, ROW.ROWS)
    chunks = tl.arange(0, ROW.BLOCK_CHUNKS)[None, :, None]
    columns = tl.arange(0, ROW.BLOCK_D)[None, None, :]
    written = clip < clips
    inside = written[:, None, None] & (chunks < ROW.CHUNKS) & (columns < ROW.D)
    row = tl.cast(feature, tl.int64) * clips + clip
    offsets = row[:, None, None] * (ROW.CHUNKS * ROW.D) + chunks * ROW.D + columns
    return Tile(feature, clip, clips, written, chunks, columns, inside, offsets)


@triton.jit
def dot(a, b):
    """Products of rows (ROWS, BLOCK_CHUNKS, BLOCK_D) → (ROWS,)."""
    return tl.sum(tl.sum(a * b, 2), 1)


@triton.jit
def unit_rows(x_ptr, tile):
    """Rows of x (A, clips, CHUNKS·D) as rows of unit length, and 1/their length before (ROWS, 1, 1)."""
    x = tl.load(x_ptr + tile.offsets, mask=tile.inside, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.maximum(tl.sqrt(dot(x, x)), 1e-12)[:, None, None]
    return x * inverse, inverse


@triton.jit
def unit_keys(y_ptr, tile, ROW: tl.constexpr):
    """The keys y (P, clips, D) that belong to rows, each of unit length: their own, or all of their clips."""
    bank = tile.chunks if ROW.CHUNKS > 1 else tile.chunks + tile.feature
    key = bank.to(tl.int64) * tile.clips + tile.clip[:, None, None]
    y = tl.load(y_ptr + key * ROW.D + tile.columns, mask=tile.inside, other=0.0).to(tl.float32)
    return y / tl.maximum(tl.sqrt(tl.sum(y * y, 2)), 1e-12)[:, :, None]


@triton.jit
def mined_keys(given, anchor, rank, tile, ROW: tl.constexpr):
    """The key of that rank near an anchor, as the feature meets it, and how often its similarity counts.

    Keys are of the feature's own bank, or with CHUNKS > 1 of all side by side.
    """
    at = (anchor * tile.clips + tile.clip) * given.topk + rank
    key = tl.load(given.mined_ptr + at, mask=tile.written, other=0)[:, None, None]
    bank = (tile.chunks if ROW.CHUNKS > 1 else tile.chunks + tile.feature).to(tl.int64)
    offsets = bank * given.bank_stride + key * tl.cast(given.key_stride, tl.int64)
    offsets += tile.columns * given.column_stride
    keys = tl.load(given.queue_ptr + offsets, mask=tile.inside, other=0.0).to(tl.float32)
    counts = 1.0
    if ROW.CONTEXT:
        counts += tl.load(given.nearest_ptr + at, mask=tile.written, other=0.0)
    return keys, counts


@triton.jit
def sum_of_parts(sums, row, parts, stride):
    """The pairs (maximum, total) of rows out of all parts, which lie `stride` apart, PARTS at a time."""
    maximum = tl.full(row.shape, LOWEST, tl.float32)
    total = tl.zeros(row.shape, tl.float32)
    for part in range(0, parts, PARTS):
        index = (part + tl.arange(0, PARTS))[None, :]
        offsets = index.to(tl.int64) * stride + row[:, None]
        maxima = tl.load(sums.maximum_ptr + offsets, mask=index < parts, other=LOWEST)
        totals = tl.load(sums.total_ptr + offsets, mask=index < parts, other=0.0)
        high = tl.max(maxima, 1)
        maximum, total = merged(maximum, total, high, tl.sum(totals * tl.exp2(maxima - high[:, None]), 1))
    return maximum, total


@triton.jit(do_not_specialize=["clips"])
def unit_rows_kernel(x_ptr, unit_ptr, clips, scale, ROW: tl.constexpr):
    """x (A, clips, CHUNKS·D) → unit (A, rows, CHUNKS, BLOCK_D): of length `scale`, padded with zeros.

    Grid: (blocks of rows, A).
    """
    tile = rows_of_program(clips, ROW)
    x, _ = unit_rows(x_ptr, tile)
    row = tl.cast(tile.feature, tl.int64) * (tl.num_programs(0) * ROW.ROWS) + tile.clip
    offsets = (row[:, None, None] * ROW.CHUNKS + tile.chunks) * ROW.BLOCK_D + tile.columns
    # The offsets give the mask its shape.
    mask = tile.chunks + 0 * offsets < ROW.CHUNKS
    tl.store(unit_ptr + offsets, (x * scale).to(unit_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["clips", "blocks", "strips"])
def losses_kernel(
    given, own, pairs, loss_ptr, partition_ptr, scores_ptr, clips, blocks, strips, ROW: tl.constexpr
):
    """Losses of one feature, and what its backward pass needs.

    Grid: (blocks of clips, A). own (blocks, A, rows) and pairs (strips, A, B, rows): sums. loss (A, clips);
    partition (A, B, clips), base 2; scores (A, B, clips, topk): s_a at the nearest keys of b.
    """
    tile = rows_of_program(clips, ROW)
    feature, clip, written = tile.feature, tile.clip, tile.written
    features, anchors, root = tl.num_programs(1), given.anchors, given.root
    x, _ = unit_rows(given.x_ptr, tile)
    positive = given.scale * root * dot(x, unit_keys(given.y_ptr, tile, ROW))
    maximum, total = sum_of_parts(own, feature * given.rows + clip, blocks, features * given.rows)
    own_maximum, own_total = merged(maximum, total, positive, 1.0)
    positives = 1 + 2 * given.topk if ROW.CONTEXT else 1 + given.topk
    terms = anchors - 1 if ROW.SYMMETRIC else anchors
    zero = tl.zeros_like(positive)
    loss = zero
    for term in range(terms):
        anchor = (feature + 1 + term) % anchors if ROW.SYMMETRIC else term
        maximum = own_maximum
        total = own_total
        if ROW.CONTEXT:
            low = tl.minimum(feature, anchor) if ROW.SYMMETRIC else feature
            high = tl.maximum(feature, anchor) if ROW.SYMMETRIC else anchor
            pair = (low * anchors + high) * given.rows + clip
            pair_maximum, pair_total = sum_of_parts(pairs, pair, strips, features * anchors * given.rows)
            maximum, total = merged(own_maximum, own_total, pair_maximum, pair_total)
        pair = (feature * anchors + anchor) * clips + clip
        tl.store(partition_ptr + pair, maximum + tl.log2(total), mask=written)
        mined = zero
        for rank in range(given.topk):
            keys, counts = mined_keys(given, anchor, rank, tile, ROW)
            score = given.scale / root * dot(x, keys)
            tl.store(scores_ptr + pair * given.topk + rank, score, mask=written)
            mined += score * counts
        # In this order, the difference of two large numbers loses few digits.
        loss += (maximum - (positive + mined * root * root) / positives) + tl.log2(total)
    tl.store(loss_ptr + feature * clips + clip, loss * LN2 / terms, mask=written)
    if ROW.SYMMETRIC:
        # What a feature would be to itself: never read, and defined all the same.
        pair = (feature * anchors + feature) * clips + clip
        tl.store(partition_ptr + pair, zero, mask=written)
        for rank in range(given.topk):
            tl.store(scores_ptr + pair * given.topk + rank, zero, mask=written)


@triton.jit(do_not_specialize=["clips", "splits"])
def feature_gradients_kernel(
    given, grad_ptr, partition_ptr, scores_ptr, output_ptr, unscale_ptr, gradient_ptr, clips, splits,
    ROW: tl.constexpr,
):  # fmt: skip
    """Gradients of one feature: of the bank, the positive, the mined keys; through normalization.

    Grid: (blocks of clips, A). output (splits, A, rows, CHUNKS·BLOCK_D), to be multiplied by unscale (A,
    rows); gradient (A, clips, CHUNKS·D), of any dtype; the rest as in `losses_kernel`.
    """
    tile = rows_of_program(clips, ROW)
    feature, clip, written = tile.feature, tile.clip, tile.written
    features, anchors, factor = tl.num_programs(1), given.anchors, given.scale * given.root
    x, inverse = unit_rows(given.x_ptr, tile)
    y = unit_keys(given.y_ptr, tile, ROW)
    gradient = tl.zeros_like(x)
    for split in range(splits):
        row = (tl.cast(split, tl.int64) * features + feature) * given.rows + clip
        offsets = (row[:, None, None] * ROW.CHUNKS + tile.chunks) * ROW.BLOCK_D + tile.columns
        gradient += tl.load(output_ptr + offsets, mask=tile.inside, other=0.0)
    unscale = tl.load(unscale_ptr + feature * given.rows + clip, mask=written, other=0.0)
    gradient *= unscale[:, None, None]
    share = 1.0 / (1 + 2 * given.topk if ROW.CONTEXT else 1 + given.topk)
    terms = anchors - 1 if ROW.SYMMETRIC else anchors
    grad = tl.load(grad_ptr + feature * clips + clip, mask=written, other=0.0) / terms
    positive = factor * dot(x, y)
    for term in range(terms):
        anchor = (feature + 1 + term) % anchors if ROW.SYMMETRIC else term
        pair = (feature * anchors + anchor) * clips + clip
        partition = tl.load(partition_ptr + pair, mask=written, other=0.0)
        gradient += (grad * (tl.exp2(positive - partition) - share))[:, None, None] * y
        for rank in range(given.topk):
            keys, counts = mined_keys(given, anchor, rank, tile, ROW)
            gradient -= (grad * share * counts)[:, None, None] * keys
    if ROW.SYMMETRIC and ROW.CONTEXT:
        # The feature is an anchor too: c_ba at its own nearest keys.
        for rank in range(given.topk):
            pull = tl.zeros_like(grad)
            for term in range(terms):
                b = (feature + 1 + term) % anchors
                grad_b = tl.load(grad_ptr + b * clips + clip, mask=written, other=0.0) / terms
                score = ((b * anchors + feature) * clips + clip) * given.topk + rank
                pull += grad_b * tl.load(scores_ptr + score, mask=written, other=0.0)
            keys, _ = mined_keys(given, feature, rank, tile, ROW)
            gradient -= (pull * share)[:, None, None] * keys
    gradient *= factor * LN2
    gradient = (gradient - x * dot(gradient, x)[:, None, None]) * inverse
    tl.store(gradient_ptr + tile.offsets, gradient, mask=tile.inside)


@triton.jit(do_not_specialize=["clips", "blocks"])
def nearest_kernel(
    found, values_ptr, indices_ptr, clips, rows, blocks, scale,
    TOPK: tl.constexpr, CANDIDATES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The topk largest of each row out of all key blocks, largest first, of equal ones the earliest keys.

    Grid: (blocks of clips, A). found (blocks, A, rows, TOPK), CANDIDATES ≥ blocks · TOPK; values, indices (A,
    clips, topk): values are those found divided by `scale`.
    """
    feature, features = tl.program_id(1), tl.num_programs(1)
    clip = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    candidate = tl.arange(0, CANDIDATES)[None, :]
    block, slot = candidate // TOPK, candidate % TOPK
    offsets = ((block.to(tl.int64) * features + feature) * rows + clip[:, None]) * TOPK + slot
    mask = (block < blocks) & (slot < found.topk) & (clip < clips)[:, None]
    values = tl.load(found.values_ptr + offsets, mask=mask, other=float("-inf"))
    indices = tl.load(found.indices_ptr + offsets, mask=mask, other=0x7FFFFFFF)
    for rank in range(found.topk):
        largest = tl.max(values, 1)
        index = tl.min(tl.where(values == largest[:, None], indices, 0x7FFFFFFF), 1)
        at = (feature * clips + clip) * found.topk + rank
        tl.store(values_ptr + at, largest / scale, mask=clip < clips)
        tl.store(indices_ptr + at, index.to(tl.int64), mask=clip < clips)
        values = tl.where(indices == index[:, None], float("-inf"), values)

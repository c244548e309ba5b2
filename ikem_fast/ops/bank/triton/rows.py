"""What is done once for a row, before and after its walk over the bank: normalization, sums of parts, losses.

A row is one feature (modality or student) of one clip, CHUNKS·D numbers wide. Programs take ROWS clips of one
feature, in tiles (ROWS, BLOCK_CHUNKS, BLOCK_D). Parts (of key blocks, strips or splits) are put together in
their order, so that the same bits come of every run. The notation is that of `pairs`.
"""

import triton
import triton.language as tl

from ikem_fast.ops.bank.triton.products import LOWEST, merged

PARTS = tl.constexpr(64)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def row_layout(
    clip,
    clips,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
):
    """Chunks (1, BLOCK_CHUNKS, 1) and columns (1, 1, BLOCK_D) of rows, and which numbers are real."""
    chunks = tl.arange(0, BLOCK_CHUNKS)[None, :, None]
    columns = tl.arange(0, BLOCK_D)[None, None, :]
    return chunks, columns, (clip < clips)[:, None, None] & (chunks < CHUNKS) & (columns < D)


@triton.jit
def dot(a, b):
    """Products of rows (ROWS, BLOCK_CHUNKS, BLOCK_D) → (ROWS,)."""
    return tl.sum(tl.sum(a * b, 2), 1)


@triton.jit
def unit_rows(x_ptr, feature, clip, clips, chunks, columns, inside, D: tl.constexpr, CHUNKS: tl.constexpr):
    """Rows of x (A, clips, CHUNKS·D) as rows of unit length, and 1/their length before (ROWS, 1, 1)."""
    row = tl.cast(feature, tl.int64) * clips + clip
    offsets = row[:, None, None] * (CHUNKS * D) + chunks * D + columns
    x = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.maximum(tl.sqrt(dot(x, x)), 1e-12)[:, None, None]
    return x * inverse, inverse


@triton.jit
def unit_keys(y_ptr, feature, clip, clips, chunks, columns, inside, D: tl.constexpr, CHUNKS: tl.constexpr):
    """The keys y (P, clips, D) that belong to rows, each of unit length: their own, or all of their clips."""
    key = (chunks if CHUNKS > 1 else chunks + feature).to(tl.int64) * clips + clip[:, None, None]
    y = tl.load(y_ptr + key * D + columns, mask=inside, other=0.0).to(tl.float32)
    return y / tl.maximum(tl.sqrt(tl.sum(y * y, 2)), 1e-12)[:, :, None]


@triton.jit
def bank_rows(
    queue_ptr,
    key,
    feature,
    bank_stride,
    key_stride,
    column_stride,
    chunks,
    columns,
    inside,
    CHUNKS: tl.constexpr,
):
    """One key a row as the feature meets it: of its own bank, or with CHUNKS > 1 of all side by side."""
    bank = (chunks if CHUNKS > 1 else chunks + feature).to(tl.int64)
    keys = key[:, None, None] * tl.cast(key_stride, tl.int64)
    offsets = bank * bank_stride + keys + columns * column_stride
    return tl.load(queue_ptr + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def sum_of_parts(maximum_ptr, total_ptr, row, parts, stride):
    """The pairs (maximum, total) of rows out of all parts, which lie `stride` apart, PARTS at a time."""
    maximum = tl.full(row.shape, LOWEST, tl.float32)
    total = tl.zeros(row.shape, tl.float32)
    for part in range(0, parts, PARTS):
        index = (part + tl.arange(0, PARTS))[None, :]
        offsets = index.to(tl.int64) * stride + row[:, None]
        maxima = tl.load(maximum_ptr + offsets, mask=index < parts, other=LOWEST)
        totals = tl.load(total_ptr + offsets, mask=index < parts, other=0.0)
        high = tl.max(maxima, 1)
        maximum, total = merged(maximum, total, high, tl.sum(totals * tl.exp2(maxima - high[:, None]), 1))
    return maximum, total


@triton.jit(do_not_specialize=["clips", "scale"])
def unit_rows_kernel(
    x_ptr,
    unit_ptr,
    clips,
    scale,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """x (A, clips, CHUNKS·D) → unit (A, rows, CHUNKS, BLOCK_D): of length `scale`, padded with zeros.

    Grid: (blocks of rows, A).
    """
    feature = tl.program_id(1)
    clip = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    chunks, columns, inside = row_layout(clip, clips, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)
    x, _ = unit_rows(x_ptr, feature, clip, clips, chunks, columns, inside, D, CHUNKS)
    row = tl.cast(feature, tl.int64) * (tl.num_programs(0) * ROWS) + clip
    offsets = (row[:, None, None] * CHUNKS + chunks) * BLOCK_D + columns
    # The offsets give the mask its shape.
    tl.store(
        unit_ptr + offsets, (x * scale).to(unit_ptr.dtype.element_ty), mask=chunks + 0 * offsets < CHUNKS
    )


@triton.jit(do_not_specialize=["clips", "rows", "blocks", "strips", "topk", "scale", "root"])
def losses_kernel(
    x_ptr,
    y_ptr,
    queue_ptr,
    mined_ptr,
    nearest_ptr,
    own_maximum_ptr,
    own_total_ptr,
    pair_maximum_ptr,
    pair_total_ptr,
    loss_ptr,
    partition_ptr,
    scores_ptr,
    clips,
    rows,
    blocks,
    strips,
    anchors,
    topk,
    bank_stride,
    key_stride,
    column_stride,
    scale,
    root,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    CONTEXT: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Losses of one feature, and what its backward pass needs.

    Grid: (blocks of clips, A). x (A, clips, CHUNKS·D), y (P, clips, D); mined, nearest (B, clips, topk); own
    (blocks, A, rows) and pair (strips, A, B, rows) sums. loss (A, clips); partition (A, B, clips), base 2;
    scores (A, B, clips, topk): s_a at the nearest keys of b.

    (Long, since one kernel is one launch, and a third of it are parameters, one a line.)
    """
    feature, features = tl.program_id(1), tl.num_programs(1)
    clip = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    written = clip < clips
    chunks, columns, inside = row_layout(clip, clips, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)
    x, _ = unit_rows(x_ptr, feature, clip, clips, chunks, columns, inside, D, CHUNKS)
    y = unit_keys(y_ptr, feature, clip, clips, chunks, columns, inside, D, CHUNKS)
    positive = scale * root * dot(x, y)
    own = feature * rows + clip
    maximum, total = sum_of_parts(own_maximum_ptr, own_total_ptr, own, blocks, features * rows)
    own_maximum, own_total = merged(maximum, total, positive, 1.0)
    positives = 1 + 2 * topk if CONTEXT else 1 + topk
    terms = anchors - 1 if SYMMETRIC else anchors
    loss = tl.zeros((ROWS,), tl.float32)
    for term in range(terms):
        anchor = (feature + 1 + term) % anchors if SYMMETRIC else term
        maximum = own_maximum
        total = own_total
        if CONTEXT:
            low = tl.minimum(feature, anchor) if SYMMETRIC else feature
            high = tl.maximum(feature, anchor) if SYMMETRIC else anchor
            pair = (low * anchors + high) * rows + clip
            pair_maximum, pair_total = sum_of_parts(
                pair_maximum_ptr, pair_total_ptr, pair, strips, features * anchors * rows
            )
            maximum, total = merged(own_maximum, own_total, pair_maximum, pair_total)
        pair = (feature * anchors + anchor) * clips + clip
        tl.store(partition_ptr + pair, maximum + tl.log2(total), mask=written)
        mined = tl.zeros((ROWS,), tl.float32)
        for t in range(topk):
            at = (anchor * clips + clip) * topk + t
            key = tl.load(mined_ptr + at, mask=written, other=0)
            keys = bank_rows(
                queue_ptr,
                key,
                feature,
                bank_stride,
                key_stride,
                column_stride,
                chunks,
                columns,
                inside,
                CHUNKS,
            )
            score = scale / root * dot(x, keys)
            tl.store(scores_ptr + pair * topk + t, score, mask=written)
            if CONTEXT:
                score *= 1.0 + tl.load(nearest_ptr + at, mask=written, other=0.0)
            mined += score
        # In this order, the difference of two large numbers loses few digits.
        loss += (maximum - (positive + mined * root * root) / positives) + tl.log2(total)
    tl.store(loss_ptr + feature * clips + clip, loss * LN2 / terms, mask=written)
    if SYMMETRIC:
        # What a feature would be to itself: never read, and defined all the same.
        pair = (feature * anchors + feature) * clips + clip
        tl.store(partition_ptr + pair, tl.zeros((ROWS,), tl.float32), mask=written)
        for t in range(topk):
            tl.store(scores_ptr + pair * topk + t, tl.zeros((ROWS,), tl.float32), mask=written)


@triton.jit(do_not_specialize=["clips", "rows", "splits", "topk", "scale", "root"])
def feature_gradients_kernel(
    x_ptr,
    y_ptr,
    queue_ptr,
    mined_ptr,
    nearest_ptr,
    scores_ptr,
    partition_ptr,
    grad_ptr,
    output_ptr,
    unscale_ptr,
    gradient_ptr,
    clips,
    rows,
    splits,
    anchors,
    topk,
    bank_stride,
    key_stride,
    column_stride,
    scale,
    root,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    CONTEXT: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Gradients of one feature: of the bank, the positive, the mined keys; through normalization.

    Grid: (blocks of clips, A). output (splits, A, rows, CHUNKS·BLOCK_D), to be multiplied by unscale (A,
    rows); gradient (A, clips, CHUNKS·D), of any dtype; the rest as in `losses_kernel`.

    (Long, since one kernel is one launch, and a third of it are parameters, one a line.)
    """
    feature, features = tl.program_id(1), tl.num_programs(1)
    clip = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    written = clip < clips
    chunks, columns, inside = row_layout(clip, clips, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)
    x, inverse = unit_rows(x_ptr, feature, clip, clips, chunks, columns, inside, D, CHUNKS)
    y = unit_keys(y_ptr, feature, clip, clips, chunks, columns, inside, D, CHUNKS)
    gradient = tl.zeros((ROWS, BLOCK_CHUNKS, BLOCK_D), tl.float32)
    for split in range(splits):
        row = (tl.cast(split, tl.int64) * features + feature) * rows + clip
        offsets = (row[:, None, None] * CHUNKS + chunks) * BLOCK_D + columns
        gradient += tl.load(output_ptr + offsets, mask=inside, other=0.0)
    gradient *= tl.load(unscale_ptr + feature * rows + clip, mask=written, other=0.0)[:, None, None]
    share = 1.0 / (1 + 2 * topk if CONTEXT else 1 + topk)
    terms = anchors - 1 if SYMMETRIC else anchors
    grad = tl.load(grad_ptr + feature * clips + clip, mask=written, other=0.0) / terms
    positive = scale * root * dot(x, y)
    for term in range(terms):
        anchor = (feature + 1 + term) % anchors if SYMMETRIC else term
        pair = (feature * anchors + anchor) * clips + clip
        partition = tl.load(partition_ptr + pair, mask=written, other=0.0)
        gradient += (grad * (tl.exp2(positive - partition) - share))[:, None, None] * y
        for t in range(topk):
            at = (anchor * clips + clip) * topk + t
            key = tl.load(mined_ptr + at, mask=written, other=0)
            keys = bank_rows(
                queue_ptr,
                key,
                feature,
                bank_stride,
                key_stride,
                column_stride,
                chunks,
                columns,
                inside,
                CHUNKS,
            )
            pull = grad * share
            if CONTEXT:
                pull *= 1.0 + tl.load(nearest_ptr + at, mask=written, other=0.0)
            gradient -= pull[:, None, None] * keys
    if SYMMETRIC and CONTEXT:
        # The feature is an anchor too: c_ba at its own nearest keys.
        for t in range(topk):
            pull = tl.zeros((ROWS,), tl.float32)
            for term in range(terms):
                b = (feature + 1 + term) % anchors
                grad_b = tl.load(grad_ptr + b * clips + clip, mask=written, other=0.0) / terms
                score = ((b * anchors + feature) * clips + clip) * topk + t
                pull += grad_b * tl.load(scores_ptr + score, mask=written, other=0.0)
            key = tl.load(mined_ptr + (feature * clips + clip) * topk + t, mask=written, other=0)
            keys = bank_rows(
                queue_ptr,
                key,
                feature,
                bank_stride,
                key_stride,
                column_stride,
                chunks,
                columns,
                inside,
                CHUNKS,
            )
            gradient -= (pull * share)[:, None, None] * keys
    gradient *= scale * root * LN2
    gradient = (gradient - x * dot(gradient, x)[:, None, None]) * inverse
    row = tl.cast(feature, tl.int64) * clips + clip
    offsets = row[:, None, None] * (CHUNKS * D) + chunks * D + columns
    tl.store(gradient_ptr + offsets, gradient, mask=inside)


@triton.jit(do_not_specialize=["clips", "rows", "blocks", "topk", "scale"])
def nearest_kernel(
    part_values_ptr,
    part_indices_ptr,
    values_ptr,
    indices_ptr,
    clips,
    rows,
    blocks,
    topk,
    scale,
    TOPK: tl.constexpr,
    CANDIDATES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The topk largest of each row out of all key blocks, largest first, of equal ones the earliest keys.

    Grid: (blocks of clips, A). parts (blocks, A, rows, TOPK), CANDIDATES ≥ blocks · TOPK; values, indices (A,
    clips, topk): values are those of the parts divided by `scale`.
    """
    feature, features = tl.program_id(1), tl.num_programs(1)
    clip = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    candidate = tl.arange(0, CANDIDATES)[None, :]
    block, slot = candidate // TOPK, candidate % TOPK
    offsets = ((block.to(tl.int64) * features + feature) * rows + clip[:, None]) * TOPK + slot
    mask = (block < blocks) & (slot < topk) & (clip < clips)[:, None]
    values = tl.load(part_values_ptr + offsets, mask=mask, other=float("-inf"))
    indices = tl.load(part_indices_ptr + offsets, mask=mask, other=0x7FFFFFFF)
    for rank in range(topk):
        largest = tl.max(values, 1)
        index = tl.min(tl.where(values == largest[:, None], indices, 0x7FFFFFFF), 1)
        at = (feature * clips + clip) * topk + rank
        tl.store(values_ptr + at, largest / scale, mask=clip < clips)
        tl.store(indices_ptr + at, index.to(tl.int64), mask=clip < clips)
        values = tl.where(indices == index[:, None], float("-inf"), values)

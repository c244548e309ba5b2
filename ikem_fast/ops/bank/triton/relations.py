"""The kernels of `cross_modal_contrast` and `relational_distillation`.

Of feature a guided by anchor b, with s_a the similarities of a to the bank and c_ab = s_a ⊙ s_b:

    ℓ_ab = log(e^pos_a + Σ e^{s_a/τ} + Σ e^{c_ab/τ}) − [pos_a + Σ_{top_b}(s_a + c_ab)/τ] / positives

A program takes one feature a through its split of the bank with the anchors' similarities beside it: all
sums over a tile while it is on chip. Where the features are their own anchors (SYMMETRIC), c_ab = c_ba and
each a sums the ⌊P/2⌋ anchors that follow it cyclically, which shares the pairs out evenly.

Base-2 exponents: with r = s·√(log₂e/τ), the exponent of s is r·root, of c it is r_a·r_b, root = √(log₂e/τ).
"""

# ruff: noqa: RUF005 (Triton tuples grow by +, it has no unpacking)

import functools
import math

import torch
import triton
import triton.language as tl

from ikem_fast.ops.bank.triton import tuning
from ikem_fast.ops.bank.triton.launch import (
    LOG2E,
    MAX_SPLITS,
    block,
    candidates,
    capability,
    on_device,
    operand_dtype,
    readable,
    split_bank,
    unit_rows,
)
from ikem_fast.ops.bank.triton.neighbors import nearest
from ikem_fast.ops.bank.triton.tiles import (
    LN2,
    add_log_sum_exp,
    chunk_similarities,
    combine_splits,
    load_chunk,
    load_chunks,
    log_sum_exp_step,
    matmul,
    unit_keys,
    unit_row,
)

# Gradients of single similarities are tiny next to the largest; this keeps them in the range of float16.
HEADROOM = tl.constexpr(4096.0)


@triton.jit
def load_anchor(ptr, anchor, rows, num_rows, BLOCK_D: tl.constexpr):
    """Rows (ROWS, BLOCK_D) of one anchor out of (B, num_rows, BLOCK_D)."""
    return load_chunk(ptr + tl.cast(anchor, tl.int64) * num_rows * BLOCK_D, rows, num_rows, 0, BLOCK_D, 1)


@triton.jit
def load_anchors(
    ptr,
    feature,
    rows,
    num_rows,
    anchors,
    BLOCK_D: tl.constexpr,
    SLOTS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
):
    """The anchors of a feature's slots; slot j is the (j+1)-th after it if SYMMETRIC."""
    tiles = ()
    for j in tl.static_range(SLOTS):
        b = (feature + 1 + j) % anchors if SYMMETRIC else j
        tiles = tiles + (load_anchor(ptr, b, rows, num_rows, BLOCK_D),)
    return tiles


@triton.jit(do_not_specialize=["num_rows", "num_keys", "keys_per_split", "root"])
def relations_kernel(
    x_ptr,
    anchors_ptr,
    queue_ptr,
    own_maximum_ptr,
    own_total_ptr,
    pair_maximum_ptr,
    pair_total_ptr,
    num_rows,
    num_keys,
    keys_per_split,
    bank_stride,
    key_stride,
    anchors,
    root,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    SLOTS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    PIECE: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    RESIDENT: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Running log-sum-exp of s_a and of c_ab for the anchors of a's slots, over one split of the bank.

    Grid: (row blocks, splits, features). x (A, num_rows, CHUNKS, BLOCK_D), anchors (B, num_rows, BLOCK_D);
    own (splits, A, num_rows), pair (splits, A, SLOTS, num_rows). SLOTS = 0 leaves the context out.

    (Long, since one kernel is one launch, and a third of it are parameters, one a line.)
    """
    split, feature = tl.program_id(1), tl.program_id(2)
    bank_stride = tl.cast(bank_stride, tl.int64)
    own_bank_ptr = queue_ptr if CHUNKS > 1 else queue_ptr + feature * bank_stride
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    x_ptr += tl.cast(feature, tl.int64) * num_rows * (CHUNKS * BLOCK_D)
    x = load_chunks(x_ptr, rows, num_rows, 0, BLOCK_D, CHUNKS)
    others = load_anchors(anchors_ptr, feature, rows, num_rows, anchors, BLOCK_D, SLOTS, SYMMETRIC)

    own_maximum = tl.full((ROWS,), float("-inf"), tl.float32)
    own_total = tl.zeros((ROWS,), tl.float32)
    maxima = ()
    totals = ()
    for _slot in tl.static_range(SLOTS):
        maxima = maxima + (tl.full((ROWS,), float("-inf"), tl.float32),)
        totals = totals + (tl.zeros((ROWS,), tl.float32),)

    start = split * keys_per_split
    end = tl.minimum(start + keys_per_split, num_keys)
    for key in tl.range(start, end, KEYS, disable_licm=True):
        inside = tl.arange(0, KEYS)[None, :] < end - key
        r, tiles = chunk_similarities(
            x, x_ptr, rows, num_rows, 0, own_bank_ptr, bank_stride, key, end - key, key_stride,
            D, BLOCK_D, CHUNKS, PIECE, OPERAND, PRECISION, WIDEN, RESIDENT, ROWS, KEYS,
        )  # fmt: skip
        exponents = tl.where(inside, r * root, float("-inf"))
        own_maximum, own_total, _terms, _decay = log_sum_exp_step(own_maximum, own_total, exponents)
        new_maxima = ()
        new_totals = ()
        for j in tl.static_range(SLOTS):
            b = (feature + 1 + j) % anchors if SYMMETRIC else j
            bank_ptr = queue_ptr + b * bank_stride
            if SYMMETRIC or PIECE < BLOCK_D:
                anchor_ptr = anchors_ptr + tl.cast(b, tl.int64) * num_rows * BLOCK_D
                r_anchor, _tiles = chunk_similarities(
                    (others[j],), anchor_ptr, rows, num_rows, 0, bank_ptr, 0, key, end - key, key_stride,
                    D, BLOCK_D, 1, PIECE, OPERAND, PRECISION, WIDEN, RESIDENT, ROWS, KEYS,
                )  # fmt: skip
            else:
                anchor = others[j] if RESIDENT else load_anchor(anchors_ptr, b, rows, num_rows, BLOCK_D)
                r_anchor = matmul(anchor, tiles[j].T, tl.zeros((ROWS, KEYS), tl.float32), PRECISION, WIDEN)
            exponents = tl.where(inside, r * r_anchor, float("-inf"))
            maximum, total, _terms, _decay = log_sum_exp_step(maxima[j], totals[j], exponents)
            new_maxima = new_maxima + (maximum,)
            new_totals = new_totals + (total,)
        maxima = new_maxima
        totals = new_totals

    written = rows < num_rows
    part = tl.cast(split, tl.int64) * tl.num_programs(2) + feature
    tl.store(own_maximum_ptr + part * num_rows + rows, own_maximum, mask=written)
    tl.store(own_total_ptr + part * num_rows + rows, own_total, mask=written)
    for j in tl.static_range(SLOTS):
        offsets = (part * SLOTS + j) * num_rows + rows
        tl.store(pair_maximum_ptr + offsets, maxima[j], mask=written)
        tl.store(pair_total_ptr + offsets, totals[j], mask=written)


@triton.jit
def bank_row(
    queue_ptr,
    key,
    feature,
    bank_stride,
    key_stride,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
):
    """One key as feature `feature` meets it: of its own bank, or with CHUNKS > 1 of all side by side."""
    chunks = tl.arange(0, BLOCK_CHUNKS)[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    bank = chunks if CHUNKS > 1 else chunks + feature
    offsets = bank.to(tl.int64) * bank_stride + key * key_stride + columns
    mask = (chunks < CHUNKS) & (columns < D)
    return tl.load(queue_ptr + offsets, mask=mask, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["splits", "clips", "topk", "scale", "root"])
def relations_combine_kernel(
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
    splits,
    clips,
    anchors,
    topk,
    bank_stride,
    key_stride,
    scale,
    root,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    SLOTS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    MAX_SPLITS: tl.constexpr,
):
    """Loss of one feature of one clip, and what its backward pass needs.

    Grid: (A · clips,). x (A, clips, CHUNKS·D), y (P, clips, D); mined, nearest (B, clips, topk). loss (A,
    clips); partition (A, B, clips), base 2; scores (A, B, clips, topk): s_a at the nearest keys of b.

    (Long, since one kernel is one launch, and a third of it are parameters, one a line.)
    """
    row = tl.cast(tl.program_id(0), tl.int64)
    rows = tl.num_programs(0)
    feature, clip = row // clips, row % clips
    bank_stride = tl.cast(bank_stride, tl.int64)
    key_stride = tl.cast(key_stride, tl.int64)
    x, _, _, _ = unit_row(x_ptr, row, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)
    y = unit_keys(y_ptr, row, clips, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)

    positive = scale * root * tl.sum(x * y)
    maximum, total = combine_splits(own_maximum_ptr + row, own_total_ptr + row, splits, rows, MAX_SPLITS)
    own_maximum, own_total = add_log_sum_exp(maximum, total, positive, 1.0)
    positives = 1 + topk if SLOTS == 0 else 1 + 2 * topk
    terms = anchors - 1 if SYMMETRIC else anchors
    loss = 0.0
    for term in range(terms):
        anchor = (feature + 1 + term) % anchors if SYMMETRIC else term
        maximum = own_maximum
        total = own_total
        if SLOTS > 0:
            # A pair of features is in the slots of the one that the other follows within half a turn.
            swapped = (term >= SLOTS) if SYMMETRIC else (term < 0)
            owner = tl.where(swapped, anchor, feature)
            slot = tl.where(swapped, anchors - 2 - term, term)
            offset = (owner * SLOTS + slot) * clips + clip
            pair_maximum, pair_total = combine_splits(
                pair_maximum_ptr + offset, pair_total_ptr + offset, splits, rows * SLOTS, MAX_SPLITS
            )
            maximum, total = add_log_sum_exp(own_maximum, own_total, pair_maximum, pair_total)
        pair = (feature * anchors + anchor) * clips + clip
        tl.store(partition_ptr + pair, maximum + tl.log2(total))

        mined = 0.0
        for t in range(topk):
            at = (anchor * clips + clip) * topk + t
            key = tl.load(mined_ptr + at)
            keys = bank_row(
                queue_ptr, key, feature, bank_stride, key_stride, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS
            )
            score = scale / root * tl.sum(x * keys)
            tl.store(scores_ptr + pair * topk + t, score)
            mined += score * (1.0 + tl.load(nearest_ptr + at)) if SLOTS > 0 else score
        # In this order, the difference of two large numbers loses few digits.
        loss += (maximum - (positive + mined * root * root) / positives) + tl.log2(total)
    tl.store(loss_ptr + row, loss * LN2 / terms)
    if SYMMETRIC:
        # What a feature would be to itself: never read, and defined all the same.
        pair = (feature * anchors + feature) * clips + clip
        tl.store(partition_ptr + pair, 0.0)
        for t in range(topk):
            tl.store(scores_ptr + pair * topk + t, 0.0)


def relations(x, y, queue, temperature, wide, topk, context):
    """Launch the forward kernels: loss (A,N), and what the backward pass needs.

    x (P,N,D), features that are their own anchors, or if `wide` (A,N,P·D) with the keys for anchors;
    y (P,N,D) the keys; queue (P,K,D). Also returned, as `relations_backward` takes them: partition (A,B,N),
    scores (A,B,N,topk), mined (B,N,topk) and nearest (B,N,topk).
    """
    x, y, queue = x.contiguous(), y.contiguous(), readable(queue)
    D = queue.shape[-1]
    kernel, chunks, slots = "distill" if wide else "cross", x.shape[-1] // D, _slots(queue, wide, context)
    choices = candidates(
        kernel,
        operand_dtype(x),
        D,
        capability(x.device),
        features=chunks + slots,
        tiles=chunks if wide else chunks + slots,
    )
    values, mined = nearest(y if wide else x, queue, topk)
    run = functools.partial(_relations, x, y, queue, mined, values, temperature, wide, topk, context)
    return *tuning.launch(kernel, choices, x, queue, run, (context,)), mined, values


def _slots(queue, wide, context):
    """How many anchors a program takes beside its feature: all, or of those that are features half."""
    return (len(queue) if wide else len(queue) // 2) if context else 0


def _relations(x, y, queue, mined, values, temperature, wide, topk, context, choice):
    B, K, D = queue.shape
    symmetric, slots = not wide, _slots(queue, wide, context)
    features, clips, chunks = *x.shape[:2], x.shape[-1] // D
    anchors = y if wide else x
    root = math.sqrt(LOG2E / temperature)
    scale = root / math.sqrt(chunks)
    row_blocks = triton.cdiv(clips, choice.rows)
    splits, keys_per_split = split_bank(K, choice, row_blocks * features, x.device)

    new = functools.partial(x.new_empty, dtype=torch.float32)
    own_maximum, own_total = new((2, splits, features, clips))
    pair_maximum, pair_total = new((2, splits, features, slots, clips))
    loss, partition, scores = (
        new((features, clips)),
        new((features, B, clips)),
        new((features, B, clips, topk)),
    )
    strides = queue.stride(0), queue.stride(1)
    with on_device(x):
        unit = unit_rows(x, D, scale, choice.operand)
        unit_anchors = unit if symmetric else unit_rows(anchors, D, root, choice.operand)
        relations_kernel[(row_blocks, splits, features)](
            unit, unit_anchors, queue, own_maximum, own_total, pair_maximum, pair_total,
            clips, K, keys_per_split, *strides, B, root,
            D=D, CHUNKS=chunks, SLOTS=slots, SYMMETRIC=symmetric, RESIDENT=choice.resident, **choice.tile(D),
        )  # fmt: skip
        relations_combine_kernel[(features * clips,)](
            x, y, queue, mined, values, own_maximum, own_total, pair_maximum, pair_total,
            loss, partition, scores, splits, clips, B, topk, *strides, scale, root,
            D=D, BLOCK_D=block(D), CHUNKS=chunks, BLOCK_CHUNKS=triton.next_power_of_2(chunks),
            SLOTS=slots, SYMMETRIC=symmetric, MAX_SPLITS=MAX_SPLITS,
        )  # fmt: skip
    return loss, partition, scores

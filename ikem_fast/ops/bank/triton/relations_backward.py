"""The backward kernels of `cross_modal_contrast` and `relational_distillation` (notation of `relations`).

With h_a = grad_a / (number of anchors) and Z_ab the log-partition that the forward pass left:

    ∂L/∂s_a = (1/τ) Σ_b [ h_a e^{s_a/τ − Z_ab} + (h_a e^{−Z_ab} + h_b e^{−Z_ba}) e^{c_ab/τ} s_b ]

(the term in h_b only where the features are their own anchors),
and the gradient in the feature is that times the bank: the tiles are made again, used, and dropped. The
few keys that were mined, the positive and the normalisation follow in a second kernel, one program a row.
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
    block,
    candidates,
    capability,
    on_device,
    operand_dtype,
    readable,
    split_bank,
    unit_rows,
)
from ikem_fast.ops.bank.triton.relations import HEADROOM, bank_row, load_anchors
from ikem_fast.ops.bank.triton.tiles import (
    LN2,
    bank_tile,
    chunk_similarities,
    load_chunks,
    matmul,
    through_normalisation,
    unit_keys,
    unit_row,
)


@triton.jit
def load_clip(ptr, row, clips, num_rows):
    """One number for each clip of a block, from row `row` of a table (·, num_rows); 0 beyond."""
    return tl.load(ptr + tl.cast(row, tl.int64) * num_rows + clips, mask=clips < num_rows, other=0.0)


@triton.jit(do_not_specialize=["num_rows", "num_keys", "keys_per_split", "root"])
def relations_backward_kernel(
    x_ptr,
    anchors_ptr,
    queue_ptr,
    grad_ptr,
    partition_ptr,
    output_ptr,
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
    OUTPUT_CHUNKS: tl.constexpr,
    TERMS: tl.constexpr,
    CONTEXT: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    PIECE: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    RESIDENT: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Σ_keys τ·∂L/∂s_a × key over one split of the bank, for OUTPUT_CHUNKS of the chunks of feature a.

    Grid: (row blocks, splits, features · groups of output chunks). grad (A, num_rows), partition (A, B,
    num_rows) as the forward pass left it; output (splits, A, num_rows, CHUNKS·D).

    (Long, since one kernel is one launch, and a third of it are parameters, one a line.)
    """
    GROUPS: tl.constexpr = (CHUNKS + OUTPUT_CHUNKS - 1) // OUTPUT_CHUNKS
    SLOTS: tl.constexpr = TERMS if CONTEXT else 0
    split, feature = tl.program_id(1), tl.program_id(2) // GROUPS
    features = tl.num_programs(2) // GROUPS
    first = (tl.program_id(2) % GROUPS) * OUTPUT_CHUNKS
    bank_stride = tl.cast(bank_stride, tl.int64)
    own_bank_ptr = queue_ptr if CHUNKS > 1 else queue_ptr + feature * bank_stride
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    x_ptr += tl.cast(feature, tl.int64) * num_rows * (CHUNKS * BLOCK_D)
    x = load_chunks(x_ptr, rows, num_rows, first, BLOCK_D, CHUNKS)
    others = load_anchors(anchors_ptr, feature, rows, num_rows, anchors, BLOCK_D, SLOTS, SYMMETRIC)

    # Every exponential is taken relative to a partition that contains it, and so is at most 1.
    grad = load_clip(grad_ptr, feature, rows, num_rows) / TERMS
    own_level = tl.full((ROWS,), float("inf"), tl.float32)
    for j in tl.static_range(TERMS):
        b = (feature + 1 + j) % anchors if SYMMETRIC else j
        own_level = tl.minimum(own_level, load_clip(partition_ptr, feature * anchors + b, rows, num_rows))
    own_weight = tl.zeros((ROWS,), tl.float32)
    levels = ()
    weights = ()
    for j in tl.static_range(TERMS):
        b = (feature + 1 + j) % anchors if SYMMETRIC else j
        partition = load_clip(partition_ptr, feature * anchors + b, rows, num_rows)
        own_weight += grad * tl.exp2(own_level - partition)
        if CONTEXT:
            if SYMMETRIC:
                mirrored = load_clip(partition_ptr, b * anchors + feature, rows, num_rows)
                level = tl.minimum(partition, mirrored)
                grad_b = load_clip(grad_ptr, b, rows, num_rows) / TERMS
                weight = grad * tl.exp2(level - partition) + grad_b * tl.exp2(level - mirrored)
            else:
                level = partition
                weight = grad
            levels = levels + (level,)
            weights = weights + (weight,)
    largest = tl.abs(own_weight)
    for j in tl.static_range(SLOTS):
        largest = tl.maximum(largest, tl.abs(weights[j]))
    to_operand = HEADROOM / tl.where(largest > 0.0, largest, float("inf"))

    inverse_root = 1.0 / root
    output = ()
    for _chunk in tl.static_range(OUTPUT_CHUNKS):
        output = output + (tl.zeros((ROWS, BLOCK_D), tl.float32),)
    start = split * keys_per_split
    end = tl.minimum(start + keys_per_split, num_keys)
    for key in tl.range(start, end, KEYS, disable_licm=True):
        r, tiles = chunk_similarities(
            x, x_ptr, rows, num_rows, first, own_bank_ptr, bank_stride, key, end - key, key_stride,
            D, BLOCK_D, CHUNKS, PIECE, OPERAND, PRECISION, WIDEN, RESIDENT, ROWS, KEYS,
        )  # fmt: skip
        s_grad = tl.exp2(r * root - own_level[:, None]) * (own_weight * to_operand)[:, None]
        for j in tl.static_range(SLOTS):
            b = (feature + 1 + j) % anchors if SYMMETRIC else j
            bank_ptr = queue_ptr + b * bank_stride
            anchor_ptr = anchors_ptr + tl.cast(b, tl.int64) * num_rows * BLOCK_D
            r_anchor, _tiles = chunk_similarities(
                (others[j],), anchor_ptr, rows, num_rows, 0, bank_ptr, 0, key, end - key, key_stride,
                D, BLOCK_D, 1, PIECE, OPERAND, PRECISION, WIDEN, RESIDENT, ROWS, KEYS,
            )  # fmt: skip
            product = tl.exp2(r * r_anchor - levels[j][:, None]) * (weights[j] * to_operand)[:, None]
            s_grad += product * (r_anchor * inverse_root)
        s_grad = tl.where(tl.arange(0, KEYS)[None, :] < end - key, s_grad, 0.0).to(OPERAND)
        updated = ()
        for c in tl.static_range(OUTPUT_CHUNKS):
            if PIECE < BLOCK_D:
                chunk_ptr = own_bank_ptr + ((first + c) % CHUNKS) * bank_stride
                tile = bank_tile(chunk_ptr, key, end - key, key_stride, D, BLOCK_D, OPERAND, KEYS)
            else:
                tile = tiles[c]
            updated = updated + (matmul(s_grad, tile, output[c], PRECISION, WIDEN),)
        output = updated

    columns = tl.arange(0, BLOCK_D)
    row = (tl.cast(split, tl.int64) * features + feature) * num_rows + rows
    for c in tl.static_range(OUTPUT_CHUNKS):
        # The last group may come round to chunks that are not its own.
        mask = (rows < num_rows)[:, None] & (columns[None, :] < tl.where(first + c < CHUNKS, D, 0))
        offsets = row[:, None] * (CHUNKS * D) + (first + c) * D + columns[None, :]
        tl.store(output_ptr + offsets, output[c] * (largest / HEADROOM)[:, None], mask=mask)


@triton.jit(do_not_specialize=["splits", "clips", "topk", "scale", "root"])
def relations_gradient_kernel(
    x_ptr,
    y_ptr,
    queue_ptr,
    mined_ptr,
    nearest_ptr,
    scores_ptr,
    partition_ptr,
    grad_ptr,
    output_ptr,
    gradient_ptr,
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
    CONTEXT: tl.constexpr,
    SYMMETRIC: tl.constexpr,
):
    """Gradient of one feature of one clip: the splits in order, the positive, the mined keys.

    Grid: (A · clips,). gradient (A, clips, CHUNKS·D), of any dtype; the rest as in the forward pass.

    (Long, since one kernel is one launch, and a third of it are parameters, one a line.)
    """
    row = tl.cast(tl.program_id(0), tl.int64)
    rows = tl.num_programs(0)
    feature, clip = row // clips, row % clips
    bank_stride = tl.cast(bank_stride, tl.int64)
    key_stride = tl.cast(key_stride, tl.int64)
    x, inverse, offsets, inside = unit_row(x_ptr, row, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)
    y = unit_keys(y_ptr, row, clips, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)

    gradient = tl.zeros((BLOCK_CHUNKS, BLOCK_D), tl.float32)
    for split in range(splits):
        part_ptr = output_ptr + tl.cast(split, tl.int64) * rows * (CHUNKS * D)
        gradient += tl.load(part_ptr + offsets, mask=inside, other=0.0)

    share = 1.0 / (1 + 2 * topk if CONTEXT else 1 + topk)
    terms = anchors - 1 if SYMMETRIC else anchors
    grad = tl.load(grad_ptr + row) / terms
    positive = scale * root * tl.sum(x * y)
    for term in range(terms):
        anchor = (feature + 1 + term) % anchors if SYMMETRIC else term
        pair = (feature * anchors + anchor) * clips + clip
        gradient += grad * (tl.exp2(positive - tl.load(partition_ptr + pair)) - share) * y
        for t in range(topk):
            at = (anchor * clips + clip) * topk + t
            key = tl.load(mined_ptr + at)
            keys = bank_row(
                queue_ptr,
                key,
                feature,
                bank_stride,
                key_stride,
                D,
                BLOCK_D,
                CHUNKS,
                BLOCK_CHUNKS,
            )
            pull = 1.0 + tl.load(nearest_ptr + at) if CONTEXT else 1.0
            gradient -= (grad * pull * share) * keys
    if SYMMETRIC and CONTEXT:
        # The feature is an anchor too: c_ba at its own nearest keys.
        for t in range(topk):
            pull = 0.0
            for term in range(terms):
                b = (feature + 1 + term) % anchors
                grad_b = tl.load(grad_ptr + b * clips + clip) / terms
                pull += grad_b * tl.load(scores_ptr + ((b * anchors + feature) * clips + clip) * topk + t)
            key = tl.load(mined_ptr + row * topk + t)
            keys = bank_row(
                queue_ptr, key, feature, bank_stride, key_stride, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS
            )
            gradient -= (pull * share) * keys

    gradient = through_normalisation(gradient * (scale * root * LN2), x, inverse)
    tl.store(gradient_ptr + offsets, gradient, mask=inside)


def backward_tiles(symmetric, bank, operand):
    """The name that the launch of `relations_backward_kernel` is pinned under."""
    if not symmetric:
        return "distill_backward"
    return "cross_backward_narrowing" if bank.itemsize > operand.itemsize else "cross_backward"


def relations_backward(grad, x, y, queue, partition, scores, mined, values, temperature, wide, topk, context):
    """Launch the backward kernels: the gradient in x, of its shape and dtype.

    grad (A,N); the other arguments as `relations` took and returned them.
    """
    x, y, queue, grad = x.contiguous(), y.contiguous(), readable(queue), grad.float().contiguous()
    D, operand = queue.shape[-1], operand_dtype(x)
    chunks, slots = x.shape[-1] // D, _terms(queue, wide) if context else 0
    kernel = backward_tiles(not wide, queue.dtype, operand)
    choices = candidates(
        kernel,
        operand,
        D,
        capability(x.device),
        features=chunks + slots,
        tiles=chunks if wide else chunks + slots,
        outputs=chunks,
    )
    run = functools.partial(
        _relations_backward, grad, x, y, queue, partition, scores, mined, values, temperature, wide, topk,
        context,
    )  # fmt: skip
    return tuning.launch(kernel, choices, x, queue, run, (context,))


def _terms(queue, wide):
    """How many anchors guide a feature: all, or where features are anchors all others."""
    return len(queue) if wide else len(queue) - 1


def _relations_backward(
    grad, x, y, queue, partition, scores, mined, values, temperature, wide, topk, context, choice
):
    B, K, D = queue.shape
    symmetric, terms = not wide, _terms(queue, wide)
    features, clips, chunks = *x.shape[:2], x.shape[-1] // D
    anchors = y if wide else x
    root = math.sqrt(LOG2E / temperature)
    scale = root / math.sqrt(chunks)
    groups = triton.cdiv(chunks, choice.output_chunks)
    row_blocks = triton.cdiv(clips, choice.rows)
    splits, keys_per_split = split_bank(K, choice, row_blocks * features * groups, x.device)

    output = x.new_empty((splits, features, clips, chunks * D), dtype=torch.float32)
    gradient = torch.empty_like(x)
    strides = queue.stride(0), queue.stride(1)
    with on_device(x):
        unit = unit_rows(x, D, scale, choice.operand)
        unit_anchors = unit if symmetric else unit_rows(anchors, D, root, choice.operand)
        relations_backward_kernel[(row_blocks, splits, features * groups)](
            unit, unit_anchors, queue, grad, partition, output, clips, K, keys_per_split, *strides, B, root,
            D=D, CHUNKS=chunks, OUTPUT_CHUNKS=choice.output_chunks, TERMS=terms, CONTEXT=context,
            SYMMETRIC=symmetric, RESIDENT=choice.resident, **choice.tile(D),
        )  # fmt: skip
        relations_gradient_kernel[(features * clips,)](
            x, y, queue, mined, values, scores, partition, grad, output, gradient,
            splits, clips, B, topk, *strides, scale, root,
            D=D, BLOCK_D=block(D), CHUNKS=chunks, BLOCK_CHUNKS=triton.next_power_of_2(chunks),
            CONTEXT=context, SYMMETRIC=symmetric,
        )  # fmt: skip
    return gradient

"""The nearest keys of each query: running top-k over tiles of the bank, then over the bank's splits.

Equal similarities are taken in the order of the bank, so the same bits come out of every run.
"""

import functools

import torch
import triton
import triton.language as tl

from ikem_fast.ops.bank.triton import tuning
from ikem_fast.ops.bank.triton.launch import (
    MAX_SPLITS,
    candidates,
    capability,
    on_device,
    operand_dtype,
    readable,
    split_bank,
    unit_rows,
)
from ikem_fast.ops.bank.triton.tiles import add_similarities, bank_tile, load_chunk, matmul


@triton.jit(do_not_specialize=["num_rows", "num_keys", "keys_per_split", "topk"])
def nearest_kernel(
    q_ptr,
    queue_ptr,
    values_ptr,
    indices_ptr,
    num_rows,
    num_keys,
    keys_per_split,
    bank_stride,
    key_stride,
    topk,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TOPK: tl.constexpr,
    PIECE: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """The topk ≤ TOPK largest similarities of a row block in one split of the bank, in no order.

    Grid: (row blocks, splits, P). q (P, num_rows, BLOCK_D) unit rows; values float32 and indices int32
    (splits, P, num_rows, topk).
    """
    split, modality = tl.program_id(1), tl.program_id(2)
    bank_ptr = queue_ptr + modality * tl.cast(bank_stride, tl.int64)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    q_ptr += tl.cast(modality, tl.int64) * num_rows * BLOCK_D
    q = load_chunk(q_ptr, rows, num_rows, 0, BLOCK_D, 1)

    slots = tl.arange(0, TOPK)[None, :]
    # Slots beyond topk hold +∞ and so are never the smallest, the one to be replaced.
    values = tl.where(slots < topk, float("-inf"), float("inf")) + tl.zeros((ROWS, TOPK), tl.float32)
    indices = tl.zeros((ROWS, TOPK), tl.int32)
    columns = tl.arange(0, KEYS)[None, :]

    start = split * keys_per_split
    end = tl.minimum(start + keys_per_split, num_keys)
    for key in range(start, end, KEYS):
        s = tl.zeros((ROWS, KEYS), tl.float32)
        if PIECE < BLOCK_D:
            s = add_similarities(
                s, q_ptr, rows, num_rows, 0, bank_ptr, key, end - key, key_stride,
                D, BLOCK_D, 1, PIECE, PRECISION, WIDEN, KEYS,
            )  # fmt: skip
        else:
            tile = bank_tile(bank_ptr, key, end - key, key_stride, D, BLOCK_D, OPERAND, KEYS)
            s = matmul(q, tile.T, s, PRECISION, WIDEN)
        s = tl.where(columns < end - key, s, float("-inf"))
        best, column = tl.max(s, 1, return_indices=True)
        smallest, slot = tl.min(values, 1, return_indices=True)
        # After the first tiles a row seldom improves, and then by one key.
        while tl.max((best > smallest).to(tl.int32), 0) > 0:
            replaced = (slots == slot[:, None]) & (best > smallest)[:, None]
            values = tl.where(replaced, best[:, None], values)
            indices = tl.where(replaced, (key + column)[:, None], indices)
            s = tl.where(columns == column[:, None], float("-inf"), s)
            best, column = tl.max(s, 1, return_indices=True)
            smallest, slot = tl.min(values, 1, return_indices=True)

    row = (tl.cast(split, tl.int64) * tl.num_programs(2) + modality) * num_rows + rows
    offsets = row[:, None] * topk + slots
    mask = (rows < num_rows)[:, None] & (slots < topk)
    tl.store(values_ptr + offsets, values, mask=mask)
    tl.store(indices_ptr + offsets, indices, mask=mask)


@triton.jit(do_not_specialize=["splits", "topk"])
def nearest_combine_kernel(
    part_values_ptr,
    part_indices_ptr,
    values_ptr,
    indices_ptr,
    splits,
    topk,
    TOPK: tl.constexpr,
    MAX_SPLITS: tl.constexpr,
):
    """The topk largest of one row out of all splits, largest first. Grid: (P · rows,)."""
    row = tl.cast(tl.program_id(0), tl.int64)
    candidate = tl.arange(0, MAX_SPLITS * TOPK)
    split, slot = candidate // TOPK, candidate % TOPK
    mask = (split < splits) & (slot < topk)
    offsets = (split.to(tl.int64) * tl.num_programs(0) + row) * topk + slot
    values = tl.load(part_values_ptr + offsets, mask=mask, other=float("-inf"))
    indices = tl.load(part_indices_ptr + offsets, mask=mask, other=0)
    for rank in range(topk):
        largest = tl.max(values, 0)
        index = tl.min(tl.where(values == largest, indices, 2147483647), 0)
        tl.store(values_ptr + row * topk + rank, largest)
        tl.store(indices_ptr + row * topk + rank, index.to(tl.int64))
        values = tl.where(indices == index, float("-inf"), values)


def nearest(q, queue, topk):
    """Launch both kernels: values (P,N,topk) float32, indices (P,N,topk) int64, most similar first."""
    q, queue = q.contiguous(), readable(queue)
    choices = candidates("nearest", operand_dtype(q), queue.shape[-1], capability(q.device))
    return tuning.launch("nearest", choices, q, queue, functools.partial(_nearest, q, queue, topk), (topk,))


def _nearest(q, queue, topk, choice):
    P, K, D = queue.shape
    rows, TOPK = q.shape[1], triton.next_power_of_2(topk)
    row_blocks = triton.cdiv(rows, choice.rows)
    splits, keys_per_split = split_bank(K, choice, row_blocks * P, q.device)

    part_values = q.new_empty((splits, P, rows, topk), dtype=torch.float32)
    part_indices = q.new_empty((splits, P, rows, topk), dtype=torch.int32)
    values = q.new_empty((P, rows, topk), dtype=torch.float32)
    indices = q.new_empty((P, rows, topk), dtype=torch.int64)
    with on_device(q):
        unit = unit_rows(q, D, 1.0, choice.operand)
        nearest_kernel[(row_blocks, splits, P)](
            unit, queue, part_values, part_indices, rows, K, keys_per_split, queue.stride(0), queue.stride(1),
            topk, D=D, TOPK=TOPK, **choice.tile(D),
        )  # fmt: skip
        nearest_combine_kernel[(P * rows,)](
            part_values, part_indices, values, indices, splits, topk, TOPK=TOPK, MAX_SPLITS=MAX_SPLITS
        )
    return values, indices

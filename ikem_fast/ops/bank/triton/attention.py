"""InfoNCE as attention: the kernels of `info_nce` and `implicit_exchange`.

The loss of a row x with key y, logsumexp([x·y, x·bank]) − x·y, is the log-sum-exp of attention scores whose
first key is the positive; its gradient in x is that attention's output (values = keys) less y. So one
pass over the bank leaves the loss and its gradient, and the backward pass is a multiplication.

First kernel: each program takes a block of rows through its split of the bank. Second kernel: one program
a row puts the splits together in order, adds the positive, and leads the gradient through normalisation.
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
from ikem_fast.ops.bank.triton.tiles import (
    LN2,
    bank_tile,
    chunk_similarities,
    combine_splits,
    load_chunks,
    log_sum_exp_step,
    matmul,
    through_normalisation,
    unit_keys,
    unit_row,
)


@triton.jit(do_not_specialize=["num_rows", "num_keys", "keys_per_split"])
def attention_kernel(
    x_ptr,
    queue_ptr,
    maximum_ptr,
    total_ptr,
    output_ptr,
    num_rows,
    num_keys,
    keys_per_split,
    bank_stride,
    key_stride,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    OUTPUT_CHUNKS: tl.constexpr,
    PIECE: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    RESIDENT: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Running log-sum-exp and weighted keys of a row block over one split of the bank.

    Grid: (row blocks, splits, problems · groups of OUTPUT_CHUNKS output chunks). A problem has its own
    rows and its own bank (info_nce: a modality); with CHUNKS > 1 there is one problem, all banks in it.
    x (problems, num_rows, CHUNKS, BLOCK_D), scaled for exponents of 2; maximum, total (splits, problems,
    num_rows); output (splits, problems, num_rows, CHUNKS·D), written unless OUTPUT_CHUNKS is 0.

    (Long, since one kernel is one launch, and a third of it are parameters, one a line.)
    """
    GROUPS: tl.constexpr = 1 if OUTPUT_CHUNKS == 0 else (CHUNKS + OUTPUT_CHUNKS - 1) // OUTPUT_CHUNKS
    split = tl.program_id(1)
    problem = tl.program_id(2) // GROUPS
    problems = tl.num_programs(2) // GROUPS
    # A program takes the chunks in turn from the first that it writes: the same code then serves each group.
    first = (tl.program_id(2) % GROUPS) * OUTPUT_CHUNKS
    bank_stride = tl.cast(bank_stride, tl.int64)
    bank_ptr = queue_ptr + problem * bank_stride
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)

    x_ptr += tl.cast(problem, tl.int64) * num_rows * (CHUNKS * BLOCK_D)
    x = load_chunks(x_ptr, rows, num_rows, first, BLOCK_D, CHUNKS)

    output = ()
    for _chunk in tl.static_range(OUTPUT_CHUNKS):
        output = output + (tl.zeros((ROWS, BLOCK_D), tl.float32),)
    maximum = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)

    start = split * keys_per_split
    end = tl.minimum(start + keys_per_split, num_keys)
    # Hoisting the shared-memory descriptors of every chunk out of the loop would spill registers.
    for key in tl.range(start, end, KEYS, disable_licm=CHUNKS > 1):
        scores, tiles = chunk_similarities(
            x, x_ptr, rows, num_rows, first, bank_ptr, bank_stride, key, end - key, key_stride,
            D, BLOCK_D, CHUNKS, PIECE, OPERAND, PRECISION, WIDEN, RESIDENT, ROWS, KEYS,
        )  # fmt: skip
        scores = tl.where(tl.arange(0, KEYS)[None, :] < end - key, scores, float("-inf"))
        maximum, total, weights, decay = log_sum_exp_step(maximum, total, scores)
        weights = weights.to(OPERAND)
        updated = ()
        for c in tl.static_range(OUTPUT_CHUNKS):
            if PIECE < BLOCK_D:
                chunk_ptr = bank_ptr + ((first + c) % CHUNKS) * bank_stride
                tile = bank_tile(chunk_ptr, key, end - key, key_stride, D, BLOCK_D, OPERAND, KEYS)
            else:
                tile = tiles[c]
            summed = matmul(weights, tile, output[c] * decay[:, None], PRECISION, WIDEN)
            updated = updated + (summed,)
        output = updated

    inside = rows < num_rows
    row = (tl.cast(split, tl.int64) * problems + problem) * num_rows + rows
    if first == 0:
        tl.store(maximum_ptr + row, maximum, mask=inside)
        tl.store(total_ptr + row, total, mask=inside)
    columns = tl.arange(0, BLOCK_D)
    for c in tl.static_range(OUTPUT_CHUNKS):
        # The last group may come round to chunks that are not its own.
        mask = inside[:, None] & (columns[None, :] < tl.where(first + c < CHUNKS, D, 0))
        offsets = row[:, None] * (CHUNKS * D) + (first + c) * D + columns[None, :]
        tl.store(output_ptr + offsets, output[c], mask=mask)


@triton.jit(do_not_specialize=["splits", "clips"])
def attention_combine_kernel(
    x_ptr,
    y_ptr,
    maximum_ptr,
    total_ptr,
    output_ptr,
    loss_ptr,
    direction_ptr,
    splits,
    clips,
    scale,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    MAX_SPLITS: tl.constexpr,
    WITH_DIRECTION: tl.constexpr,
):
    """Loss of one row, and its gradient in the row as it was before normalisation.

    Grid: (rows of all problems,). x (rows, CHUNKS·D), y (P, clips, D): with CHUNKS > 1 the key of a row is
    its clip's keys side by side. loss (rows,), direction (rows, CHUNKS·D), both float32.
    """
    row = tl.cast(tl.program_id(0), tl.int64)
    rows = tl.num_programs(0)
    x, inverse, offsets, inside = unit_row(x_ptr, row, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)
    y = unit_keys(y_ptr, row, clips, D, BLOCK_D, CHUNKS, BLOCK_CHUNKS)

    positive = scale * tl.sum(x * y)
    bank_maximum, bank_total = combine_splits(maximum_ptr + row, total_ptr + row, splits, rows, MAX_SPLITS)
    maximum = tl.maximum(bank_maximum, positive)
    total = bank_total * tl.exp2(bank_maximum - maximum) + tl.exp2(positive - maximum)
    # In this order, a loss near 0 keeps its digits.
    tl.store(loss_ptr + row, ((maximum - positive) + tl.log2(total)) * LN2)

    if WITH_DIRECTION:
        output = tl.exp2(positive - maximum) * y
        for split in range(splits):
            part = tl.cast(split, tl.int64) * rows
            weight = tl.exp2(tl.load(maximum_ptr + part + row) - maximum)
            output += weight * tl.load(output_ptr + part * (CHUNKS * D) + offsets, mask=inside, other=0.0)
        gradient = (scale * LN2) * (output / total - y)
        gradient = through_normalisation(gradient, x, inverse)
        tl.store(direction_ptr + offsets, gradient, mask=inside)


def attention(x, y, queue, temperature, wide, with_direction):
    """Launch both kernels: loss (P,N), direction (P,N,·) or an empty tensor, float32.

    x (P,N,D), or (P,N,P·D) if `wide`; y (P,N,D); queue (P,K,D).
    """
    P, _, D = queue.shape
    kernel, chunks = ("wide_attention", P) if wide else ("attention", 1)
    choices = candidates(
        kernel,
        operand_dtype(x),
        D,
        capability(x.device),
        features=chunks,
        tiles=chunks,
        outputs=chunks if with_direction else 0,
    )
    x, y, queue = x.contiguous(), y.contiguous(), readable(queue)
    run = functools.partial(_attention, x, y, queue, temperature, wide, with_direction)
    return tuning.launch(kernel, choices, x, queue, run, (with_direction,))


def _attention(x, y, queue, temperature, wide, with_direction, choice):
    P, K, D = queue.shape
    problems, rows, chunks = (1, P * x.shape[1], P) if wide else (P, x.shape[1], 1)
    scale = LOG2E / (temperature * math.sqrt(chunks))
    groups = triton.cdiv(chunks, choice.output_chunks) if with_direction else 1
    row_blocks = triton.cdiv(rows, choice.rows)
    splits, keys_per_split = split_bank(K, choice, row_blocks * problems * groups, x.device)

    maximum, total = x.new_empty((2, splits, problems * rows), dtype=torch.float32)
    output = x.new_empty((splits, problems * rows, chunks * D) if with_direction else 0, dtype=torch.float32)
    loss = x.new_empty(x.shape[:2], dtype=torch.float32)
    direction = x.new_empty(x.shape if with_direction else 0, dtype=torch.float32)
    strides = queue.stride(0), queue.stride(1)
    with on_device(x):
        unit = unit_rows(x, D, scale, choice.operand)
        attention_kernel[(row_blocks, splits, problems * groups)](
            unit, queue, maximum, total, output, rows, K, keys_per_split, *strides,
            D=D, CHUNKS=chunks, OUTPUT_CHUNKS=choice.output_chunks, RESIDENT=choice.resident,
            **choice.tile(D),
        )  # fmt: skip
        attention_combine_kernel[(problems * rows,)](
            x, y, maximum, total, output, loss, direction, splits, x.shape[1], scale,
            D=D, BLOCK_D=block(D), CHUNKS=chunks, BLOCK_CHUNKS=triton.next_power_of_2(chunks),
            MAX_SPLITS=MAX_SPLITS, WITH_DIRECTION=with_direction,
        )  # fmt: skip
    return loss, direction


def softmax(x, queue, limits, with_mean):
    """Rows x (P,N,D) as they are: partition (P,N); mean key (P,N,D) and counts above limits (P,N), or empty.

    One kernel; its splits of the bank are put together by torch, and counts are of similarities made again.
    """
    D = queue.shape[-1]
    outputs = 1 if with_mean else 0
    choices = candidates("attention", operand_dtype(x), D, capability(x.device), outputs=outputs)
    x, queue = x.contiguous(), readable(queue)
    run = functools.partial(_softmax, x, queue, with_mean)
    partition, mean = tuning.launch("attention", choices, x, queue, run, ("softmax", with_mean))
    above = x.new_zeros(x.shape[:2] if limits is not None else (0,), dtype=torch.int64)
    for keys in queue.split(8192, 1) if limits is not None else ():
        above += (x.float() @ keys.float().mT > limits.unsqueeze(-1)).sum(-1)
    return partition, mean, above


def _softmax(x, queue, with_mean, choice):
    P, K, D = queue.shape
    rows = x.shape[1]
    row_blocks = triton.cdiv(rows, choice.rows)
    splits, keys_per_split = split_bank(K, choice, row_blocks * P, x.device)
    maximum, total = x.new_empty((2, splits, P, rows), dtype=torch.float32)
    output = x.new_empty((splits, P, rows, D) if with_mean else 0, dtype=torch.float32)
    scaled = torch.nn.functional.pad(x.float() * LOG2E, (0, block(D) - D)).to(choice.operand)
    with on_device(x):
        attention_kernel[(row_blocks, splits, P)](
            scaled, queue, maximum, total, output, rows, K, keys_per_split, queue.stride(0), queue.stride(1),
            D=D, CHUNKS=1, OUTPUT_CHUNKS=choice.output_chunks, RESIDENT=choice.resident, **choice.tile(D),
        )  # fmt: skip
    most = maximum.amax(0)
    weight = torch.exp2(maximum - most)
    whole = (weight * total).sum(0)
    partition = (most + whole.log2()) / LOG2E
    mean = (weight.unsqueeze(-1) * output).sum(0) / whole.unsqueeze(-1) if with_mean else output
    return partition, mean

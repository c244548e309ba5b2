"""How the kernels are launched: tiles, and tensors for what they make.

Activations are (B,T,V,C) and contiguous, in the dtype that is computed in; all else is float32.
"""

import functools
from typing import NamedTuple

import torch
import triton

from ikem_fast.ops._triton import INTERPRETED, precision
from ikem_fast.ops.encoder.triton import passes, products, weights

MAX_BLOCK = 64  # channels of a tile
WARPS = 8  # of a program that makes rows
SUMMING = 8  # warps that sum weights' gradients, for each multiprocessor
CHUNK = 1024  # tiles whose sums are added at a time
SUMMED_BLOCK, SUMMED_ROWS = 32, 32  # channels and rows of a tile of those: as many as registers hold


class Moments(NamedTuple):
    """Of the tiles of rows that a kernel made."""

    left: torch.Tensor
    rows_of_tile: int


@functools.cache
def multiprocessors(device):
    """How many a GPU has; interpreted a few, so that sums are of several records."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def statistics(norm, gamma, beta, moments, rows):
    """The table of a normalization of `rows` rows with these `Moments`; in training running ones move on."""
    left, rows_of_tile = moments or (None, 1)
    table = gamma.new_empty((4, len(gamma)))
    passes.statistics_kernel[(len(gamma),)](
        left, gamma, beta, norm.running_mean, norm.running_var, norm.num_batches_tracked, table,
        rows, rows_of_tile, norm.momentum, norm.eps, BATCH=norm.training, BLOCK=CHUNK,
    )  # fmt: skip
    return table


def coefficients(norm, sums, table, rows):
    """(coefficients, gradients), both (3,C): see the kernel."""
    made = torch.empty((2, 3, table.shape[1]), dtype=table.dtype, device=table.device)
    passes.coefficients_kernel[(table.shape[1],)](
        sums, table, *made, rows, sums.shape[2], BATCH=norm.training, BLOCK=CHUNK
    )
    return made


def over_graph(x, A, edges, weight, *, bias=None, moments=False):
    """The graph convolution of x by weight (K,C',C) and bias (K·C'), and its moments or None."""
    made = weight.shape[1]
    return _graph(x, A, edges, weight, made, False, bias=bias, moments=moments)


def over_graph_backward(grad, A, edges, weight, past, output):
    """The gradient in what `over_graph` took, added to `past`, where `output` > 0 if that is given."""
    return _graph(grad, A, edges, weight, weight.shape[2], True, past=past, output=output)[0]


def _graph(x, A, edges, weight, made, transposed, bias=None, past=None, output=None, moments=False):
    y = x.new_empty((*x.shape[:-1], made))
    grid, tile = _product(x.shape[-1], made, y)
    left = Moments(_sums(y, grid[0]), tile["ROWS"]) if moments else None
    products.graph_kernel[grid](
        x, A, edges.table, weight, bias, past, output, y, left and left.left, y.numel() // made, x.shape[2],
        MOST=edges.most, COUNTS=edges.counts, TRANSPOSED=transposed, **tile,
    )  # fmt: skip
    return y, left


def over_graph_weights(x, grad, A, edges, weight, bias):
    """Gradients in A where it has edges, the weight (K,C',C) and the bias (K·C') of `over_graph`."""
    K, made, given = weight.shape
    frames, joints = x.shape[0] * x.shape[1], x.shape[2]
    block_given, block_made = _block(given, SUMMED_BLOCK), _block(made, SUMMED_BLOCK)
    pairs = triton.cdiv(given, block_given) * triton.cdiv(made, block_made)
    warps = _warps(block_given)
    lanes = max(SUMMED_ROWS, triton.next_power_of_2(joints))
    records = _records(x, triton.cdiv(frames, lanes // joints), pairs * warps)
    ends = edges.table.numel() // 2
    width = weight.numel() + bias.numel() + pairs * ends
    kept = A.new_empty((records, width))
    for partition, count in enumerate(edges.counts):
        weights.graph_weights_kernel[records, pairs](
            x, grad, A, edges.table, weight, bias, kept, frames, joints, width,
            PARTITION=partition, PARTITIONS=K, MOST=edges.most, COUNT=count, ROWS=lanes,
            GIVEN=given, MADE=made, BLOCK_GIVEN=block_given, BLOCK_MADE=block_made,
            BLOCK_SLOTS=triton.next_power_of_2(max(count, 1)), BLOCK_JOINTS=triton.next_power_of_2(joints),
            num_warps=warps, num_stages=2, **_factors(x),
        )  # fmt: skip
    in_weight, in_bias, met = kept.sum(0).split([weight.numel(), bias.numel(), pairs * ends])
    met = met if pairs == 1 else met.view(pairs, ends).sum(0)
    return met[edges.places], in_weight, in_bias


def over_time(x, weight, bias, stride, moments):
    """The convolution over time of x by weight (L,C',C) and bias, and its moments or None."""
    taps, made, given = weight.shape
    B, T, V, _ = x.shape
    y = x.new_empty((B, (T - 1) // stride + 1, V, made))
    grid, tile = _product(given, made, y)
    left = Moments(_sums(y, grid[0]), tile["ROWS"]) if moments else None
    products.temporal_kernel[grid](
        x, weight, bias, y, left and left.left, y.numel() // made, T, V, STRIDE=stride, TAPS=taps, **tile
    )
    return y, left


def over_time_backward(grad, weight, stride, y, table=None):
    """The gradient in what `over_time` took, of the shape of y, and its sums or None.

    With a table: where the normalized y, which then was taken, is above 0, and 0 elsewhere.
    """
    taps, given, made = weight.shape
    _, T, V, _ = y.shape
    grad_x = torch.empty_like(y)
    (tiles, blocks), tile = _product(given, made, grad)
    sums = None if table is None else _sums(grad_x, tiles * stride)
    products.temporal_backward_kernel[tiles, blocks, stride](
        grad, y, table, weight, grad_x, sums, grad.numel() // given, T, V, STRIDE=stride, TAPS=taps, **tile
    )
    return grad_x, sums


def over_time_weights(grad, x, weight, stride):
    """The gradient in the weight of `over_time`, as (C',C,L)."""
    taps, made, given = weight.shape
    block_given, block_made = _block(given, SUMMED_BLOCK), _block(made, SUMMED_BLOCK)
    pairs = triton.cdiv(given, block_given) * triton.cdiv(made, block_made)
    rows, warps = grad.numel() // made, _warps(block_given)
    group = 3 if taps % 3 == 0 else 1  # taps of a program: for all of them there are no registers
    pairs *= taps // group
    records = _records(x, triton.cdiv(rows, SUMMED_ROWS), pairs * warps)
    kept = torch.empty((records, made, given, taps), dtype=torch.float32, device=x.device)
    weights.temporal_weights_kernel[records, pairs](
        x, grad, kept, rows, x.shape[1], x.shape[2],
        STRIDE=stride, TAPS=taps, GROUP=group, GIVEN=given, MADE=made, ROWS=SUMMED_ROWS,
        BLOCK_GIVEN=block_given, BLOCK_MADE=block_made, num_warps=warps, num_stages=2, **_factors(x),
    )  # fmt: skip
    return kept.sum(0)


def moments(y):
    """What `statistics` takes, of a y that no kernel made."""
    grid, tile = _pass(y)
    left = Moments(_sums(y, grid[0]), tile["ROWS"])
    passes.moments_kernel[grid](y, left.left, y.numel() // y.shape[-1], **tile)
    return left


def output(y, table, past=None, past_table=None, seed=None, limit=0):
    """max(0, dropout(normalized y) + past)."""
    grid, tile = _pass(y)
    made = torch.empty_like(y)
    passes.output_kernel[grid](
        y, table, past, past_table, seed, made, y.numel() // y.shape[-1], limit, **tile
    )
    return made


def output_sums(grad, made, y, table, past=None, past_table=None, seed=None, limit=0):
    """Of the gradient in what `output` made: sums for the normalization of y, and of past or None."""
    grid, tile = _pass(y)
    sums, past_sums = _sums(y, grid[0]), None if past_table is None else _sums(y, grid[0])
    passes.output_sums_kernel[grid](
        grad, made, y, table, past, past_table, seed, sums, past_sums, y.numel() // y.shape[-1], limit, **tile
    )
    return sums, past_sums


def output_backward(grad, made, y, by, past=None, past_by=None, seed=None, limit=0):
    """Gradients in y and in past or None, by `coefficients`; of one that counts all over if made is None."""
    grid, tile = _pass(y)
    grad_y, grad_past = torch.empty_like(y), None if past_by is None else torch.empty_like(y)
    passes.output_backward_kernel[grid](
        grad, made, y, by, past, past_by, seed, grad_y, grad_past, y.numel() // y.shape[-1], limit, **tile
    )
    return grad_y, grad_past


def _block(channels, most=MAX_BLOCK):
    """Channels of a tile: a power of two, and at least the 16 that a matrix instruction takes."""
    return min(max(16, triton.next_power_of_2(channels)), most)


def _rows(block):
    """Rows of a tile so wide: few enough that a multiprocessor has registers for 16 warps."""
    return 256 if block == 16 else 128


def _warps(block):
    """Warps of a program that sums gradients of so many given channels: with more they would do the same."""
    return block // 16


def _product(given, made, y):
    """Grid and tile of a product of the rows of y, `made` channels from `given`."""
    block_given, block_made = _block(given), _block(made)
    rows = _rows(max(block_given, block_made))
    tile = {"GIVEN": given, "MADE": made, "BLOCK_GIVEN": block_given, "BLOCK_MADE": block_made, "ROWS": rows}
    tile |= {"num_warps": WARPS} | _factors(y)
    return (triton.cdiv(y.numel() // y.shape[-1], rows), triton.cdiv(made, block_made)), tile


def _pass(y):
    """Grid and tile of a pass over the rows of y."""
    channels = y.shape[-1]
    block = _block(channels)
    rows = _rows(block)
    grid = triton.cdiv(y.numel() // channels, rows), triton.cdiv(channels, block)
    return grid, {"CHANNELS": channels, "ROWS": rows, "BLOCK": block, "num_warps": WARPS}


def _factors(x):
    return {"PRECISION": precision(), "WIDEN": INTERPRETED and x.dtype == torch.bfloat16}


def _records(x, tiles, warps):
    """Records of weights' gradients, where each takes so many warps."""
    return max(1, min(tiles, SUMMING * multiprocessors(x.device) // warps))


def _sums(y, tiles):
    return torch.empty((2, y.shape[-1], tiles), dtype=torch.float32, device=y.device)

"""How the kernels are launched: tiles, and tensors for what they make.

Activations are (B,T,V,C) and contiguous, in the dtype that is computed in; all else is float32.
"""

import functools

import torch
import triton

from ikem_fast.ops._triton import INTERPRETED, precision
from ikem_fast.ops.encoder.triton import passes, products, weights
from ikem_fast.ops.encoder.triton.passes import Moments, Norm, Pass, TakenBack
from ikem_fast.ops.encoder.triton.products import (
    Adjacency,
    Clips,
    Convolution,
    Degrees,
    Factors,
    Result,
    Window,
)
from ikem_fast.ops.encoder.triton.rows import Normalized, Rectified
from ikem_fast.ops.encoder.triton.weights import Partition

MAX_BLOCK = 64  # channels of a tile
WARPS = 8  # of a program that makes rows
SUMMING = 8  # warps that sum weights' gradients, for each multiprocessor
CHUNK = 1024  # tiles whose sums are added at a time
SUMMED_BLOCK, SUMMED_ROWS = 32, 32  # channels and rows of a tile of those: as many as registers hold


@functools.cache
def multiprocessors(device):
    """How many a GPU has; interpreted a few, so that sums are of several records."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def statistics(norm, gamma, beta, moments, rows):
    """The table of a normalization of `rows` rows with these `Moments`; in training running ones move on."""
    table = gamma.new_empty((4, len(gamma)))
    running = norm.running_mean, norm.running_var, norm.num_batches_tracked
    passes.statistics_kernel[(len(gamma),)](
        Norm(gamma, beta, *running, norm.momentum, norm.eps), moments, table, rows, BLOCK=CHUNK
    )
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


def over_graph_backward(grad, A, edges, weight, past):
    """The gradient in what `over_graph` took, added to the `Rectified` past if there is one."""
    return _graph(grad, A, edges, weight, weight.shape[2], True, past=past)[0]


def _graph(x, A, edges, weight, made, transposed, bias=None, past=None, moments=False):
    y = x.new_empty((*x.shape[:-1], made))
    grid, factors = _product(x.shape[-1], made, y)
    left = Moments(_sums(y, grid[0]), factors.ROWS) if moments else None
    products.graph_kernel[grid](
        x, Adjacency(A, edges.table, x.shape[2]), Convolution(weight, bias), past or Rectified(None, None),
        Result(y, left and left.moments_ptr), y.numel() // made,
        DEGREES=_degrees(edges), TRANSPOSED=transposed, FACTORS=factors, num_warps=WARPS,
    )  # fmt: skip
    return y, left


def over_graph_weights(x, grad, A, edges, weight, bias):
    """Gradients in A where it has edges, the weight (K,C',C) and the bias (K·C') of `over_graph`."""
    _, made, given = weight.shape
    frames, joints = x.shape[0] * x.shape[1], x.shape[2]
    lanes = max(SUMMED_ROWS, triton.next_power_of_2(joints))
    factors, pairs, warps = _summed(given, made, lanes, x)
    records = _records(x, triton.cdiv(frames, lanes // joints), pairs * warps)
    ends = edges.table.numel() // 2
    width = weight.numel() + bias.numel() + pairs * ends
    kept = A.new_empty((records, width))
    for number, count in enumerate(edges.counts):
        partition = Partition(number, *map(triton.next_power_of_2, (max(count, 1), joints)))
        weights.graph_weights_kernel[records, pairs](
            x, grad, Adjacency(A, edges.table, joints), Convolution(weight, bias), kept, frames, width,
            PARTITION=partition, DEGREES=_degrees(edges), FACTORS=factors, num_warps=warps, num_stages=2,
        )  # fmt: skip
    in_weight, in_bias, met = kept.sum(0).split([weight.numel(), bias.numel(), pairs * ends])
    met = met if pairs == 1 else met.view(pairs, ends).sum(0)
    return met[edges.places], in_weight, in_bias


def over_time(x, weight, bias, stride, moments):
    """The convolution over time of x by weight (L,C',C) and bias, and its moments or None."""
    taps, made, given = weight.shape
    B, T, V, _ = x.shape
    y = x.new_empty((B, (T - 1) // stride + 1, V, made))
    grid, factors = _product(given, made, y)
    left = Moments(_sums(y, grid[0]), factors.ROWS) if moments else None
    products.temporal_kernel[grid](
        x, Convolution(weight, bias), Result(y, left and left.moments_ptr), y.numel() // made, Clips(T, V),
        WINDOW=Window(stride, taps), FACTORS=factors, num_warps=WARPS,
    )  # fmt: skip
    return y, left


def over_time_backward(grad, weight, stride, x, y=None):
    """The gradient in what `over_time` took, of the shape of x, and its sums or None.

    y: what was `Normalized`, if that and a ReLU made x: the gradient is 0 where the ReLU's is.
    """
    taps, given, made = weight.shape
    _, T, V, _ = x.shape
    grad_x = torch.empty_like(x)
    (tiles, blocks), factors = _product(given, made, grad)
    sums = None if y is None else _sums(grad_x, tiles * stride)
    products.temporal_backward_kernel[tiles, blocks, stride](
        grad, y, weight, grad_x, sums, grad.numel() // given, Clips(T, V),
        WINDOW=Window(stride, taps), FACTORS=factors, num_warps=WARPS,
    )  # fmt: skip
    return grad_x, sums


def over_time_weights(grad, x, weight, stride):
    """The gradient in the weight of `over_time`, as (C',C,L)."""
    taps, made, given = weight.shape
    factors, pairs, warps = _summed(given, made, SUMMED_ROWS, x)
    rows = grad.numel() // made
    group = 3 if taps % 3 == 0 else 1  # taps of a program: for all of them there are no registers
    pairs *= taps // group
    records = _records(x, triton.cdiv(rows, SUMMED_ROWS), pairs * warps)
    kept = torch.empty((records, made, given, taps), dtype=torch.float32, device=x.device)
    weights.temporal_weights_kernel[records, pairs](
        x, grad, kept, rows, Clips(x.shape[1], x.shape[2]),
        GROUP=group, WINDOW=Window(stride, taps), FACTORS=factors, num_warps=warps, num_stages=2,
    )  # fmt: skip
    return kept.sum(0)


def moments(y):
    """What `statistics` takes, of a y that no kernel made."""
    grid, rows, tile = _pass(y)
    left = Moments(_sums(y, grid[0]), tile.ROWS)
    passes.moments_kernel[grid](y, left.moments_ptr, rows, PASS=tile, num_warps=WARPS)
    return left


def output(y, past=None, dropout=None):
    """max(0, dropout(normalized y) + past), of `Normalized` y and past."""
    grid, rows, tile = _pass(y.y_ptr)
    made = torch.empty_like(y.y_ptr)
    passes.output_kernel[grid](
        y, past or Normalized(None, None), dropout, made, rows, PASS=tile, num_warps=WARPS
    )
    return made


def output_sums(rectified, y, past=None, dropout=None):
    """Of the gradient in what `output` made: sums for the normalization of y, and of past or None."""
    grid, rows, tile = _pass(y.y_ptr)
    sums, past_sums = (None if of is None else _sums(of.y_ptr, grid[0]) for of in (y, past))
    passes.output_sums_kernel[grid](
        rectified, y, past, dropout, sums, past_sums, rows, PASS=tile, num_warps=WARPS
    )
    return sums, past_sums


def output_backward(rectified, y, by, past=None, past_by=None, dropout=None):
    """Gradients in y and in past or None, by `coefficients`."""
    grid, rows, tile = _pass(y)
    grad_y, grad_past = torch.empty_like(y), None if past_by is None else torch.empty_like(past)
    past = None if past_by is None else TakenBack(past, past_by, grad_past)
    passes.output_backward_kernel[grid](
        rectified, TakenBack(y, by, grad_y), past, dropout, rows, PASS=tile, num_warps=WARPS
    )
    return grad_y, grad_past


def _block(channels, most=MAX_BLOCK):
    """Channels of a tile: a power of two, and at least the 16 that a matrix instruction takes."""
    return min(max(16, triton.next_power_of_2(channels)), most)


def _rows(block):
    """Rows of a tile so wide: few enough that a multiprocessor has registers for 16 warps."""
    return 256 if block == 16 else 128


def _product(given, made, y):
    """Grid and `Factors` of a product of the rows of y, `made` channels from `given`."""
    block_given, block_made = _block(given), _block(made)
    rows = _rows(max(block_given, block_made))
    grid = triton.cdiv(y.numel() // y.shape[-1], rows), triton.cdiv(made, block_made)
    return grid, Factors(given, made, *_multiplied(y), rows, block_given, block_made)


def _summed(given, made, rows, x):
    """`Factors`, pairs of tiles of channels, and warps of a product that is summed over the rows of x."""
    block_given, block_made = _block(given, SUMMED_BLOCK), _block(made, SUMMED_BLOCK)
    pairs = triton.cdiv(given, block_given) * triton.cdiv(made, block_made)
    factors = Factors(given, made, *_multiplied(x), rows, block_given, block_made)
    return factors, pairs, block_given // 16  # with more warps they would do the same


def _multiplied(x):
    return precision(), INTERPRETED and x.dtype == torch.bfloat16


def _degrees(edges):
    return Degrees(edges.most, edges.counts)


def _pass(y):
    """Grid, rows and `Pass` of a pass over the rows of y."""
    channels = y.shape[-1]
    rows, block = y.numel() // channels, _block(channels)
    tile = Pass(channels, _rows(block), block)
    return (triton.cdiv(rows, tile.ROWS), triton.cdiv(channels, block)), rows, tile


def _records(x, tiles, warps):
    """Records of weights' gradients, where each takes so many warps."""
    return max(1, min(tiles, SUMMING * multiprocessors(x.device) // warps))


def _sums(y, tiles):
    return torch.empty((2, y.shape[-1], tiles), dtype=torch.float32, device=y.device)

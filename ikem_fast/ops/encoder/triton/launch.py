"""How the kernels are launched: tiles, and tensors for what they make.

Activations are (P,B,T,V,C), of P encoders, and contiguous, in the dtype that is computed in; all else is
float32. Where torch made them they are a list of P, and a pass over them is launched for each.
"""

import functools
from dataclasses import dataclass

import torch
import triton

from ikem_fast.ops._triton import INTERPRETED, precision
from ikem_fast.ops.encoder.triton import passes, products, weights
from ikem_fast.ops.encoder.triton.passes import Moments, Norm, Pass, TakenBack
from ikem_fast.ops.encoder.triton.products import Convolution, Factors, Graph, Result, Window
from ikem_fast.ops.encoder.triton.rows import Normalized, Rectified

MAX_GIVEN, MAX_MADE, MAX_SUMMED = 64, 128, 32  # channels of a tile
WARPS = 8  # of a pass
SUMMING = 8  # warps that sum weights' gradients, for each multiprocessor
CHUNK = 1024  # tiles whose sums are added at a time
SUMMED_ROWS, MAX_TAPS = 32, 9  # rows of a tile of those, and taps of a program
# In float32 half as many channels are made, and half as many taps: numbers are twice as wide in registers.


@functools.cache
def multiprocessors(device):
    """How many a GPU has; interpreted a few, so that sums are of several records."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@dataclass(frozen=True)
class Running:
    """A normalization's settings, as its module `of` one encoder has them, and running statistics of all."""

    of: torch.nn.Module
    mean: torch.Tensor
    variance: torch.Tensor

    @property
    def training(self):
        return self.of.training


def statistics(norm, gamma, beta, moments, y):
    """The table of a normalization of y with these `Moments`; in training `Running` ones move on."""
    P, channels = gamma.shape
    table = gamma.new_empty((P, 4, channels))
    settings = norm.of.momentum, norm.of.eps
    passes.statistics_kernel[channels, 1, P](
        Norm(gamma, beta, norm.mean, norm.variance, *settings), moments, table, _rows(y), BLOCK=CHUNK
    )
    return table


def coefficients(norm, sums, table, y):
    """Coefficients (P,3,C) and gradients (3,P,C) of the normalization of y: see the kernel."""
    P, _, channels, tiles = sums.shape
    made, gradients = (
        torch.empty(shape, dtype=table.dtype, device=table.device)
        for shape in ((P, 3, channels), (3, P, channels))
    )
    passes.coefficients_kernel[channels, 1, P](
        sums, table, made, gradients, _rows(y), tiles, BATCH=norm.training, BLOCK=CHUNK
    )
    return made, gradients


def over_graph(x, A, weight, bias, moments):
    """The graph convolution of x by A (P,K,V,V), weight (P,K,C',C), bias (P,K·C'); its moments or None."""
    P, K, made, _ = weight.shape
    arriving = A.sum(2).transpose(1, 2) @ bias.view(P, K, made)
    return _graph(x, A, weight, made, False, arriving=arriving, moments=moments)


def over_graph_backward(grad, A, weight, past):
    """The gradient in what `over_graph` took, added to the `Rectified` past if there is one."""
    return _graph(grad, A, weight, weight.shape[3], True, past=past)[0]


def _graph(x, A, weight, made, transposed, arriving=None, past=None, moments=False):
    P, B, T, V, given = x.shape
    y, graph = x.new_empty((P, B, T, V, made)), _graph_of(A)
    factors, warps = _product(given, made, x)
    held = factors.ROWS // graph.BLOCK  # frames of a tile
    tiles = triton.cdiv(B * T, held)
    left = Moments(_sums(y, tiles), held * V) if moments else None
    products.graph_kernel[tiles, triton.cdiv(made, factors.BLOCK_MADE), P](
        x, A, weight, arriving, past or Rectified(None, None), Result(y, left and left.moments_ptr), B * T,
        GRAPH=graph, TRANSPOSED=transposed, FACTORS=factors, num_warps=warps,
    )  # fmt: skip
    return y, left


def over_graph_weights(x, grad, A, weight, bias):
    """Gradients in A, the weight (P,K,C',C) and the bias (P,K·C') of `over_graph`."""
    P, K, made, given = weight.shape
    frames, graph = x.shape[1] * x.shape[2], _graph_of(A)
    rows = max(SUMMED_ROWS, graph.BLOCK)
    factors, pairs, warps = _summed(given, made, rows, x)
    warps = min(16, warps * max(1, graph.BLOCK // 32) ** 2)  # that hold the gradient in A
    records = _records(x, triton.cdiv(frames, rows // graph.BLOCK), pairs * warps)
    sizes = K * made * given, K * made, pairs * A[0].numel()
    kept = A.new_empty((P, records, sum(sizes)))
    weights.graph_weights_kernel[records, pairs, P](
        x, grad, A, Convolution(weight, bias), kept, frames, sum(sizes),
        GRAPH=graph, FACTORS=factors, num_warps=warps, num_stages=2,
    )  # fmt: skip
    in_weight, in_bias, in_A = kept.sum(1).split(sizes, 1)
    in_A = in_A if pairs == 1 else in_A.view(P, pairs, -1).sum(1)
    return in_A.view_as(A), in_weight, in_bias


def over_time(x, weight, bias, stride, moments):
    """The convolution over time of x by weight (P,L,C',C) and bias (P,C'), and its moments or None."""
    _, taps, made, given = weight.shape
    P, B, T, V, _ = x.shape
    y = x.new_empty((P, B, (T - 1) // stride + 1, V, made))
    factors, warps = _product(given, made, x)
    tiles = triton.cdiv(_rows(y), factors.ROWS)
    left = Moments(_sums(y, tiles), factors.ROWS) if moments else None
    products.temporal_kernel[tiles, triton.cdiv(made, factors.BLOCK_MADE), P](
        x, Convolution(weight, bias), Result(y, left and left.moments_ptr), _rows(y), T,
        WINDOW=Window(stride, taps, V), FACTORS=factors, num_warps=warps,
    )  # fmt: skip
    return y, left


def over_time_backward(grad, weight, stride, x, y=None):
    """The gradient in what `over_time` took, of the shape of x, and its sums or None.

    y: what was `Normalized`, if that and a ReLU made x: the gradient is 0 where the ReLU's is.
    """
    P, taps, given, made = weight.shape
    T, V = x.shape[2:4]
    grad_x, (factors, warps) = torch.empty_like(x), _product(given, made, x)
    tiles, blocks = triton.cdiv(_rows(grad), factors.ROWS), triton.cdiv(made, factors.BLOCK_MADE)
    sums = None if y is None else _sums(grad_x, tiles * stride)
    products.temporal_backward_kernel[tiles, blocks * stride, P](
        grad, y, weight, grad_x, sums, _rows(grad), T,
        WINDOW=Window(stride, taps, V), FACTORS=factors, num_warps=warps,
    )  # fmt: skip
    return grad_x, sums


def over_time_weights(grad, x, weight, stride):
    """The gradient in the weight of `over_time`, as (P,C',C,L)."""
    P, taps, made, given = weight.shape
    factors, pairs, warps = _summed(given, made, SUMMED_ROWS, x)
    most = MAX_TAPS * 2 // x.element_size()
    group = max(number for number in range(1, most + 1) if taps % number == 0)
    pairs *= taps // group
    records = _records(x, triton.cdiv(_rows(grad), SUMMED_ROWS), pairs * warps)
    kept = torch.empty((P, records, made, given, taps), dtype=torch.float32, device=x.device)
    weights.temporal_weights_kernel[records, pairs, P](
        x, grad, kept, _rows(grad), x.shape[2],
        GROUP=group, WINDOW=Window(stride, taps, x.shape[3]), FACTORS=factors, num_warps=warps, num_stages=1,
    )  # fmt: skip
    return kept.sum(1)


def moments(y):
    """What `statistics` takes, of a y that no kernel made."""
    tiles, tile = _pass(y)
    sums = _sums(y, tiles)
    for grid, some in _pieces(y, tile):
        passes.moments_kernel[grid](some(y), some(sums), _rows(y), PASS=tile, num_warps=WARPS)
    return Moments(sums, tile.ROWS)


def output(y, past=None, dropout=None):
    """max(0, dropout(normalized y) + past), of `Normalized` y and past."""
    _, tile = _pass(y.y_ptr)
    made = _like(y.y_ptr)
    for grid, some in _pieces(y.y_ptr, tile):
        passes.output_kernel[grid](
            some(y), some(past) or Normalized(None, None), some(dropout), some(made), _rows(made),
            PASS=tile, num_warps=WARPS,
        )  # fmt: skip
    return made


def output_sums(rectified, y, past=None, dropout=None):
    """Of the gradient in what `output` made: sums for the normalization of y, and of past or None."""
    apart = rectified.grad_ptr if isinstance(rectified.grad_ptr, list) else y.y_ptr
    tiles, tile = _pass(apart)
    sums, past_sums = (None if of is None else _sums(of.y_ptr, tiles) for of in (y, past))
    for grid, some in _pieces(apart, tile):
        passes.output_sums_kernel[grid](
            some(rectified), some(y), some(past), some(dropout), some(sums), some(past_sums), _rows(apart),
            PASS=tile, num_warps=WARPS,
        )  # fmt: skip
    return sums, past_sums


def output_backward(rectified, y, by, past=None, past_by=None, dropout=None):
    """Gradients in y and in past or None, by `coefficients`."""
    apart = rectified.grad_ptr if isinstance(rectified.grad_ptr, list) else y
    _, tile = _pass(apart)
    grad_y, grad_past = _like(y), None if past_by is None else _like(past)
    back = TakenBack(y, by, grad_y)
    past = None if past_by is None else TakenBack(past, past_by, grad_past)
    for grid, some in _pieces(apart, tile):
        passes.output_backward_kernel[grid](
            some(rectified), some(back), some(past), some(dropout), _rows(y), PASS=tile, num_warps=WARPS
        )
    return grad_y, grad_past


def _pieces(y, tile):
    """(grid, function that takes what is of it) of each launch of a pass over y: one for all or for each."""
    size = triton.cdiv(_rows(y), tile.ROWS), triton.cdiv(tile.CHANNELS, tile.BLOCK)
    if not isinstance(y, list):
        return [((*size, len(y)), lambda of: of)]
    return [((*size, 1), functools.partial(_own, number)) for number in range(len(y))]


def _own(number, of):
    """What is an encoder's of a tensor, a list, or a group of them and of numbers."""
    if isinstance(of, tuple):
        return type(of)(*(_own(number, part) for part in of))
    if isinstance(of, list):
        return of[number][None]
    return of[number : number + 1] if isinstance(of, torch.Tensor) else of


def _like(y):
    """A tensor for what is made of y."""
    return y[0].new_empty((len(y), *y[0].shape))


def _rows(y):
    """Of each encoder."""
    return y[0].numel() // y[0].shape[-1]


def _block(channels, most):
    """Channels of a tile: a power of two, and at least the 16 that a matrix instruction takes."""
    return min(max(16, triton.next_power_of_2(channels)), most)


def _graph_of(A):
    return Graph(A.shape[1], A.shape[2], max(16, triton.next_power_of_2(A.shape[2])))


def _product(given, made, x):
    """`Factors` and warps of a product that makes rows, `made` channels from `given`.

    What a program does once, sums over its rows among it, is instructions that bind: narrow tiles have many
    rows for few warps.
    """
    size = x.element_size()
    block_given, block_made = _block(given, MAX_GIVEN), _block(made, MAX_MADE * 2 // size)
    rows = 256 if size * max(block_given, block_made) <= 64 else 128
    factors = Factors(given, made, *_multiplied(x), rows, block_given, block_made)
    return factors, 4 if min(block_given, block_made) == 16 else 8


def _summed(given, made, rows, x):
    """`Factors`, pairs of tiles of channels, and warps of a product that is summed over the rows of x."""
    block_given, block_made = _block(given, MAX_SUMMED), _block(made, MAX_SUMMED)
    pairs = triton.cdiv(given, block_given) * triton.cdiv(made, block_made)
    factors = Factors(given, made, *_multiplied(x), rows, block_given, block_made)
    return factors, pairs, block_given // 16  # with more warps they would do the same


def _multiplied(x):
    return precision(), INTERPRETED and x.dtype == torch.bfloat16


def _pass(y):
    """Tiles and `Pass` of a pass over the rows of y."""
    channels = y[0].shape[-1]
    block = _block(channels, MAX_GIVEN)
    tile = Pass(channels, 256 if block == 16 else 128, block)
    return triton.cdiv(_rows(y), tile.ROWS), tile


def _records(x, tiles, warps):
    """Records of an encoder's weights' gradients, where each takes so many warps."""
    return max(1, min(tiles, SUMMING * multiprocessors(x[0].device) // (warps * len(x))))


def _sums(y, tiles):
    return torch.empty((len(y), 2, y[0].shape[-1], tiles), dtype=torch.float32, device=y[0].device)

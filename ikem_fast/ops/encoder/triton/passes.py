"""What is between the products of an encoder's block: one pass each over rows, and sums of what these left.

Elements that dropout keeps are those whose random 32 bits, a function of the seed and of where they are, are
below a limit.
"""

from collections import namedtuple

import triton
import triton.language as tl

from ikem_fast.ops.encoder.triton.rows import (
    ahead_of_relu,
    encoder,
    load_channels,
    load_rows,
    normalized,
    standardized,
    store_moments,
    store_rows,
    store_sums,
    tile_of_program,
)

# A normalization: its parameters, and the running mean and variance with how they move on.
Norm = namedtuple("Norm", "gamma_ptr beta_ptr mean_ptr variance_ptr momentum epsilon")
# What the tiles of a pass or a product left, (encoders, 2, channels, tiles): means and Σ (y − mean)².
Moments = namedtuple("Moments", "moments_ptr rows_of_tile")
# What a pass over rows is compiled for: all channels, and the tile.
Pass = namedtuple("Pass", "CHANNELS ROWS BLOCK")
# The seeds, (encoders,) int64, and the limit of 31 random bits below which elements are kept.
Dropout = namedtuple("Dropout", "seed_ptr limit")
# What was normalized, the coefficients (encoders, 3, channels) that take its gradient back, where that goes.
TakenBack = namedtuple("TakenBack", "y_ptr coefficients_ptr grad_y_ptr")


@triton.jit
def summed(ptr, tiles, BLOCK: tl.constexpr):
    """The sum of what all tiles left of a channel, always in the same order."""
    total = tl.zeros((BLOCK,), tl.float32)
    for first in tl.range(0, tiles, BLOCK):
        tile = first + tl.arange(0, BLOCK)
        total += tl.load(ptr + tile, mask=tile < tiles, other=0.0)
    return tl.sum(total, 0)


@triton.jit
def move_on(running_ptr, value, momentum):
    """Move a running number on, towards the value of a batch."""
    tl.store(running_ptr, (1 - momentum) * tl.load(running_ptr) + momentum * value)


@triton.jit
def statistics_kernel(norm, moments, table_ptr, rows, BLOCK: tl.constexpr):
    """The table of a normalization, as `Normalized` has it. Grid: (channels, 1, encoders).

    By the moments, if there are any, and the running ones move on; else by the running ones.
    """
    channel, channels = tl.program_id(0), tl.num_programs(0)
    own = encoder() * channels + channel  # among the channels of all encoders
    if moments is not None:
        rows_of_tile = moments.rows_of_tile
        tiles = tl.cdiv(rows, rows_of_tile)
        means_ptr = moments.moments_ptr + (2 * encoder() * channels + channel) * tiles
        spreads_ptr = means_ptr + channels * tiles
        total = tl.zeros((BLOCK,), tl.float32)
        for first in tl.range(0, tiles, BLOCK):
            tile = first + tl.arange(0, BLOCK)
            count = tl.minimum(rows - tile * rows_of_tile, rows_of_tile)
            total += tl.load(means_ptr + tile, mask=tile < tiles, other=0.0) * (count / rows)
        mean = tl.sum(total, 0)
        total = tl.zeros((BLOCK,), tl.float32)
        for first in tl.range(0, tiles, BLOCK):
            tile = first + tl.arange(0, BLOCK)
            count = tl.minimum(rows - tile * rows_of_tile, rows_of_tile).to(tl.float32)
            off = tl.load(means_ptr + tile, mask=tile < tiles, other=0.0) - mean
            spread = tl.load(spreads_ptr + tile, mask=tile < tiles, other=0.0) + count * off * off
            total += tl.where(tile < tiles, spread, 0.0)
        variance = tl.sum(total, 0) / rows
        unbiased = variance * (rows / tl.maximum(rows - 1, 1))
        move_on(norm.mean_ptr + own, mean, norm.momentum)
        move_on(norm.variance_ptr + own, unbiased, norm.momentum)
    else:
        mean, variance = tl.load(norm.mean_ptr + own), tl.load(norm.variance_ptr + own)
    inverse = 1.0 / tl.sqrt(variance + norm.epsilon)
    scale = tl.load(norm.gamma_ptr + own) * inverse
    table_ptr += 4 * encoder() * channels
    tl.store(table_ptr + channel, scale)
    tl.store(table_ptr + channels + channel, tl.load(norm.beta_ptr + own) - mean * scale)
    tl.store(table_ptr + 2 * channels + channel, mean)
    tl.store(table_ptr + 3 * channels + channel, inverse)


@triton.jit
def coefficients_kernel(
    sums_ptr, table_ptr, coefficients_ptr, gradients_ptr, rows, tiles,
    BATCH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """How a normalization takes a gradient d back, and the gradients of its parameters.

    Grid: (channels, 1, encoders). sums (encoders, 2, channels, tiles): of d, and of d times the standardized
    y. coefficients (encoders, 3, channels): the gradient in y is the first · d + the second · y + the third.
    gradients (3, encoders, channels): in gamma, in beta, and in a bias that was added to y.
    """
    channel, channels = tl.program_id(0), tl.num_programs(0)
    sums_ptr += (2 * encoder() * channels + channel) * tiles
    d = summed(sums_ptr, tiles, BLOCK)
    times = summed(sums_ptr + channels * tiles, tiles, BLOCK)
    table_ptr += 4 * encoder() * channels
    coefficients_ptr += 3 * encoder() * channels
    scale, mean = tl.load(table_ptr + channel), tl.load(table_ptr + 2 * channels + channel)
    slope = 0.0
    constant = 0.0
    bias = scale * d
    if BATCH:
        slope = -scale * tl.load(table_ptr + 3 * channels + channel) * times / rows
        constant = -scale * d / rows - slope * mean
        bias = 0.0  # a normalization takes it away again
    tl.store(coefficients_ptr + channel, scale)
    tl.store(coefficients_ptr + channels + channel, slope)
    tl.store(coefficients_ptr + 2 * channels + channel, constant)
    all_channels = tl.num_programs(2) * channels
    gradients_ptr += encoder() * channels + channel
    tl.store(gradients_ptr, times)
    tl.store(gradients_ptr + all_channels, d)
    tl.store(gradients_ptr + 2 * all_channels, bias)


@triton.jit
def dropped(values, dropout, tile):
    """Values of a tile that dropout keeps, scaled up."""
    seed = tl.load(dropout.seed_ptr + encoder())
    channel, CHANNELS = tile.channels
    bits = (tile.row[:, None] * CHANNELS + channel[None, :]).to(tl.uint32) * 0x9E3779B9 + seed.to(tl.uint32)
    bits = (bits ^ (bits >> 16)) * 0x21F0AAAD
    bits = bits ^ (seed >> 32).to(tl.uint32)
    bits = (bits ^ (bits >> 15)) * 0xD35A2D97
    bits = bits ^ (bits >> 15)
    kept = (bits >> 1).to(tl.int32)
    return tl.where(kept < dropout.limit, values * (2147483648.0 / dropout.limit), 0.0)


@triton.jit
def moments_kernel(y_ptr, moments_ptr, rows, PASS: tl.constexpr):
    """Leave the moments of y. Grid of this and the next: (row tiles, tiles of channels, encoders)."""
    tile = tile_of_program(rows, PASS.CHANNELS, PASS.ROWS, PASS.BLOCK)
    store_moments(moments_ptr, tile, load_rows(y_ptr, tile).to(tl.float32))


@triton.jit
def output_kernel(y, past, dropout, output_ptr, rows, PASS: tl.constexpr):
    """output = max(0, dropout(normalized y) + past), of `Normalized` y and past; dropout or None."""
    tile = tile_of_program(rows, PASS.CHANNELS, PASS.ROWS, PASS.BLOCK)
    values = normalized(load_rows(y.y_ptr, tile), y.table_ptr, tile.channels)
    if dropout is not None:
        values = dropped(values, dropout, tile)
    if past.y_ptr is not None:
        added = load_rows(past.y_ptr, tile).to(tl.float32)
        if past.table_ptr is not None:
            added = normalized(added, past.table_ptr, tile.channels)
        values += added
    store_rows(output_ptr, tile, tl.maximum(values, 0.0).to(output_ptr.dtype.element_ty))


@triton.jit
def output_sums_kernel(rectified, y, past, dropout, sums_ptr, past_sums_ptr, rows, PASS: tl.constexpr):
    """The sums that the normalizations of `output_kernel` take gradients back by; past's if it has one."""
    tile = tile_of_program(rows, PASS.CHANNELS, PASS.ROWS, PASS.BLOCK)
    grad = ahead_of_relu(rectified, tile)
    if past is not None:
        leave_sums(past_sums_ptr, grad, past, tile)
    if dropout is not None:
        grad = dropped(grad, dropout, tile)
    leave_sums(sums_ptr, grad, y, tile)


@triton.jit
def leave_sums(sums_ptr, grad, y, tile):
    """Leave a tile's sums of a gradient in the normalized y, and of it times the standardized y."""
    times = tl.sum(grad * standardized(load_rows(y.y_ptr, tile), y.table_ptr, tile.channels), 0)
    store_sums(sums_ptr, tl.program_id(0), tl.num_programs(0), tile.channels, tl.sum(grad, 0), times)


@triton.jit
def output_backward_kernel(rectified, y, past, dropout, rows, PASS: tl.constexpr):
    """Gradients in y and, if past was normalized, in past: each `TakenBack`."""
    tile = tile_of_program(rows, PASS.CHANNELS, PASS.ROWS, PASS.BLOCK)
    grad = ahead_of_relu(rectified, tile)
    if past is not None:
        take_back(grad, past, tile)
    if dropout is not None:
        grad = dropped(grad, dropout, tile)
    take_back(grad, y, tile)


@triton.jit
def take_back(grad, back, tile):
    """Store the gradient in what was normalized."""
    y = load_rows(back.y_ptr, tile).to(tl.float32)
    first = 3 * encoder()
    grad = load_channels(back.coefficients_ptr, first, tile.channels) * grad
    grad += load_channels(back.coefficients_ptr, first + 1, tile.channels) * y
    grad += load_channels(back.coefficients_ptr, first + 2, tile.channels)
    store_rows(back.grad_y_ptr, tile, grad.to(back.grad_y_ptr.dtype.element_ty))

"""What is between the products of an encoder's block: one pass each over rows, and sums of what these left.

A normalization is a table (4, channels) float32: scale, shift, mean, 1 / deviation. Elements that dropout
keeps are those whose random 32 bits, a function of the seed and of where they are, are below a limit.
"""

import triton
import triton.language as tl

from ikem_fast.ops.encoder.triton.rows import (
    ahead_of_relu,
    load_channels,
    load_rows,
    normalized,
    standardized,
    store_moments,
    store_rows,
    store_sums,
)


@triton.jit
def summed(ptr, tiles, BLOCK: tl.constexpr):
    """The sum of what all tiles left of a channel, always in the same order."""
    total = tl.zeros((BLOCK,), tl.float32)
    for first in tl.range(0, tiles, BLOCK):
        tile = first + tl.arange(0, BLOCK)
        total += tl.load(ptr + tile, mask=tile < tiles, other=0.0)
    return tl.sum(total, 0)


@triton.jit
def statistics_kernel(
    moments_ptr,
    gamma_ptr,
    beta_ptr,
    mean_ptr,
    variance_ptr,
    batches_ptr,
    table_ptr,
    rows,
    rows_of_tile,
    momentum,
    epsilon,
    BATCH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The table of a normalization. Grid: (channels,).

    BATCH: by moments (2, channels, tiles), and the running mean, variance and number of batches move on; else
    by the running ones.
    """
    channel, channels = tl.program_id(0), tl.num_programs(0)
    if BATCH:
        tiles = tl.cdiv(rows, rows_of_tile)
        means_ptr, spreads_ptr = moments_ptr + channel * tiles, moments_ptr + (channels + channel) * tiles
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
        tl.store(mean_ptr + channel, (1 - momentum) * tl.load(mean_ptr + channel) + momentum * mean)
        unbiased = variance * (rows / tl.maximum(rows - 1, 1))
        running = (1 - momentum) * tl.load(variance_ptr + channel) + momentum * unbiased
        tl.store(variance_ptr + channel, running)
        if channel == 0:
            tl.store(batches_ptr, tl.load(batches_ptr) + 1)
    else:
        mean, variance = tl.load(mean_ptr + channel), tl.load(variance_ptr + channel)
    inverse = 1.0 / tl.sqrt(variance + epsilon)
    scale = tl.load(gamma_ptr + channel) * inverse
    tl.store(table_ptr + channel, scale)
    tl.store(table_ptr + channels + channel, tl.load(beta_ptr + channel) - mean * scale)
    tl.store(table_ptr + 2 * channels + channel, mean)
    tl.store(table_ptr + 3 * channels + channel, inverse)


@triton.jit
def coefficients_kernel(
    sums_ptr,
    table_ptr,
    coefficients_ptr,
    gradients_ptr,
    rows,
    tiles,
    BATCH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """How a normalization takes a gradient d back, and the gradients of its parameters. Grid: (channels,).

    sums (2, channels, tiles): of d, and of d times the standardized y. coefficients (3, channels): the
    gradient in y is the first · d + the second · y + the third. gradients (3, channels): in gamma, in beta,
    and in a bias that was added to y.
    """
    channel, channels = tl.program_id(0), tl.num_programs(0)
    d = summed(sums_ptr + channel * tiles, tiles, BLOCK)
    times = summed(sums_ptr + (channels + channel) * tiles, tiles, BLOCK)
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
    tl.store(gradients_ptr + channel, times)
    tl.store(gradients_ptr + channels + channel, d)
    tl.store(gradients_ptr + 2 * channels + channel, bias)


@triton.jit
def dropped(values, seed_ptr, row, channel, limit, CHANNELS: tl.constexpr):
    """Values that dropout keeps, scaled up."""
    seed = tl.load(seed_ptr)
    bits = (row[:, None] * CHANNELS + channel[None, :]).to(tl.uint32) * 0x9E3779B9 + seed.to(tl.uint32)
    bits = (bits ^ (bits >> 16)) * 0x21F0AAAD
    bits = bits ^ (seed >> 32).to(tl.uint32)
    bits = (bits ^ (bits >> 15)) * 0xD35A2D97
    bits = bits ^ (bits >> 15)
    kept = (bits >> 1).to(tl.int32)
    return tl.where(kept < limit, values * (2147483648.0 / limit), 0.0)


@triton.jit
def moments_kernel(y_ptr, moments_ptr, rows, CHANNELS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Leave the moments of y (rows, CHANNELS). Grid of this and the next: (row tiles, tiles of channels)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = row < rows
    y = load_rows(y_ptr, row, live, channel, CHANNELS).to(tl.float32)
    store_moments(moments_ptr, tl.program_id(0), tl.num_programs(0), live, channel, y, CHANNELS)


@triton.jit
def output_kernel(
    y_ptr,
    table_ptr,
    past_ptr,
    past_table_ptr,
    seed_ptr,
    output_ptr,
    rows,
    limit,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """output = max(0, dropout(normalized y) + past), past normalized if it has a table, 0 if none."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = row < rows
    y = normalized(load_rows(y_ptr, row, live, channel, CHANNELS), table_ptr, channel, CHANNELS)
    if seed_ptr is not None:
        y = dropped(y, seed_ptr, row, channel, limit, CHANNELS)
    if past_ptr is not None:
        past = load_rows(past_ptr, row, live, channel, CHANNELS).to(tl.float32)
        if past_table_ptr is not None:
            past = normalized(past, past_table_ptr, channel, CHANNELS)
        y += past
    stored = tl.maximum(y, 0.0).to(output_ptr.dtype.element_ty)
    store_rows(output_ptr, row, live, channel, stored, CHANNELS)


@triton.jit
def output_sums_kernel(
    grad_ptr,
    output_ptr,
    y_ptr,
    table_ptr,
    past_ptr,
    past_table_ptr,
    seed_ptr,
    sums_ptr,
    past_sums_ptr,
    rows,
    limit,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The sums that the normalizations of `output_kernel` take gradients back by; past's if it has one."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = row < rows
    tile, tiles = tl.program_id(0), tl.num_programs(0)
    grad = ahead_of_relu(grad_ptr, output_ptr, row, live, channel, CHANNELS)
    if past_table_ptr is not None:
        past = load_rows(past_ptr, row, live, channel, CHANNELS)
        times = tl.sum(grad * standardized(past, past_table_ptr, channel, CHANNELS), 0)
        store_sums(past_sums_ptr, tile, tiles, channel, tl.sum(grad, 0), times, CHANNELS)
    if seed_ptr is not None:
        grad = dropped(grad, seed_ptr, row, channel, limit, CHANNELS)
    y = standardized(load_rows(y_ptr, row, live, channel, CHANNELS), table_ptr, channel, CHANNELS)
    store_sums(sums_ptr, tile, tiles, channel, tl.sum(grad, 0), tl.sum(grad * y, 0), CHANNELS)


@triton.jit
def taken_back(grad, y_ptr, coefficients_ptr, grad_y_ptr, row, live, channel, CHANNELS: tl.constexpr):
    """Store the gradient in what was normalized."""
    y = load_rows(y_ptr, row, live, channel, CHANNELS).to(tl.float32)
    grad = load_channels(coefficients_ptr, 0, channel, CHANNELS) * grad
    grad += load_channels(coefficients_ptr, 1, channel, CHANNELS) * y
    grad += load_channels(coefficients_ptr, 2, channel, CHANNELS)
    store_rows(grad_y_ptr, row, live, channel, grad.to(grad_y_ptr.dtype.element_ty), CHANNELS)


@triton.jit
def output_backward_kernel(
    grad_ptr,
    output_ptr,
    y_ptr,
    coefficients_ptr,
    past_ptr,
    past_coefficients_ptr,
    seed_ptr,
    grad_y_ptr,
    grad_past_ptr,
    rows,
    limit,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients in y and, if past has a table, in past. Without an output the gradient counts everywhere."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = row < rows
    grad = ahead_of_relu(grad_ptr, output_ptr, row, live, channel, CHANNELS)
    if past_coefficients_ptr is not None:
        taken_back(grad, past_ptr, past_coefficients_ptr, grad_past_ptr, row, live, channel, CHANNELS)
    if seed_ptr is not None:
        grad = dropped(grad, seed_ptr, row, channel, limit, CHANNELS)
    taken_back(grad, y_ptr, coefficients_ptr, grad_y_ptr, row, live, channel, CHANNELS)

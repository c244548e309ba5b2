"""How the kernels read and write activations: rows (clip·body, frame, joint) of channels, a tile at a time.

A program has ROWS rows and up to BLOCK channels. What is past the last row or channel is read as 0 and not
written. Sums over all rows are made in two steps, so that no program adds to what another writes: each leaves
its tile's, (2, channels, tiles), and `passes` puts them together in order.
"""

import triton
import triton.language as tl


@triton.jit
def load_rows(ptr, row, live, channel, CHANNELS: tl.constexpr):
    """(ROWS, BLOCK): channels of rows of a tensor (·, CHANNELS)."""
    mask = live[:, None] & (channel < CHANNELS)[None, :]
    return tl.load(ptr + row[:, None] * CHANNELS + channel[None, :], mask=mask, other=0.0)


@triton.jit
def ahead_of_relu(grad_ptr, output_ptr, row, live, channel, CHANNELS: tl.constexpr):
    """The gradient where `output` > 0, 0 elsewhere; all of it if there is no output."""
    grad = load_rows(grad_ptr, row, live, channel, CHANNELS).to(tl.float32)
    if output_ptr is not None:
        grad = tl.where(load_rows(output_ptr, row, live, channel, CHANNELS) > 0, grad, 0.0)
    return grad


@triton.jit
def store_rows(ptr, row, live, channel, values, CHANNELS: tl.constexpr):
    """Store what `load_rows` loads."""
    mask = live[:, None] & (channel < CHANNELS)[None, :]
    tl.store(ptr + row[:, None] * CHANNELS + channel[None, :], values, mask=mask)


@triton.jit
def load_channels(ptr, index, channel, CHANNELS: tl.constexpr):
    """(1, BLOCK): numbers of channels from row `index` of a table (·, CHANNELS)."""
    return tl.load(ptr + index * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)[None, :]


@triton.jit
def load_weight(ptr, index, given, made, GIVEN: tl.constexpr, MADE: tl.constexpr, TRANSPOSED: tl.constexpr):
    """A tile of matrix `index` of weights (·, MADE, GIVEN) as a factor: `given` channels × `made` channels.

    TRANSPOSED: the weights are (·, GIVEN, MADE).
    """
    mask = (given < GIVEN)[:, None] & (made < MADE)[None, :]
    if TRANSPOSED:  # noqa: SIM108 (Triton decides it when it compiles)
        offsets = given[:, None] * MADE + made[None, :]
    else:
        offsets = made[None, :] * GIVEN + given[:, None]
    return tl.load(ptr + index * (GIVEN * MADE) + offsets, mask=mask, other=0.0)


@triton.jit
def store_sums(ptr, tile, tiles, channel, first, second, CHANNELS: tl.constexpr):
    """Leave two sums (BLOCK,) of a tile in (2, CHANNELS, tiles)."""
    mask = channel < CHANNELS
    tl.store(ptr + channel * tiles + tile, first, mask=mask)
    tl.store(ptr + (CHANNELS + channel) * tiles + tile, second, mask=mask)


@triton.jit
def store_moments(ptr, tile, tiles, live, channel, values, CHANNELS: tl.constexpr):
    """Leave a tile's mean and Σ (values − mean)² of each channel."""
    mean = tl.sum(tl.where(live[:, None], values, 0.0), 0) / tl.sum(live.to(tl.float32), 0)
    centered = tl.where(live[:, None], values - mean[None, :], 0.0)
    store_sums(ptr, tile, tiles, channel, mean, tl.sum(centered * centered, 0), CHANNELS)


@triton.jit
def standardized(y, table_ptr, channel, CHANNELS: tl.constexpr):
    """(y − mean) / deviation, by a table (4, CHANNELS): scale, shift, mean, 1 / deviation."""
    mean = load_channels(table_ptr, 2, channel, CHANNELS)
    return (y.to(tl.float32) - mean) * load_channels(table_ptr, 3, channel, CHANNELS)


@triton.jit
def normalized(y, table_ptr, channel, CHANNELS: tl.constexpr):
    """scale · y + shift, by that table."""
    scale = load_channels(table_ptr, 0, channel, CHANNELS)
    return y.to(tl.float32) * scale + load_channels(table_ptr, 1, channel, CHANNELS)

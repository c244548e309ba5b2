"""How the kernels read and write activations: rows (encoder, clip·body, frame, joint) of channels, in tiles.

Encoders of one form share each launch: a program is of one of them, the last index of every grid, and has
ROWS of its rows and up to BLOCK channels. What is past the last row or channel is read as 0 and not written.
Sums over an encoder's rows are made in two steps, so that no program adds to what another writes: each leaves
its tile's, (encoders, 2, channels, tiles), and `passes` puts them together in order.
"""

from collections import namedtuple

import triton
import triton.language as tl

# Groups of arguments. Where one, or a pointer in it, is None, Triton leaves out what that is for when it
# compiles; numbers to compile for are in groups that are constants as a whole, in capitals. Two things that
# Triton only takes from 3.9 and 3.7 on: what is taken out of such a group is bound to a constant where it
# must be one; and a group that may hold None is never None itself, but its pointers are.
# Channels of a tile, of CHANNELS that there are.
Channels = namedtuple("Channels", "channel CHANNELS")
# Rows, counted over all encoders, and `Channels` of a tile; live: which of the rows there are.
Tile = namedtuple("Tile", "row live channels")
# What a normalization takes, y, and its table (encoders, 4, channels): scale, shift, mean, 1 / deviation; or
# no table.
Normalized = namedtuple("Normalized", "y_ptr table_ptr")
# A gradient in the `output` of a ReLU; or without an output one that counts everywhere.
Rectified = namedtuple("Rectified", "grad_ptr output_ptr")


@triton.jit
def encoder():
    """The number of a program's encoder."""
    return tl.program_id(2)


@triton.jit
def tile_of_program(rows, CHANNELS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The `Tile` of a program of the grid (row tiles, tiles of channels, encoders), each of `rows` rows."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channels = Channels(tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), CHANNELS)
    return Tile(encoder() * rows + row, row < rows, channels)


@triton.jit
def load_rows(ptr, tile):
    """(ROWS, BLOCK): a tile of a tensor (·, CHANNELS)."""
    channel, CHANNELS = tile.channels
    mask = tile.live[:, None] & (channel < CHANNELS)[None, :]
    return tl.load(ptr + tile.row[:, None] * CHANNELS + channel[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(ptr, tile, values):
    """Store what `load_rows` loads."""
    channel, CHANNELS = tile.channels
    mask = tile.live[:, None] & (channel < CHANNELS)[None, :]
    tl.store(ptr + tile.row[:, None] * CHANNELS + channel[None, :], values, mask=mask)


@triton.jit
def load_channels(ptr, index, channels):
    """(1, BLOCK): numbers of channels from row `index` of a table (·, CHANNELS)."""
    channel, CHANNELS = channels
    return tl.load(ptr + index * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)[None, :]


@triton.jit
def within(given, made):
    """Which numbers of a matrix of channels, `given` × `made`, there are."""
    return (given.channel < given.CHANNELS)[:, None] & (made.channel < made.CHANNELS)[None, :]


@triton.jit
def load_weight(ptr, index, given, made, TRANSPOSED: tl.constexpr):
    """A tile of matrix `index` of weights (·, MADE, GIVEN) as a factor: `given` channels × `made` channels.

    TRANSPOSED: the weights are (·, GIVEN, MADE).
    """
    if TRANSPOSED:
        offsets = given.channel[:, None] * made.CHANNELS + made.channel[None, :]
    else:
        offsets = made.channel[None, :] * given.CHANNELS + given.channel[:, None]
    ptr += index * (given.CHANNELS * made.CHANNELS)
    return tl.load(ptr + offsets, mask=within(given, made), other=0.0)


@triton.jit
def ahead_of_relu(rectified, tile):
    """The gradient in what a ReLU took, float32: that in its output where this is above 0, 0 elsewhere."""
    grad = load_rows(rectified.grad_ptr, tile).to(tl.float32)
    if rectified.output_ptr is not None:
        grad = tl.where(load_rows(rectified.output_ptr, tile) > 0, grad, 0.0)
    return grad


@triton.jit
def standardized(y, table_ptr, channels):
    """(y − mean) / deviation, by the table of a normalization."""
    mean = load_channels(table_ptr, 4 * encoder() + 2, channels)
    return (y.to(tl.float32) - mean) * load_channels(table_ptr, 4 * encoder() + 3, channels)


@triton.jit
def normalized(y, table_ptr, channels):
    """scale · y + shift, by that table."""
    scale = load_channels(table_ptr, 4 * encoder(), channels)
    return y.to(tl.float32) * scale + load_channels(table_ptr, 4 * encoder() + 1, channels)


@triton.jit
def store_sums(ptr, number, tiles, channels, first, second):
    """Leave two sums (BLOCK,) of tile `number` in (encoders, 2, CHANNELS, tiles)."""
    channel, CHANNELS = channels
    ptr += (2 * encoder() * CHANNELS + channel) * tiles + number
    tl.store(ptr, first, mask=channel < CHANNELS)
    tl.store(ptr + CHANNELS * tiles, second, mask=channel < CHANNELS)


@triton.jit
def store_moments(ptr, tile, values):
    """Leave the mean and Σ (values − mean)² of each channel of a program's tile."""
    live = tile.live[:, None]
    mean = tl.sum(tl.where(live, values, 0.0), 0) / tl.sum(tile.live.to(tl.float32), 0)
    centered = tl.where(live, values - mean[None, :], 0.0)
    squares = tl.sum(centered * centered, 0)
    store_sums(ptr, tl.program_id(0), tl.num_programs(0), tile.channels, mean, squares)

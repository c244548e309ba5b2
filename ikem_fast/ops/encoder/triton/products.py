"""The products of an encoder's block: over the graph, over time, and back.

Weights are matrices of (channels made, channels given), one for each partition of the graph or each tap, in
the dtype of the activations; sums are float32.
"""

import triton
import triton.language as tl

from ikem_fast.ops._triton import matmul
from ikem_fast.ops.encoder.triton.rows import (
    ahead_of_relu,
    load_channels,
    load_rows,
    load_weight,
    normalized,
    standardized,
    store_moments,
    store_rows,
    store_sums,
)


@triton.jit
def graph_kernel(
    x_ptr,
    A_ptr,
    edges_ptr,
    weight_ptr,
    bias_ptr,
    past_ptr,
    output_ptr,
    y_ptr,
    moments_ptr,
    rows,
    joints,
    MOST: tl.constexpr,
    COUNTS: tl.constexpr,
    GIVEN: tl.constexpr,
    MADE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_GIVEN: tl.constexpr,
    BLOCK_MADE: tl.constexpr,
):
    """y = Σ_k (Σ_edges A x) W_k + what arrives of the bias; or, TRANSPOSED, the gradient in x from one in y.

    Grid: (row tiles, tiles of made channels). edges (2, K, MOST, joints) int32: for each partition and joint
    the joints at the other ends, −1 where there are fewer than MOST, and where the edges stand in A (K,V,V)
    float32. COUNTS: the most edges that a joint has, of each partition. To the gradient is added `past`,
    where `output` > 0 if that is given; of y, moments are left if asked for.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = row < rows
    joint = row % joints
    made = tl.program_id(1) * BLOCK_MADE + tl.arange(0, BLOCK_MADE)
    ends: tl.constexpr = len(COUNTS) * MOST
    y = tl.zeros((ROWS, BLOCK_MADE), tl.float32)
    for k in tl.static_range(len(COUNTS)):
        for first in tl.static_range(0, GIVEN, BLOCK_GIVEN):
            given = first + tl.arange(0, BLOCK_GIVEN)
            gathered = tl.zeros((ROWS, BLOCK_GIVEN), tl.float32)
            total = tl.zeros((ROWS,), tl.float32)
            for number in tl.static_range(COUNTS[k]):
                place = (k * MOST + number) * joints + joint
                end = tl.load(edges_ptr + place, mask=live, other=-1)
                there = end >= 0
                a = tl.load(A_ptr + tl.load(edges_ptr + ends * joints + place, mask=there, other=0))
                a = tl.where(there, a, 0.0)
                gathered += a[:, None] * load_rows(x_ptr, row - joint + end, there, given, GIVEN)
                total += a
            w = load_weight(weight_ptr, k, given, made, GIVEN, MADE, TRANSPOSED)
            y = matmul(gathered.to(w.dtype), w, y, PRECISION, WIDEN)
            if bias_ptr is not None:  # noqa: SIM102 (Triton decides each by itself)
                if first == 0:
                    y += total[:, None] * load_channels(bias_ptr, k, made, MADE)
    if past_ptr is not None:
        y += ahead_of_relu(past_ptr, output_ptr, row, live, made, MADE)
    stored = y.to(y_ptr.dtype.element_ty)
    store_rows(y_ptr, row, live, made, stored, MADE)
    if moments_ptr is not None:
        values = stored.to(tl.float32)
        store_moments(moments_ptr, tl.program_id(0), tl.num_programs(0), live, made, values, MADE)


@triton.jit
def over_taps(
    x_ptr,
    weight_ptr,
    live,
    clip,
    time,
    joint,
    tap,
    made,
    frames,
    joints,
    STEPS: tl.constexpr,
    STRIDE: tl.constexpr,
    TAPS: tl.constexpr,
    GIVEN: tl.constexpr,
    MADE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_GIVEN: tl.constexpr,
):
    """Σ over STEPS taps of x (·, frames, joints, GIVEN) · W_tap.

    Forward, taps and times rise by 1; back (TRANSPOSED), taps rise by STRIDE while times fall by 1.
    """
    y = tl.zeros((live.shape[0], made.shape[0]), tl.float32)
    for step in tl.static_range(STEPS):
        if TRANSPOSED:
            at = tap + step * STRIDE
            t = tl.where(at < TAPS, time - step, -1)
        else:
            at = tap + step
            t = time + step
        inside = live & (t >= 0) & (t < frames)
        row = (clip * frames + t) * joints + joint
        for first in tl.static_range(0, GIVEN, BLOCK_GIVEN):
            given = first + tl.arange(0, BLOCK_GIVEN)
            x = load_rows(x_ptr, row, inside, given, GIVEN)
            w = load_weight(weight_ptr, tl.minimum(at, TAPS - 1), given, made, GIVEN, MADE, TRANSPOSED)
            y = matmul(x, w, y, PRECISION, WIDEN)
    return y


@triton.jit
def temporal_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    moments_ptr,
    rows,
    frames,
    joints,
    STRIDE: tl.constexpr,
    TAPS: tl.constexpr,
    GIVEN: tl.constexpr,
    MADE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_GIVEN: tl.constexpr,
    BLOCK_MADE: tl.constexpr,
):
    """y (clips, ⌈frames/STRIDE⌉, joints, MADE): x (clips, frames, joints, GIVEN), convolved over time.

    Grid: (row tiles, tiles of made channels). Moments of y are left if asked for.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = row < rows
    made = tl.program_id(1) * BLOCK_MADE + tl.arange(0, BLOCK_MADE)
    fewer = (frames - 1) // STRIDE + 1
    time = (row // joints) % fewer * STRIDE - (TAPS - 1) // 2
    y = over_taps(
        x_ptr, weight_ptr, live, row // joints // fewer, time, row % joints, 0, made, frames, joints,
        TAPS, STRIDE, TAPS, GIVEN, MADE, False, PRECISION, WIDEN, BLOCK_GIVEN,
    )  # fmt: skip
    stored = (y + load_channels(bias_ptr, 0, made, MADE)).to(y_ptr.dtype.element_ty)
    store_rows(y_ptr, row, live, made, stored, MADE)
    if moments_ptr is not None:
        values = stored.to(tl.float32)
        store_moments(moments_ptr, tl.program_id(0), tl.num_programs(0), live, made, values, MADE)


@triton.jit
def temporal_backward_kernel(
    grad_ptr,
    y_ptr,
    table_ptr,
    weight_ptr,
    grad_x_ptr,
    sums_ptr,
    rows,
    frames,
    joints,
    STRIDE: tl.constexpr,
    TAPS: tl.constexpr,
    GIVEN: tl.constexpr,
    MADE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_GIVEN: tl.constexpr,
    BLOCK_MADE: tl.constexpr,
):
    """The gradient in what `temporal_kernel` took, MADE channels wide, from that in what it made.

    Grid: (row tiles, tiles of made channels, STRIDE phases): frames of the same phase, frame % STRIDE, meet
    the same taps; `rows` are those of one phase. With a table the gradient is one in scale·y + shift, 0 where
    that is not above 0, and the tile's sums are left: of it, and of it times the standardized y.
    """
    phase = tl.program_id(2)
    index = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    most = (frames - 1) // STRIDE + 1  # of a phase's frames
    joint, clip = index % joints, index // joints // most
    t = (index // joints) % most * STRIDE + phase
    live = (index < rows) & (t < frames)
    made = tl.program_id(1) * BLOCK_MADE + tl.arange(0, BLOCK_MADE)
    pad: tl.constexpr = (TAPS - 1) // 2
    tap = (phase + pad) % STRIDE
    steps: tl.constexpr = (TAPS - 1) // STRIDE + 1
    grad = over_taps(
        grad_ptr, weight_ptr, live, clip, (t + pad - tap) // STRIDE, joint, tap, made, most, joints,
        steps, STRIDE, TAPS, GIVEN, MADE, True, PRECISION, WIDEN, BLOCK_GIVEN,
    )  # fmt: skip
    row = (clip * frames + t) * joints + joint
    if table_ptr is not None:
        y = load_rows(y_ptr, row, live, made, MADE)
        grad = tl.where(normalized(y, table_ptr, made, MADE) > 0, grad, 0.0)
    stored = grad.to(grad_x_ptr.dtype.element_ty)
    store_rows(grad_x_ptr, row, live, made, stored, MADE)
    if table_ptr is not None:
        grad = tl.where(live[:, None], stored.to(tl.float32), 0.0)
        times = tl.sum(grad * standardized(y, table_ptr, made, MADE), 0)
        tile = phase * tl.num_programs(0) + tl.program_id(0)
        tiles = tl.num_programs(0) * STRIDE
        store_sums(sums_ptr, tile, tiles, made, tl.sum(grad, 0), times, MADE)

"""Similarities two at a time: sums over their products, and the gradients of the losses in them.

Of feature a guided by anchor b, with s_a the similarities of a to the bank and c_ab = s_a ⊙ s_b:

    ℓ_ab = log(e^pos_a + Σ e^{s_a/τ} + Σ e^{c_ab/τ}) − [pos_a + Σ_{top_b}(s_a + c_ab)/τ] / positives

and with h_a = grad_a / (number of anchors), Z_ab the logarithm of the sum (the partition):

    ∂L/∂s_a = (1/τ) Σ_b [ h_a e^{s_a/τ − Z_ab} + (h_a e^{−Z_ab} + h_b e^{−Z_ba}) e^{c_ab/τ} s_b ]

the term in h_b only where features are their own anchors (SYMMETRIC): there c_ab = c_ba, and each pair a < b
is computed once. Kernels work on tiles of similarities (features, rows, width) in registers, a row a warp.
Base 2: with r = s·√(log₂e/τ), as stored, the exponent of s is r·root, of c it is r_a·r_b, root = √(log₂e/τ).
"""

# ruff: noqa: RUF005 (Triton tuples grow by +, it has no unpacking)

import triton
import triton.language as tl

from ikem_fast.ops.bank.triton.products import LOWEST, add_to_sums

# Gradients of single similarities are tiny next to the largest; this keeps them in the range of float16.
HEADROOM = tl.constexpr(4096.0)


@triton.jit
def load_tiles(s_ptr, offsets, feature_stride, COUNT: tl.constexpr):
    """The same tile of COUNT features, float32; unmasked, since keys past the end are written as zeros."""
    tiles = ()
    for f in tl.static_range(COUNT):
        tiles = tiles + (tl.load(s_ptr + f * feature_stride + offsets).to(tl.float32),)
    return tiles


@triton.jit(do_not_specialize=["keys", "first", "tiles"])
def pair_sums_kernel(
    features_ptr,
    anchors_ptr,
    maximum_ptr,
    total_ptr,
    rows,
    keys,
    width,
    first,
    tiles,
    FEATURES: tl.constexpr,
    ANCHORS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    VECTOR: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Running log₂ Σ 2^(r_a·r_b) over a strip, `tiles` tiles of a chunk that begins at key `first`.

    Grid: (row blocks, strips, groups of FEATURES features). maximum, total (strips, features, ANCHORS, rows).
    VECTOR: numbers of a row that a thread holds side by side, and sums up by itself.
    """
    strip, feature = tl.program_id(1), tl.program_id(2) * FEATURES
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, KEYS)[None, :]
    feature_stride = rows * width
    features_ptr += feature * feature_stride
    LANES: tl.constexpr = KEYS // VECTOR
    maxima = ()
    totals = ()
    for _pair in tl.static_range(FEATURES * ANCHORS):
        maxima = maxima + (tl.full((ROWS, LANES), LOWEST, tl.float32),)
        totals = totals + (tl.zeros((ROWS, LANES), tl.float32),)
    for tile in tl.range(strip * tiles, tl.minimum((strip + 1) * tiles, tl.cdiv(keys, KEYS))):
        key = tile * KEYS
        beyond = tl.where(key + column < keys, 0.0, LOWEST)
        offsets = row[:, None] * width + key + column
        left = load_tiles(features_ptr, offsets, feature_stride, FEATURES)
        right = left if SYMMETRIC else load_tiles(anchors_ptr, offsets, feature_stride, ANCHORS)
        new_maxima = ()
        new_totals = ()
        for a in tl.static_range(FEATURES):
            for b in tl.static_range(ANCHORS):
                raised = maxima[a * ANCHORS + b]
                total = totals[a * ANCHORS + b]
                if not SYMMETRIC or b > a:
                    exponents = tl.reshape(left[a] * right[b] + beyond, (ROWS, LANES, VECTOR))
                    raised = tl.maximum(raised, tl.max(exponents, 2))
                    total *= tl.exp2(maxima[a * ANCHORS + b] - raised)
                    total += tl.sum(tl.exp2(exponents - raised[:, :, None]), 2)
                new_maxima = new_maxima + (raised,)
                new_totals = new_totals + (total,)
        maxima = new_maxima
        totals = new_totals
    for a in tl.static_range(FEATURES):
        for b in tl.static_range(ANCHORS):
            if not SYMMETRIC or b > a:
                maximum = tl.max(maxima[a * ANCHORS + b], 1)
                total = totals[a * ANCHORS + b] * tl.exp2(maxima[a * ANCHORS + b] - maximum[:, None])
                part = (strip * tl.num_programs(2) * FEATURES + feature + a) * ANCHORS + b
                add_to_sums(maximum_ptr, total_ptr, part * rows + row, first, maximum, tl.sum(total, 1))


@triton.jit(do_not_specialize=["root", "clips", "anchors"])
def weights_kernel(
    grad_ptr,
    partition_ptr,
    level_ptr,
    weight_ptr,
    scale_ptr,
    clips,
    rows,
    anchors,
    root,
    CONTEXT: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    ROWS: tl.constexpr,
):
    """What `gradients_kernel` multiplies exponentials by, 2^(exponent − level)·weight: once for a row.

    Grid: (row blocks, features). grad (A, clips), partition (A, B, clips), base 2. level, weight (A, B + 1,
    rows): of the pairs with each anchor, then the feature's own. scale (2, A, rows): of the gradients into
    the range of their dtype, and back. Every exponential is taken relative to a partition that contains it,
    and so is at most 1.
    """
    feature, features = tl.program_id(1), tl.num_programs(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < clips
    terms = anchors - 1 if SYMMETRIC else anchors
    grad = tl.load(grad_ptr + feature * clips + row, mask=inside, other=0.0) / terms
    own_level = tl.full((ROWS,), float("inf"), tl.float32)
    for term in range(terms):
        b = (feature + 1 + term) % anchors if SYMMETRIC else term
        partition = tl.load(partition_ptr + (feature * anchors + b) * clips + row, mask=inside, other=0.0)
        own_level = tl.minimum(own_level, partition)
    own_weight = tl.zeros((ROWS,), tl.float32)
    largest = tl.zeros((ROWS,), tl.float32)
    for term in range(terms):
        b = (feature + 1 + term) % anchors if SYMMETRIC else term
        partition = tl.load(partition_ptr + (feature * anchors + b) * clips + row, mask=inside, other=0.0)
        own_weight += grad * tl.exp2(own_level - partition)
        if CONTEXT:
            level = partition
            weight = grad
            if SYMMETRIC:
                mirrored = tl.load(
                    partition_ptr + (b * anchors + feature) * clips + row, mask=inside, other=0.0
                )
                level = tl.minimum(partition, mirrored)
                grad_b = tl.load(grad_ptr + b * clips + row, mask=inside, other=0.0) / terms
                weight = grad * tl.exp2(level - partition) + grad_b * tl.exp2(level - mirrored)
            at = (feature * (anchors + 1) + b) * rows + row
            tl.store(level_ptr + at, level)
            tl.store(weight_ptr + at, weight / root)
            largest = tl.maximum(largest, tl.abs(weight))
    largest = tl.maximum(largest, tl.abs(own_weight))
    at = (feature * (anchors + 1) + anchors) * rows + row
    tl.store(level_ptr + at, own_level)
    tl.store(weight_ptr + at, own_weight)
    at = feature * rows + row
    tl.store(scale_ptr + at, 1.0 / tl.where(largest > 0.0, largest, float("inf")) * HEADROOM)
    tl.store(scale_ptr + features * rows + at, largest / HEADROOM)


@triton.jit
def load_weights(ptr, feature, rows, row, FIRST: tl.constexpr, COUNT: tl.constexpr, STRIDE: tl.constexpr):
    """Columns (ROWS, 1) of a table (A, STRIDE, rows): COUNT numbers of a feature from FIRST on."""
    columns = ()
    for i in tl.static_range(COUNT):
        columns = columns + (tl.load(ptr + (feature * STRIDE + FIRST + i) * rows + row)[:, None],)
    return columns


@triton.jit(do_not_specialize=["keys", "tiles", "root"])
def gradients_kernel(
    features_ptr,
    anchors_ptr,
    gradients_ptr,
    level_ptr,
    weight_ptr,
    scale_ptr,
    rows,
    keys,
    width,
    tiles,
    root,
    FEATURES: tl.constexpr,
    ANCHORS: tl.constexpr,
    CONTEXT: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    VECTOR: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """τ·∂L/∂s, scaled into the range of its dtype, in the place of the similarities; 0 past the end.

    Grid: (row blocks, strips, groups of FEATURES features); tables as `weights_kernel` left them.
    """
    feature = tl.program_id(2) * FEATURES
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, KEYS)[None, :]
    feature_stride = rows * width
    features_ptr += feature * feature_stride
    gradients_ptr += feature * feature_stride
    levels = ()
    weights = ()
    scales = ()
    for a in tl.static_range(FEATURES):
        levels = levels + load_weights(level_ptr, feature + a, rows, row, 0, ANCHORS + 1, ANCHORS + 1)
        weights = weights + load_weights(weight_ptr, feature + a, rows, row, 0, ANCHORS + 1, ANCHORS + 1)
        scales = scales + load_weights(scale_ptr, feature + a, rows, row, 0, 1, 1)
    strip = tl.program_id(1)
    for tile in tl.range(strip * tiles, tl.minimum((strip + 1) * tiles, tl.cdiv(keys, KEYS))):
        key = tile * KEYS
        inside = key + column < keys
        offsets = row[:, None] * width + key + column
        left = load_tiles(features_ptr, offsets, feature_stride, FEATURES)
        right = left
        if CONTEXT and not SYMMETRIC:
            right = load_tiles(anchors_ptr, offsets, feature_stride, ANCHORS)
        gradients = ()
        for a in tl.static_range(FEATURES):
            exponents = left[a] * root - levels[a * (ANCHORS + 1) + ANCHORS]
            gradients = gradients + (tl.exp2(exponents) * weights[a * (ANCHORS + 1) + ANCHORS],)
        if CONTEXT:
            for a in tl.static_range(FEATURES):
                for b in tl.static_range(ANCHORS):
                    if not SYMMETRIC or b > a:
                        exponents = left[a] * right[b] - levels[a * (ANCHORS + 1) + b]
                        shared = tl.exp2(exponents) * weights[a * (ANCHORS + 1) + b]
                        updated = ()
                        for f in tl.static_range(FEATURES):
                            gradient = gradients[f]
                            if f == a:
                                gradient += shared * right[b]
                            if SYMMETRIC and f == b:
                                gradient += shared * left[a]
                            updated = updated + (gradient,)
                        gradients = updated
        for a in tl.static_range(FEATURES):
            gradient = tl.where(inside, gradients[a] * scales[a], 0.0)
            tl.store(
                gradients_ptr + a * feature_stride + offsets, gradient.to(gradients_ptr.dtype.element_ty)
            )

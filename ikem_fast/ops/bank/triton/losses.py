"""The operators: launch the kernels over groups of clips and chunks of the bank.

Nothing of size clips × keys is held: a workspace for the similarities of one group with one chunk is used
again and again, and what must last (running sums, nearest keys, weighted keys) is small. No program adds to
what another writes in the same launch, so every run gives the same bits.

InfoNCE is the relational loss of one anchor that has mined nothing, and the forward pass leaves its gradient:
in one walk over the bank where float32 holds all terms 2^x as they are, else in a second.
"""

import contextlib
import functools
import math

import torch
import torch.nn.functional as F
import triton

from ikem_fast.ops.bank.triton import plan as plans
from ikem_fast.ops.bank.triton import tuning
from ikem_fast.ops.bank.triton.pairs import gradients_kernel, pair_sums_kernel, weights_kernel
from ikem_fast.ops.bank.triton.products import similarities_kernel, weighted_keys_kernel
from ikem_fast.ops.bank.triton.rows import (
    feature_gradients_kernel,
    losses_kernel,
    nearest_kernel,
    unit_rows_kernel,
)

LOG2E = math.log2(math.e)
# Exponents up to here leave room in float32 for the sum of all terms 2^x, without a maximum subtracted.
BOUND = 100
COUNTED = 8192  # keys whose similarities are counted at a time


def attention(x, y, queue, temperature, wide, with_direction):
    """InfoNCE: loss (A,N), direction (A,N,·) or an empty tensor, float32.

    x (P,N,D), or (A,N,P·D) if `wide`; y (P,N,D); queue (P,K,D).
    """

    # Float16 has no room for the terms; and a small temperature leaves none in float32.
    once = with_direction and x.dtype != torch.float16 and LOG2E / temperature <= BOUND

    def compute(tiles, x, y):
        group = _Group(tiles, x, y, queue, temperature, wide)
        loss, partition, scores, output = group.losses(weighted=once)
        if not with_direction:
            return loss, loss.new_empty(0)
        grad = torch.ones_like(loss)
        if once:
            scale = F.pad(torch.exp2(-partition[:, 0]), (0, group.plan.rows - x.shape[1]))
            return loss, group.feature_gradients(grad, partition, scores, output, scale, loss.dtype)
        return loss, group.gradients(grad, partition, scores, loss.dtype)

    results = (1, 1 if with_direction else 0)
    variant, large = (wide, with_direction), wide and once
    return _launch("attention", compute, (x, y), queue, variant, (1, 1), results, large=large)


def relations(x, y, queue, temperature, wide, topk, context):
    """The relational losses (A,N), and what the backward pass needs.

    x (P,N,D), features that are their own anchors, or if `wide` (A,N,P·D) with the keys for anchors;
    y (P,N,D) the keys; queue (P,K,D). Also returned, as `relations_backward` takes them: partition (A,B,N),
    scores (A,B,N,topk), mined (B,N,topk) and nearest (B,N,topk).
    """

    def compute(tiles, x, y):
        group = _Group(tiles, x, y, queue, temperature, wide, topk, context)
        loss, partition, scores, _output = group.losses()
        return loss, partition, scores, group.mined, group.values

    results = (1, 2, 2, 1, 1)
    return _launch("relations", compute, (x, y), queue, (wide, context), dims=(1, 1), results=results)


def relations_backward(grad, x, y, queue, partition, scores, mined, values, temperature, wide, topk, context):
    """The gradient in x, of its shape and dtype. grad (A,N); the rest as `relations` took and returned it."""

    def compute(tiles, x, y, grad, partition, scores, mined, values):
        group = _Group(tiles, x, y, queue, temperature, wide, topk, context)
        group.mined, group.values = mined, values
        return (group.gradients(grad, partition, scores, x.dtype),)

    tensors, dims = (x, y, grad.float(), partition, scores, mined, values), (1, 1, 1, 2, 2, 1, 1)
    return _launch("backward", compute, tensors, queue, (wide, context), dims=dims, results=(1,))[0]


def softmax(x, queue, limits, with_mean):
    """Rows x (P,N,D) as they are: partition (P,N); mean key (P,N,D) and counts above limits (P,N), or empty.

    Counts are of similarities made again.
    """

    def compute(tiles, x):
        plan, clips = plans.plan(x, queue, 0, tiles), x.shape[1]
        unit = x.new_zeros((len(x), plan.rows, 1, plans.block(plan.dim)), dtype=plan.operand)
        unit[:, :clips, 0, : plan.dim] = x.float() * LOG2E
        sums = x.new_empty((2, plan.key_blocks, len(x), plan.rows), dtype=torch.float32)
        for first, bank in _chunks(plan, queue):
            _similarities(plan, unit, bank, first, sums=sums)
        most = sums[0].amax(0)
        partition = most + (torch.exp2(sums[0] - most) * sums[1]).sum(0).log2()
        mean = _mean_keys(plan, unit, queue, partition) if with_mean else unit.new_empty((len(x), 0, 0))
        return partition[:, :clips] / LOG2E, mean[:, :clips]

    partition, mean = _launch("softmax", compute, (x,), queue, (with_mean,), dims=(1,), results=(1, 1))
    above = x.new_zeros(x.shape[:2] if limits is not None else (0,), dtype=torch.int64)
    for keys in queue.split(COUNTED, 1) if limits is not None else ():
        above += (x.float() @ keys.float().mT > limits.unsqueeze(-1)).sum(-1)
    return partition, mean if with_mean else mean.new_empty(0), above


def nearest(q, queue, topk):
    """values (P,N,topk) float32, indices (P,N,topk) int64, most similar first."""

    def compute(tiles, q):
        plan = plans.plan(q, queue, 0, tiles)
        unit, found = _unit_rows(plan, q, 1.0), _found(plan, len(q), topk)
        for first, bank in _chunks(plan, queue):
            _similarities(plan, unit, bank, first, nearest=found, topk=topk)
        return _nearest(plan, found, q.shape[1], topk, 1.0)

    return _launch("nearest", compute, (q,), queue, (topk,), dims=(1,), results=(1, 1))


def _launch(name, compute, tensors, queue, variant, dims, results, large=False):
    """compute(tiles, *tensors), a group of clips at a time, with the tiles for these sizes.

    dims, results: where clips lie in the tensors, features first, and in what comes of them.
    """
    x = tensors[0]
    groups = triton.cdiv(x.shape[1], plans.MAX_GROUP)
    clips = triton.cdiv(x.shape[1], groups)
    choices = plans.candidates(plans.operand_dtype(x), plans.capability(x.device), clips, large)

    def run(tiles):
        pieces = zip(*(t.chunk(groups, d) for t, d in zip(tensors, dims, strict=True)), strict=True)
        parts = [compute(tiles, *(t.contiguous() for t in piece)) for piece in pieces]
        if groups == 1:
            return parts[0]
        return tuple(torch.cat(part, d) for part, d in zip(zip(*parts, strict=True), results, strict=True))

    # Triton launches on the current device: make it the tensors'.
    with torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
        return tuning.launch(name, choices, x, queue, run, variant)


class _Group:
    """A group of clips that meets the bank: features x (A,N,·), the keys y that belong to them.

    Without anchors (topk 0) the losses are InfoNCE's. mined, values (B,N,topk): the anchors' nearest keys.
    """

    def __init__(self, tiles, x, y, queue, temperature, wide, topk=0, context=False):
        self.x, self.y, self.queue, self.topk, self.context = x, y, queue, topk, context
        self.symmetric = topk > 0 and not wide
        self.anchors = len(y) if topk > 0 else 1
        self.plan = plan = plans.plan(x, queue, self.anchors if topk > 0 and wide else 0, tiles)
        self.root = math.sqrt(LOG2E / temperature)
        self.scale = self.root / math.sqrt(plan.chunks)
        self.unit = _unit_rows(plan, x, self.scale)
        self.anchor_unit = _unit_rows(plan, y, self.root) if plan.anchors else self.unit
        # A feature that meets one bank meets that of its own number; students of one modality share it.
        if plan.chunks == 1:
            self.queue = queue.expand(len(x), -1, -1)
            self.y = y.expand(len(x), -1, -1).contiguous()
        # A program takes all features where they are one another's anchors, else one.
        self.together = len(x) if self.symmetric and context else 1
        self.mined, self.values = x.new_empty(0, dtype=torch.int64), x.new_empty(0, dtype=torch.float32)

    def losses(self, weighted=False):
        """loss (A,N), partition (A,B,N), scores (A,B,N,topk), and the keys weighted by 2^x if asked for."""
        plan, A = self.plan, len(self.x)
        new = functools.partial(self.x.new_empty, dtype=torch.float32)
        sums = new((2, plan.key_blocks, A, plan.rows))
        store = "weights" if weighted else "similarities" if self.context else None
        s = self._workspace(weighted) if store else None
        found = _found(plan, self.anchors, self.topk) if self.topk else None
        strips, tiles = plan.strips(A // self.together, self.together)
        pair_sums = new((2, strips, A, self.anchors, plan.rows)) if self.context else new((2, 0))
        output = _output(plan) if weighted else None
        for first, bank in _chunks(plan, self.queue):
            mining = {"nearest": found, "topk": self.topk}
            own = mining if self.symmetric else {}
            _similarities(plan, self.unit, bank, first, s, store, root=self.root, sums=sums, **own)
            if plan.anchors:
                _similarities(plan, self.anchor_unit, bank, first, s[A:] if store else None, store, **mining)
            if self.context:
                pair_sums_kernel[self._pair_grid(strips)](
                    s, s[A:], *pair_sums, plan.rows, bank.shape[1], plan.keys, first, tiles,
                    SYMMETRIC=self.symmetric, FEATURES=self.together, ANCHORS=self.anchors,
                    **plan.pairs(self.together),
                )  # fmt: skip
            if weighted:
                _weighted_keys(plan, s, bank, first, output)
        if self.topk:
            self.values, self.mined = _nearest(plan, found, self.x.shape[1], self.topk, self.root)
        clips = self.x.shape[1]
        loss, partition = new((A, clips)), new((A, self.anchors, clips))
        scores = new((A, self.anchors, clips, self.topk))
        losses_kernel[plan.row_grid(clips, A)](
            self.x, self.y, self.queue, self.mined, self.values, *sums, *pair_sums, loss, partition, scores,
            clips, plan.rows, plan.key_blocks, strips, self.anchors, self.topk, *self.queue.stride(),
            self.scale, self.root, CONTEXT=self.context, SYMMETRIC=self.symmetric, **plan.row,
        )  # fmt: skip
        return loss, partition, scores, output

    def gradients(self, grad, partition, scores, dtype):
        """The gradient in x of losses weighted by grad (A,N), from what `losses` returned."""
        plan, A = self.plan, len(self.x)
        s, output = self._workspace(), _output(plan)
        weights = s.view(plan.operand)[:A]  # in the features' place
        levels, pulls = self.x.new_empty((2, A, self.anchors + 1, plan.rows), dtype=torch.float32)
        scales = self.x.new_empty((2, A, plan.rows), dtype=torch.float32)
        weights_kernel[(plan.rows // plan.tiles.rows, A)](
            grad, partition, levels, pulls, scales, self.x.shape[1], plan.rows, self.anchors, self.root,
            CONTEXT=self.context, SYMMETRIC=self.symmetric, ROWS=plan.tiles.rows,
        )  # fmt: skip
        strips, tiles = plan.strips(A // self.together, self.together)
        for first, bank in _chunks(plan, self.queue):
            _similarities(plan, self.unit, bank, first, s, "similarities")
            if plan.anchors and self.context:
                _similarities(plan, self.anchor_unit, bank, first, s[A:], "similarities")
            gradients_kernel[self._pair_grid(strips)](
                s, s[A:], weights, levels, pulls, scales, plan.rows, bank.shape[1], plan.keys,
                tiles, self.root, CONTEXT=self.context, SYMMETRIC=self.symmetric,
                FEATURES=self.together, ANCHORS=self.anchors, **plan.pairs(self.together),
            )  # fmt: skip
            _weighted_keys(plan, weights, bank, first, output)
        return self.feature_gradients(grad, partition, scores, output, scales[1], dtype)

    def feature_gradients(self, grad, partition, scores, output, scale, dtype):
        """The same, from the weighted keys (splits, A, rows, ·), to be multiplied by scale (A, rows)."""
        plan, clips = self.plan, self.x.shape[1]
        gradient = torch.empty_like(self.x, dtype=dtype)
        feature_gradients_kernel[plan.row_grid(clips, len(self.x))](
            self.x, self.y, self.queue, self.mined, self.values, scores, partition, grad, output, scale,
            gradient, clips, plan.rows, len(output), self.anchors, self.topk, *self.queue.stride(),
            self.scale, self.root, CONTEXT=self.context, SYMMETRIC=self.symmetric, **plan.row,
        )  # fmt: skip
        return gradient

    def _workspace(self, weights=False):
        """(A + anchors, rows, keys): of 16-bit features in float16, finer than bfloat16."""
        plan = self.plan
        dtype = plan.operand if weights or plan.operand == torch.float32 else torch.float16
        return self.x.new_empty((plan.features + plan.anchors, plan.rows, plan.keys), dtype=dtype)

    def _pair_grid(self, strips):
        return triton.cdiv(self.plan.rows, plans.PAIR_ROWS), strips, len(self.x) // self.together


def _mean_keys(plan, unit, queue, partition):
    """Σ 2^(similarity − partition) × key (P, plan.rows, D) float32, in a second walk over the bank."""
    features = len(partition)
    dtype = torch.float32 if plan.operand == torch.float32 else torch.float16
    s = torch.empty((features, plan.rows, plan.keys), dtype=dtype, device=plan.device)
    weights, output = s.view(plan.operand), _output(plan)
    one = torch.ones_like(partition)
    strips, tiles = plan.strips(features, 1)
    for first, bank in _chunks(plan, queue):
        _similarities(plan, unit, bank, first, s, "similarities")
        gradients_kernel[triton.cdiv(plan.rows, plans.PAIR_ROWS), strips, features](
            s, s, weights, partition, one, one, plan.rows, bank.shape[1], plan.keys, tiles, 1.0,
            CONTEXT=False, SYMMETRIC=False, FEATURES=1, ANCHORS=0, **plan.pairs(1),
        )  # fmt: skip
        _weighted_keys(plan, weights, bank, first, output)
    return output.sum(0)[..., : plan.dim]


def _chunks(plan, queue):
    """Yield the bank as kernels read it, (first key, keys (P, ≤ plan.keys, BLOCK_D)), a chunk at a time.

    In place if it lies so; else each chunk is copied, and stays in the second-level cache.
    """
    P, K, D = queue.shape
    width = plans.block(D)
    dense = width == D and queue.stride(2) == 1 and queue.stride(1) == D
    aligned = queue.stride(0) % 16 == 0 and queue.data_ptr() % 16 == 0
    copied = None
    if queue.dtype != plan.operand or not (dense and aligned):
        copied = queue.new_zeros((P, min(plan.keys, K), width), dtype=plan.operand)
    for first in range(0, K, plan.keys):
        chunk = queue[:, first : first + plan.keys]
        if copied is not None:
            copied[:, : chunk.shape[1], :D].copy_(chunk)
            chunk = copied[:, : chunk.shape[1]]
        yield first, chunk


def _unit_rows(plan, x, scale):
    """x (A,N,C·D) of length `scale`, as products read it: (A, plan.rows, C, BLOCK_D), padded with zeros."""
    features, clips, width = x.shape
    chunks = width // plan.dim
    unit = x.new_empty((features, plan.rows, chunks, plans.block(plan.dim)), dtype=plan.operand)
    unit_rows_kernel[plan.row_grid(plan.rows, features)](
        x, unit, clips, scale, D=plan.dim, BLOCK_D=plans.block(plan.dim), CHUNKS=chunks,
        BLOCK_CHUNKS=triton.next_power_of_2(chunks), ROWS=plans.ROWS,
    )  # fmt: skip
    return unit


def _similarities(
    plan, unit, bank, first, s=None, store=None, root=1.0, sums=(None, None), nearest=(None, None), topk=0
):
    features, rows, chunks, width = unit.shape
    pieces = chunks * width // plan.factors["PIECE"]
    # Past the end too, up to a whole number of any tiles: there zeros are written.
    key_blocks = triton.cdiv(bank.shape[1], plans.STEP) * (plans.STEP // plan.tiles.keys)
    grid = features * rows // plan.tiles.rows, key_blocks
    similarities_kernel[grid](
        unit, bank, s, *sums, *nearest, rows, bank.shape[1], plan.keys, bank.stride(0), first, pieces, topk,
        root, CHUNKS=chunks, STORE=store, SUMS=sums[0] is not None,
        TOPK=triton.next_power_of_2(topk) if topk else 0, KEYS=plan.tiles.keys, **plan.factors,
    )  # fmt: skip


def _output(plan):
    shape = plan.splits, plan.features, plan.rows, plan.chunks * plans.block(plan.dim)
    return torch.empty(shape, dtype=torch.float32, device=plan.device)


def _weighted_keys(plan, weights, bank, first, output):
    keys = bank.shape[1]
    pieces = triton.cdiv(triton.cdiv(keys, plan.factors["PIECE"]), plan.splits)
    weighted_keys_kernel[(plan.blocks, plan.splits)](
        weights, bank, output, plan.rows, keys, plan.keys, bank.stride(0), first, pieces,
        CHUNKS=plan.chunks, COLUMNS=plan.columns, **plan.factors,
    )  # fmt: skip


def _found(plan, features, topk):
    """Room for the running nearest keys of each block of keys: (values, indices)."""
    shape = plan.key_blocks, features, plan.rows, triton.next_power_of_2(topk)
    values = torch.empty(shape, dtype=torch.float32, device=plan.device)
    return values, torch.empty_like(values, dtype=torch.int32)


def _nearest(plan, found, clips, topk, scale):
    """values (·,N,topk), divided by the features' length `scale`, and indices, from all blocks."""
    blocks, features, _rows, slots = found[0].shape
    values = found[0].new_empty((features, clips, topk))
    indices = torch.empty_like(values, dtype=torch.int64)
    nearest_kernel[plan.row_grid(clips, features)](
        *found, values, indices, clips, plan.rows, blocks, topk, scale,
        TOPK=slots, CANDIDATES=triton.next_power_of_2(blocks * slots), ROWS=plans.ROWS,
    )  # fmt: skip
    return values, indices

"""The bank losses on CPU tensors: one pass over the bank, in tiles that stay in the processor's cache.

The similarities of a tile are made, used and overwritten; what remains of a pass is a running log-sum-exp
of each sum over the bank, the running nearest keys and, for InfoNCE, the running gradient. Arithmetic is
float32. The formulas are those of `reference`.

Exponents are base 2, and features arrive scaled, so that a tile needs no pass of its own for base and
temperature: by log₂e/τ where the exponents are those of s/τ alone, and by root = √(log₂e/τ) where products
of similarities occur: with r = root·s the exponent of c_ij/τ is r_i·r_j, and that of s/τ is root·r.
(torch takes `exp` to a library that is slow on some processors, and computes `exp2` itself.)
"""

import math

import torch
import torch.nn.functional as F
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from ikem_fast.ops.reference import _outside_autocast as outside_autocast

LN2, LOG2E = math.log(2), math.log2(math.e)

# Similarities in one tile: 4 MiB of float32, which with its exponentials stays in a shared third-level cache.
# Smaller ones that fit a core's second level measured a tenth slower: more calls, shorter matrix products.
_TILE_ELEMENTS = 1 << 20
_MIN_KEYS, _MAX_KEYS = 128, 1024

# oneDNN's matrix product, which makes full use of AVX-512 on every processor that has it, where the one
# behind `@` knows those of its own maker. torch.compile calls it by this name too.
_onednn_linear = (
    torch.ops.mkldnn._linear_pointwise.default
    if torch.backends.mkldnn.is_available() and "AVX512" in torch.backends.cpu.get_cpu_capability()
    else None
)


@outside_autocast
def info_nce(q, k, queue, temperature):
    """(P,N,D), (P,N,D), (P,K,D) → (P,N)."""
    return _InfoNCE.apply(_unit(q) * (LOG2E / temperature), _unit(k.detach()), queue.detach(), _separate)


@outside_autocast
def implicit_exchange(z, k, queue, temperature):
    """z (P,N,P·D), k (P,N,D), queue (P,K,D) → (P,N)."""
    rows = _unit(z) * (LOG2E / (temperature * math.sqrt(len(k))))
    keys = _side_by_side(_unit(k.detach())).expand_as(rows)
    return _InfoNCE.apply(rows, keys, queue.detach(), _side_by_side)


@outside_autocast
def cross_modal_contrast(q, k, queue, temperature, topk, context):
    """(P,N,D), (P,N,D), (P,K,D) → (P,N)."""
    q, queue = _unit(q), queue.detach()
    positive = (q * _unit(k.detach())).sum(-1) / temperature
    root = math.sqrt(LOG2E / temperature)
    own, shared, mined, _ = _Relations.apply(q * root, None, queue, _separate, root, topk, context)
    s = _MinedSimilarities.apply(q, queue, mined, _separate)
    nearest = s.diagonal().permute(2, 0, 1)
    pairs = _relational(positive, own, shared, s, nearest, temperature)
    with_itself = torch.eye(len(q), dtype=torch.bool).unsqueeze(-1)
    return pairs.masked_fill(with_itself, 0).sum(1) / (len(q) - 1)


@outside_autocast
def relational_distillation(student, teacher, queue, temperature, topk, context):
    """student (S,N,P·D), teacher (P,N,D), queue (P,K,D) → (S,N)."""
    root = math.sqrt(LOG2E / temperature)
    u, t, queue = _unit(student) / math.sqrt(len(teacher)), _unit(teacher.detach()), queue.detach()
    positive = (u * _side_by_side(t)).sum(-1) / temperature
    own, shared, mined, nearest = _Relations.apply(
        u * root, t * root, queue, _side_by_side, root, topk, context
    )
    s = _MinedSimilarities.apply(u, queue, mined, _side_by_side)
    return _relational(positive, own, shared, s, nearest / root, temperature).mean(1)


@outside_autocast
def nearest_neighbors(q, queue, topk):
    """(P,N,D), (P,K,D) → values (P,N,topk), indices (P,N,topk) int64, most similar first."""
    q, nearest = _unit(q), _NearestKeys(topk)
    for start, bank in _tiles(queue, q):
        nearest.add(_similarities(q, bank), start)
    return nearest.values, nearest.indices


def _relational(positive, own, shared, s, nearest, temperature):
    """Losses (A,B,N) of feature a guided by anchor b, from what a pass over the bank leaves.

    positive, own (A,N): pos and S; shared (A,B,N): C, or None without context; s (A,B,N,topk): a's
    similarities at the nearest keys of b, and nearest (B,N,topk): b's own there.
    """
    partition = torch.logaddexp(positive, own).unsqueeze(1)
    positives = 1 + s.shape[-1]
    if shared is not None:
        partition = torch.logaddexp(partition, shared)
        s = s * (1 + nearest)
        positives += s.shape[-1]
    return partition - (positive.unsqueeze(1) + s.sum(-1) / temperature) / positives


class _InfoNCE(torch.autograd.Function):
    """log Σ e^{…} of the exponents x·key and x·bank (base 2), less the first: attention whose first key is
    the positive.

    The gradient in x is the attention's output, with values = keys, less the positive key. It accumulates
    in the same pass: one matrix product more, where making the similarities again would be two.
    """

    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx, x, key, queue, arrange):
        positive = (x * key).sum(-1)
        total, output = _LogSumExp(positive), key.clone() if x.requires_grad else None
        for _, bank in _tiles(queue, x):
            bank = arrange(bank)
            weights, decay = total.add(_similarities(x, bank))
            if output is not None:
                output.mul_(decay.unsqueeze(-1)).add_(_weighted_keys(weights, bank))
        if output is not None:
            ctx.save_for_backward(output.div_(total.sum.unsqueeze(-1)).sub_(key).mul_(LN2))
        # In this order, a loss near 0 keeps its digits.
        return ((total.maximum - positive) + total.sum.log2()) * LN2

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (direction,) = ctx.saved_tensors
        return grad.unsqueeze(-1) * direction, None, None, None


class _Relations(torch.autograd.Function):
    """The sums over the bank that the relational losses are made of, and each anchor's nearest keys.

    x (A,N,·) own features and anchors (B,N,D), both times root. x meets the keys as `arrange` lays them
    out, anchors meet each its own bank. With anchors None the own features are the anchors, and of
    c_ij = c_ji only i < j is summed.

    Returns S (A,N), C (A,B,N) with −∞ where a feature meets itself (None without context), and the nearest
    keys of the anchors: their rows (B,N,topk) and r there. Gradients flow from S and C into x.

    The backward pass makes the tiles again: kept, they would be the N×K similarities.
    """

    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx, x, anchors, queue, arrange, root, topk, context):
        symmetric = anchors is None
        A, N, _ = x.shape
        B = A if symmetric else len(anchors)
        own, nearest = _LogSumExp(x.new_full((A, N), -torch.inf)), _NearestKeys(topk)
        shared = x.new_full((A, B, N), -torch.inf) if context else None
        pairs = (
            [_LogSumExp(row[i + 1 :] if symmetric else row) for i, row in enumerate(shared)]
            if context
            else []
        )
        for start, bank in _tiles(queue, x):
            r = _similarities(x, arrange(bank))
            r_anchors = r if symmetric else _similarities(anchors, bank)
            nearest.add(r_anchors, start)
            for i, pair in enumerate(pairs):
                pair.add(r[i] * (r[i + 1 :] if symmetric else r_anchors))
            own.add(r * root)
        for i, pair in enumerate(pairs):
            if symmetric:
                shared[i, i + 1 :] = shared[i + 1 :, i] = pair.result()
            else:
                shared[i] = pair.result()
        own = own.result()
        ctx.save_for_backward(x, anchors, queue, own, shared)
        ctx.arrange, ctx.root = arrange, root
        ctx.mark_non_differentiable(nearest.indices, nearest.values)
        return own * LN2, None if shared is None else shared * LN2, nearest.indices, nearest.values

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, grad_own, grad_shared, *_):
        x, anchors, queue, own, shared = ctx.saved_tensors
        symmetric = anchors is None
        grad_own = (grad_own * (ctx.root * LN2)).unsqueeze(-1)
        if shared is not None:
            grad_shared = grad_shared * LN2
        pairs = [] if shared is None else [(i, shared[i], grad_shared[i]) for i in range(len(x))]
        if symmetric:
            pairs = [(i, C[i + 1 :], (g + grad_shared[:, i])[i + 1 :]) for i, C, g in pairs]
        grad = torch.zeros_like(x)
        for _, bank in _tiles(queue, x):
            keys = ctx.arrange(bank)
            r = _similarities(x, keys)
            r_anchors = r if symmetric else _similarities(anchors, bank)
            weights = (r * ctx.root).sub_(own.unsqueeze(-1)).exp2_().mul_(grad_own)
            for i, C, g in pairs:
                others = r[i + 1 :] if symmetric else r_anchors
                products = (r[i] * others).sub_(C.unsqueeze(-1)).exp2_().mul_(g.unsqueeze(-1))
                if symmetric:
                    weights[i + 1 :].addcmul_(products, r[i])
                weights[i] += products.mul_(others).sum(0)
            grad += _weighted_keys(weights, keys)
        return grad, *[None] * 6


class _MinedSimilarities(torch.autograd.Function):
    """x_a · bank_a at the nearest keys of every anchor: (A,N,·), (P,K,D), (B,N,topk) → (A,B,N,topk).

    The keys are gathered again in the backward pass, and for one anchor at a time.
    """

    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx, x, queue, mined, arrange):
        ctx.save_for_backward(queue, mined)
        ctx.arrange = arrange
        return torch.stack(
            [(arrange(keys) @ x.unsqueeze(-1)).squeeze(-1) for keys in _gather(queue, mined)], 1
        )

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, grad):
        keys = [ctx.arrange(keys) for keys in _gather(*ctx.saved_tensors)]
        rows = (g.unsqueeze(-2) @ k for g, k in zip(grad.unbind(1), keys, strict=True))
        return sum(rows).squeeze(-2), None, None, None


class _LogSumExp:
    """log₂ Σ 2^x over all that is added and a first term, for each row; no x too large or too small."""

    def __init__(self, first):
        self.maximum, self.sum = first, torch.isfinite(first).to(first.dtype)

    def add(self, x):
        """Add x (…,T), which is overwritten by 2^(x − maximum); returns it, and by how much a weighted sum
        of earlier terms has to shrink."""
        maximum = torch.maximum(self.maximum, x.amax(-1))
        decay = (self.maximum - maximum).exp2_()
        x.sub_(maximum.unsqueeze(-1)).exp2_()
        self.maximum, self.sum = maximum, self.sum.mul_(decay).add_(x.sum(-1))
        return x, decay

    def result(self):
        return self.maximum + self.sum.log2()


class _NearestKeys:
    """The topk largest of all similarities added, with their rows."""

    def __init__(self, topk):
        self.topk, self.values, self.indices = topk, None, None

    def add(self, similarities, start):
        """Add similarities (P,N,T) with the keys from `start` on."""
        values, indices = similarities.topk(min(self.topk, similarities.shape[-1]), -1)
        indices += start
        if self.values is not None:
            values, indices = torch.cat([self.values, values], -1), torch.cat([self.indices, indices], -1)
            values, order = values.topk(min(self.topk, values.shape[-1]), -1)
            indices = indices.gather(-1, order)
        self.values, self.indices = values, indices


def _tiles(queue, x):
    """(first row, keys (P,T,D) float32), with as many keys as make a tile of the rows of x (A,N,·)."""
    size = min(max(_TILE_ELEMENTS // (x.shape[0] * x.shape[1]), _MIN_KEYS), _MAX_KEYS)
    for start in range(0, queue.shape[1], size):
        yield start, queue[:, start : start + size].float()


def _separate(keys):
    """Every modality meets its own keys: (P,…,D) as they are."""
    return keys


def _side_by_side(keys):
    """Every feature meets the keys of all modalities at once: (P,…,D) → (1,…,P·D)."""
    return keys.movedim(0, -2).flatten(-2).unsqueeze(0)


def _similarities(x, keys):
    """x (A,N,·) with keys (A or 1,T,·) → (A,N,T)."""
    return products(x.view(len(keys), -1, x.shape[-1]), keys).view(*x.shape[:-1], -1)


def _weighted_keys(weights, keys):
    """weights (A,N,T) and keys (A or 1,T,·) → (A,N,·)."""
    A, N, T = weights.shape
    return products(weights.view(len(keys), -1, T), keys.mT).view(A, N, -1)


def products(rows, keys):
    """rows (B,M,W) with keys (B,T,W), strided as they may be → (B,M,T): all dot products."""
    if _onednn_linear is None:
        return rows @ keys.mT
    products = [_onednn_linear(*pair, None, "none", [], "") for pair in zip(rows, keys, strict=True)]
    return torch.stack(products) if len(products) > 1 else products[0].unsqueeze(0)


def _gather(queue, mined):
    """For each anchor the keys (P,N,topk,D) of every modality at its nearest rows (N,topk)."""
    return (queue[:, rows].float() for rows in mined)


def _unit(features):
    return F.normalize(features.float().contiguous(), dim=-1)

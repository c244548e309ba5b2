"""What loops of other codebases do with features, keys and banks, written out as they do, and by our ops.

Stand-ins in our own words: the arithmetic is theirs. Each takes the tensors that `draw` made for it.
"""

import itertools

import torch
import torch.nn.functional as F

from ikem_fast import ops

TEMPERATURE, MINED, NEIGHBORS = 0.07, 1, 0.5  # CMD compares half of the bank


def unit(x):
    return F.normalize(x, dim=1)


def logits_of(u, key, bank, temperature=TEMPERATURE):
    """(N,1+K) of unit u against its unit key and a copy of the bank (D,K), as MoCo makes them."""
    positive = torch.einsum("nd,nd->n", u, key).unsqueeze(-1)
    return torch.cat([positive, torch.einsum("nd,dk->nk", u, bank.clone().detach())], 1) / temperature


def first(logits):
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def crossclr_before(a):
    """Three streams, each with its key against its bank."""
    return sum(
        first(logits_of(unit(q), unit(k), bank))
        for q, k, bank in zip(a["q"], a["k"], a["banks"], strict=True)
    )


def crossclr_after(a):
    return ops.moco_loss(a["q"], a["k"], a["banks"], TEMPERATURE).sum()


def aimclr_before(a):
    """A weak view with mined positives, and two strong ones whose distribution follows it."""
    weak, strong, dropped = map(unit, a["q"])
    key, bank = unit(a["k"][0]), a["banks"][0]
    logits = [logits_of(u, key, bank) for u in (weak, strong, dropped)]
    mined = torch.zeros_like(logits[0][:, 1:])
    for one in logits:
        mined.scatter_(1, one[:, 1:].topk(MINED, 1).indices, 1)
    mask = torch.cat([torch.ones_like(mined[:, :1]), mined], 1)
    loss = -((mask * F.log_softmax(logits[0], 1)).sum(1) / mask.sum(1)).mean()
    guide = logits[0].detach().softmax(1)
    return loss - sum((guide * one.softmax(1).log()).sum(1).mean() for one in logits[1:]) / 2


def aimclr_after(a):
    weak, strong, dropped = a["q"]
    key, bank = a["k"][0], a["banks"][0]
    mined = [ops.nearest_neighbors(u.detach(), bank, MINED)[1] for u in a["q"]]
    loss = ops.multi_positive_nce(weak, key, bank, mined, TEMPERATURE)
    followers = (strong, dropped)
    return loss + sum(ops.soft_contrast(u, weak, key, bank, TEMPERATURE, TEMPERATURE) for u in followers) / 2


def cmd_before(a):
    """Every stream against its key, and after the nearest neighbors of each other's key."""
    loss, topk = crossclr_before(a), int(NEIGHBORS * a["banks"].shape[2])
    of_queries, of_keys = (
        [unit(x) @ bank.clone().detach() for x, bank in zip(a[side], a["banks"], strict=True)]
        for side in ("q", "k")
    )
    for student, own in enumerate(of_queries):
        for teacher, guide in enumerate(of_keys):
            if student != teacher:
                guide, rows = guide.topk(topk, 1)
                p, log_q = F.softmax(guide / 0.05, 1), F.log_softmax(own.gather(1, rows) / 0.1, 1)
                loss = loss + F.kl_div(log_q, p, reduction="batchmean")
    return loss


def cmd_after(a):
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    students, teachers = (list(side) for side in zip(*pairs, strict=True))
    loss, topk = crossclr_after(a), int(NEIGHBORS * a["banks"].shape[2])
    for i, j in zip(students, teachers, strict=True):
        loss = loss + ops.neighbor_kl(a["q"][i], a["k"][j], a["banks"][i], a["banks"][j], 0.1, 0.05, topk)
    return loss


def beside_diagonal(C):
    """The sum of squares of what is off the diagonal, picked out as they do."""
    D = len(C)
    return C.flatten()[:-1].view(D - 1, D + 1)[:, 1:].flatten().pow(2).sum()


def spread_before(z):
    """How much features (N,D) vary too little, five times, and how much together."""
    variance = F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
    z = z - z.mean(0)
    return 5 * variance + beside_diagonal(z.T @ z / (len(z) - 1)) / z.shape[1]


def spread_after(z):
    variance, covariance = ops.variance_covariance(z)
    return 5 * variance + covariance


def umurl_before(a):
    """Each of three streams by itself, and as all three together give it."""
    return sum(map(spread_before, a["wide"]))


def umurl_after(a):
    return sum(map(spread_after, a["wide"]))


def correlation_before(x, y):
    x, y = ((z - z.mean(0)) / z.std(0) for z in (x, y))
    C = x.T @ y / len(x)
    return (C.diagonal() - 1).pow(2).sum() + 5e-3 * beside_diagonal(C)


def usdrl_before(a):
    """Four views by themselves, and every two of them."""
    views = a["wide"][:4]
    pairs = itertools.combinations(views, 2)
    return sum(map(spread_before, views)) + 1e-3 * sum(correlation_before(x, y) for x, y in pairs)


def usdrl_after(a):
    views = a["wide"][:4]
    correlations = (
        ops.cross_correlation(x, y, 5e-3, epsilon=0, correction=1)
        for x, y in itertools.combinations(views, 2)
    )
    return sum(map(spread_after, views)) + 1e-3 * sum(correlations)


def lightly_before(a):
    """NTXent with a bank: both views against the other and the bank, gradients through both."""
    x, y = unit(a["q"][0]), unit(a["q"][1])
    return first(logits_of(x, y, a["banks"][0], 0.5))


def lightly_after(a):
    return ops.moco_loss(a["q"][0], a["q"][1], a["banks"][0], 0.5)


# Name → before, after, and which of the drawn tensors learns.
LOOPS = {
    "CrosSCLR": (crossclr_before, crossclr_after, "q"),
    "AimCLR": (aimclr_before, aimclr_after, "q"),
    "CMD": (cmd_before, cmd_after, "q"),
    "UmURL": (umurl_before, umurl_after, "wide"),
    "USDRL": (usdrl_before, usdrl_after, "wide"),
    "lightly": (lightly_before, lightly_after, "q"),
}


def draw(N, K, D=128, wide=4096):
    """Three features and keys (3,N,D), banks (3,D,K), six wide features (6,N,wide)."""
    q = torch.randn(3, N, D)
    return {
        "q": q,
        "k": q + 2 * torch.randn(3, N, D),
        "banks": F.normalize(torch.randn(3, D, K), dim=1),
        "wide": torch.randn(6, N, wide),
    }


def step(name, way, tensors):
    """A call that goes forward and back: (loss, gradient)."""
    before, after, learned = LOOPS[name]
    loop = {"before": before, "after": after}[way]

    def call():
        leaf = tensors[learned].detach().requires_grad_()
        loss = loop(tensors | {learned: leaf})
        loss.backward()
        return loss.detach(), leaf.grad

    return call

"""The ops in a training loop of your own: three modalities, your encoders, momentum contrast, no model.

python examples/ops_in_your_loop.py
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ikem_fast import augment, ops

MODALITIES = ("joint", "motion", "bone")
N, T, V, M = 16, 50, 25, 2  # clips in a batch, frames, joints, bodies
D, K = 32, 256  # size of a feature, keys in a bank


def encode(encoders, views):
    """views (P,N,3,T,V,M), each through its own encoder → (P,N,D)."""
    return torch.stack([encoder(view) for encoder, view in zip(encoders.values(), views, strict=True)])


def main(steps=20):
    torch.manual_seed(0)
    clips = 0.1 * torch.randn(64, 3, T, V, M).cumsum(2)  # what a dataset would give
    encoders = nn.ModuleDict({name: nn.Sequential(nn.Flatten(), nn.LazyLinear(D)) for name in MODALITIES})
    encode(encoders, ops.derive_modalities(clips[:2], modalities=MODALITIES))  # lazy layers learn their sizes
    followers = copy.deepcopy(encoders).requires_grad_(False)
    bank = F.normalize(torch.randn(len(MODALITIES), K, D), dim=-1)
    optimizer = torch.optim.SGD(encoders.parameters(), lr=0.01, momentum=0.9)

    def view(batch):
        """One augmented view with its modalities, in one pass: (P,N,3,T,V,M)."""
        shear = augment.draw_shear(len(batch), 0.1)
        start = augment.draw_crop_start(len(batch), T)
        return ops.derive_modalities(batch, modalities=MODALITIES, shear=shear, crop_start=start)

    history = []
    for step in range(steps):
        batch = clips[torch.randperm(len(clips))[:N]]
        q = encode(encoders, view(batch))
        with torch.no_grad():
            k = encode(followers, view(batch))
        losses = ops.info_nce(q, k, bank) + ops.cross_modal_contrast(q, k, bank)  # (P,)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        with torch.no_grad():
            for follower, leader in zip(followers.parameters(), encoders.parameters(), strict=True):
                follower.lerp_(leader, 0.01)
            rows = (step * N + torch.arange(N)) % K
            bank[:, rows] = F.normalize(k, dim=-1)
        history.append(losses.sum().item())
    print(f"sum of the losses: {history[0]:.2f} at first, {history[-1]:.2f} after {steps} steps")
    similarity, row = ops.nearest_neighbors(encode(encoders, view(clips[:2])), bank, topk=1)
    print(f"nearest key of the first clip's joints: row {row[0, 0, 0]}, cosine {similarity[0, 0, 0]:.2f}")
    return history


if __name__ == "__main__":
    main()

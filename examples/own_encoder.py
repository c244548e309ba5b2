"""An encoder of your own in place of ST-GCN: any module (N,C,T,V,M) → (output (N,D), feature (N,H)).

python examples/own_encoder.py
"""

import torch
from torch import nn

from ikem_fast.nn import IKEM

FEATURE, HIDDEN, JOINTS = 32, 64, 25


class Convolutional(nn.Module):
    """Two convolutions over time, with the joints as channels, and the head that contrasts."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(3 * JOINTS, HIDDEN, 5, stride=2, padding=2),
            nn.BatchNorm1d(HIDDEN),
            nn.ReLU(),
            nn.Conv1d(HIDDEN, HIDDEN, 5, stride=2, padding=2),
        )
        self.head = nn.Linear(HIDDEN, FEATURE)

    def forward(self, x):
        N, C, T, V, M = x.shape
        bodies = x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T)
        feature = self.body(bodies).mean(-1).view(N, M, HIDDEN).mean(1)  # pooled over time and bodies
        return self.head(feature), feature


def main(steps=10):
    torch.manual_seed(0)
    clips = 0.1 * torch.randn(32, 3, 50, JOINTS, 2).cumsum(2)
    frames = torch.full((len(clips),), 90)  # of each clip before it was resampled to 50
    model = IKEM(encoder=Convolutional, feature_dim=FEATURE, hidden_dim=HIDDEN, queue_size=128)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for step in range(steps):
        exchange = step >= steps // 2  # phase 2
        losses = model(clips, clips, frames, exchange=exchange)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        print(f"step {step + 1}, phase {1 + exchange}: {losses.sum().item():.2f}")
    return model


if __name__ == "__main__":
    main()

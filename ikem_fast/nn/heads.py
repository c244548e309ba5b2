"""What stands on an encoder's pooled feature."""

from torch import nn


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Make the head of the published code: Linear → ReLU → Linear, (N,inputs) → (N,outputs)."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

"""What stands on an encoder's pooled feature."""

from torch import nn

HIDDEN_DIM = 256  # as published


def projection(inputs: int, outputs: int, hidden_dim: int | None = None) -> nn.Sequential:
    """Make the head that contrasts: `two_layers`, hidden as wide as the feature, up to a limit.

    Args:
        inputs: size of the feature.
        outputs: size of what is contrasted.
        hidden_dim: the encoder's width where the user chose it, which raises the limit of 256: features that
            are put together from parts are long, and a square matrix of them would be most of the model.
    """
    return two_layers(inputs, min(inputs, max(HIDDEN_DIM, hidden_dim or 0)), outputs)


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Make the head of the published code: Linear → ReLU → Linear, (N,inputs) → (N,outputs)."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

"""What stands on an encoder's pooled feature."""

from torch import nn

HIDDEN_DIM = 256  # as published
HEADS = ("published", "normalized")


def projection(
    inputs: int, outputs: int, hidden_dim: int | None = None, head: str = "published"
) -> nn.Sequential:
    """Make the head that contrasts: `two_layers`, hidden as wide as the feature, up to a limit.

    Args:
        inputs: size of the feature.
        outputs: size of what is contrasted.
        hidden_dim: the encoder's width where the user chose it, which raises the limit: features that are
            put together from parts are long, and a square matrix of them would be most of the model.
        head: of `HEADS`; the limit is 256 for the published one and 512 for the normalized.
    """
    limit = HIDDEN_DIM if head == "published" else 2 * HIDDEN_DIM
    return two_layers(inputs, min(inputs, max(limit, hidden_dim or 0)), outputs, head)


def two_layers(inputs: int, hidden: int, outputs: int, head: str = "published") -> nn.Sequential:
    """Make a head (N,inputs) → (N,outputs).

    The head of the published code is Linear → ReLU → Linear; the normalized one has a batch normalization
    ahead of the ReLU, as MoCo v3 and SimCLR have it: short trainings learn far more with it.
    """
    between = [] if head == "published" else [nn.BatchNorm1d(hidden)]
    return nn.Sequential(nn.Linear(inputs, hidden), *between, nn.ReLU(), nn.Linear(hidden, outputs))

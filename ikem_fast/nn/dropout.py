"""Dropout as a module of encoders."""

from torch import Tensor, nn

from ikem_fast import ops


class Dropout(nn.Dropout):
    """Zero the elements that `torch.nn.Dropout` zeroes, faster on a CPU; see `ops.dropout`.

    Example:
        Dropout(0.1)(torch.ones(4, 256))
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map x of any shape to a tensor of that shape."""
        return ops.dropout(input, self.p, self.training, self.inplace)

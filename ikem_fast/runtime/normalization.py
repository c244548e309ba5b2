"""Batch normalization over the batches of all processes, on any backend."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from ikem_fast.runtime.processes import Processes


def synchronize_normalization(model: nn.Module, processes: Processes) -> None:
    """Let every batch normalization in `model` take its statistics from the batches of all processes."""
    if processes.size == 1:
        return
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, SynchronizedBatchNorm(module, processes))


class SynchronizedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization over the batches of all processes, on any backend.

    torch's own SyncBatchNorm refuses CPUs. Takes the place of `original` with its parameters and buffers.
    """

    def __init__(self, original, processes):
        super().__init__(original.num_features, original.eps, original.momentum)
        for name, tensor in (*original.named_parameters(), *original.named_buffers()):
            setattr(self, name, tensor)
        self.processes = processes

    def _check_input_dim(self, input):
        pass

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        dims = [d for d in range(x.dim()) if d != 1]
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(values, dims, correction=0)
        count = values.new_full((1,), values.numel() // values.shape[1])
        rank, size = self.processes.rank, self.processes.size
        every = _Sum.apply(F.pad(torch.cat([mean, var, count])[None], (0, 0, rank, size - 1 - rank)))
        means, variances, counts = every.split([len(mean), len(var), 1], 1)
        share = counts / counts.sum()
        mean = (share * means).sum(0)
        var = (share * (variances + (means - mean) ** 2)).sum(0)
        with torch.no_grad():
            total = counts.sum()
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * total / (total - 1), self.momentum)
        shape = [1, -1] + [1] * (x.dim() - 2)
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return (values * scale.view(shape) + shift.view(shape)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient, since every process's loss counts."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient

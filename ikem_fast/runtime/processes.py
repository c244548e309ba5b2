"""Many processes that train one model, one a GPU (or on CPUs), as torchrun starts them.

Every process holds the whole model and computes its share of each batch. What they exchange in a step: the
keys, which enter every process's bank in the same order, and the sum of their gradients.
"""

import contextlib
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from ikem_fast.data.loader import divide
from ikem_fast.errors import InputError
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.device import choose_device


@contextlib.contextmanager
def joined(device):
    """`Processes` of this run: those that torchrun started, or this one alone.

    Args:
        device: a `device` setting; "auto" and "cuda" give each process of a machine a GPU of its own.

    Raises InputError for a device that cannot be used.
    """
    alone = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
    rank, size, local_rank = (int(os.environ.get(name, value)) for name, value in alone.items())
    device = choose_device(device, local_rank)
    with freed_memory_kept(device):
        yield from _joined(rank, size, device)


def _joined(rank, size, device):
    if size == 1:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        yield Processes(rank, size, device)
    finally:
        dist.destroy_process_group()


@dataclass
class Processes:
    """The processes of a run, seen from one of them; alone, nothing is exchanged.

    rank, size: this one is `rank` of `size`.
    device: that this one computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self):
        """Whether this one logs and writes."""
        return self.rank == 0

    def share(self, clips):
        """This process's `Share` of a batch of `clips`."""
        return divide(clips, self.size)[self.rank]

    def of_first(self, work):
        """The result of work() in the first process, for all; where it raises InputError, all do."""
        if self.size == 1:
            return work()
        outcome = [None, None]
        if self.first:
            try:
                outcome[0] = work()
            except InputError as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, device=self.device)
        result, error = outcome
        if error is not None:
            raise error
        return result

    def equalise(self, model):
        """Give every process the first one's parameters and buffers."""
        if self.size == 1:
            return
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                sent = tensor.contiguous()
                dist.broadcast(sent, src=0)
                tensor.copy_(sent)

    def gather_keys(self, keys, clips):
        """Keys (P,n,D) of this process's share of a batch of `clips` → (P,clips,D) of all, in rank order.

        Shares may differ in size: all are sent at the largest's, and what was added is cut off. The sizes
        follow from `clips`, so that nobody waits to learn them.
        """
        if self.size == 1:
            return keys
        counts = [share.keys for share in divide(clips, self.size)]
        padded = keys.new_zeros(keys.shape[0], max(counts), keys.shape[2])
        padded[:, : counts[self.rank]] = keys[:, : counts[self.rank]]
        every = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(every, padded)
        return torch.cat([part[:, :count] for part, count in zip(every, counts, strict=True)], 1)

    def add_gradients(self, parameters):
        """Replace every gradient by its sum over the processes: one message for all of them."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(
            gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]
        )

    def add(self, tensor):
        """Replace a tensor by its sum over the processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def average_statistics(self, model):
        """Replace the running statistics of every normalisation by their mean over the processes.

        Each has seen its own clips only; training does not read them, so once an epoch will do.
        """
        if self.size == 1:
            return
        statistics = [
            statistic
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for statistic in (module.running_mean, module.running_var)
        ]
        if statistics:
            flat = torch.cat(statistics)
            dist.all_reduce(flat)
            torch._foreach_copy_(statistics, flat.div_(self.size).split([len(s) for s in statistics]))


def synchronise_normalisation(model, processes):
    """Let every batch normalisation in `model` take its statistics from the batches of all processes."""
    if processes.size == 1:
        return
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, SynchronisedBatchNorm(module, processes))


class SynchronisedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all processes, on any backend.

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

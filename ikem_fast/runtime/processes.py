"""Many processes that train one model, one a GPU (or on CPUs), as torchrun starts them.

Every process holds the whole model and computes its share of each batch. What they exchange in a step: rows
that all of them must have in the same order (the keys of a memory bank), and the sum of their gradients.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from ikem_fast.errors import InputError, printable
from ikem_fast.runtime.device import choose_device
from ikem_fast.runtime.meeting import meet
from ikem_fast.runtime.pulse import Pulse, is_about_others
from ikem_fast.runtime.shares import Share, divide

Result = TypeVar("Result")

PATIENCE = 300.0  # seconds that a process waits for a word from another


@contextlib.contextmanager
def joined(device: str, patience: float = PATIENCE) -> "Iterator[Processes]":
    """Join this run's `Processes`: those that torchrun started, or this one alone.

    Args:
        device: a `device` setting; "auto" and "cuda" give each process of a machine a GPU of its own.
        patience: seconds after which one that does not answer ends the others.

    Raises InputError for a device that cannot be used; and, out of the block, where another process died or
    does not answer, with its number.

    Example:
        with joined("auto") as processes:
            model.to(processes.device)
    """
    alone = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
    rank, size, local_rank = (int(os.environ.get(name, value)) for name, value in alone.items())
    chosen = choose_device(device, local_rank)
    if size == 1:
        yield Processes(0, 1, chosen)
        return
    timeout = timedelta(seconds=patience)
    try:
        store = meet(next(dist.rendezvous("env://", rank, size, timeout=timeout))[0], rank, size, timeout)
        own = {"store": store, "rank": rank, "world_size": size, "timeout": timeout}
        if chosen.type == "cuda":
            dist.init_process_group("nccl", device_id=chosen, **own)
            host = dist.new_group(backend="gloo", timeout=timeout)
        else:
            dist.init_process_group("gloo", **own)
            host = dist.group.WORLD
    except RuntimeError as error:
        if not is_about_others(error):
            raise
        raise InputError(
            f"process {rank}: expected to reach {size - 1} others, found: {printable(error)}; see that all "
            "were started, and start again with --resume auto"
        ) from error
    pulse = Pulse(store, rank, size, patience)
    try:
        with pulse:
            yield Processes(rank, size, chosen, host, pulse)
    except RuntimeError as error:
        if not is_about_others(error):
            raise
        raise InputError(pulse.diagnosis()) from error
    finally:
        dist.destroy_process_group()


@dataclass
class Processes:
    """The processes of a run, seen from one of them; alone, nothing is exchanged.

    rank, size: this one is `rank` of `size`.
    device: that this one computes on.
    host: the group that they talk in without waiting for a device.
    pulse: tells who died, when one did.
    """

    rank: int
    size: int
    device: torch.device
    host: Any = None
    pulse: Pulse | None = None

    @property
    def first(self) -> bool:
        """Tell whether this one logs and writes."""
        return self.rank == 0

    def share(self, clips: int) -> Share:
        """Return this process's `Share` of a batch of `clips`."""
        return divide(clips, self.size)[self.rank]

    def of_first(self, work: Callable[[], Result]) -> Result:
        """Return the result of work() in the first process, in all; where it raises InputError, all do."""
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
        if error is None:
            return result
        try:
            raise error
        finally:  # an error that its own frame refers to would keep every frame above alive, with the model
            del outcome, error

    def most(self, number: int, step: int) -> int:
        """Return the largest of the processes' numbers, ahead of step `step`; no device is waited for.

        Raises InputError where the launcher of the processes is gone.
        """
        if self.size == 1:
            return number
        if self.pulse is not None:
            self.pulse.follow(step)
        largest = torch.tensor(number)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.host)
        return int(largest)

    def require_same(self, what: Mapping[str, Any]) -> None:
        """Raise InputError, in all, where one does not see what the first sees, such as another dataset.

        Args:
            what: name → a plain value.
        """
        if self.size == 1:
            return
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, dict(what), group=self.host)
        for rank, other in enumerate(every):
            for name, value in every[0].items():
                if other.get(name) != value:
                    raise InputError(
                        f"process {rank}: expected what process 0 has, {name} {printable(repr(value), 100)}, "
                        f"found {printable(repr(other.get(name)), 100)}; start all with the same settings "
                        "and data"
                    )

    def equalize(self, model: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.size == 1:
            return
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                sent = tensor.contiguous()
                dist.broadcast(sent, src=0)
                tensor.copy_(sent)

    def gather(self, rows: torch.Tensor, clips: int) -> torch.Tensor:
        """Gather rows (P,n,D), one a clip of this share of `clips`, into (P,clips,D) of all, in order.

        Shares may differ in size: all are sent at the largest's, and what was added is cut off. The sizes
        follow from `clips`, so that nobody waits to learn them.
        """
        if self.size == 1:
            return rows
        counts = [share.own for share in divide(clips, self.size)]
        padded = rows.new_zeros(rows.shape[0], max(counts), rows.shape[2])
        padded[:, : counts[self.rank]] = rows[:, : counts[self.rank]]
        every = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(every, padded)
        return torch.cat([part[:, :count] for part, count in zip(every, counts, strict=True)], 1)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
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

    def add(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by its sum over the processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def average_statistics(self, model: nn.Module) -> None:
        """Replace the running statistics of every normalization by their mean over the processes.

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

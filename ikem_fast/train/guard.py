"""What keeps a run from going on with numbers that are not finite: steps are watched, bad ones named."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ikem_fast.data import Split
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError, printable
from ikem_fast.runtime.processes import Processes
from ikem_fast.train.budget import Progress

NAME = "nonfinite.jsonl"
EVERY = 32  # steps between two looks where a look waits for the device
IN_A_ROW = 10  # bad steps that end a run which passes over them
NAMED = 5  # clips that a message names; the file has all


class Guard:
    """Watches the gradient of each step, and names the clips of those that gave one that is not finite.

    No parameter is changed by such a step. What else it changed (keys in the bank, statistics of
    normalizations) is put back where bad steps are passed over; otherwise the run ends, and its last
    checkpoint stays.

    Args:
        out: the run's folder; `nonfinite.jsonl` there lists the bad steps with the names of their clips.
        skip: whether bad steps are passed over.
        split, loader: what is trained on.
        processes: those that train.
    """

    def __init__(
        self,
        out: Path,
        skip: bool,
        split: Split,
        loader: BatchLoader,
        processes: Processes,
    ) -> None:
        self.out, self.skip, self.split, self.loader = out, skip, split, loader
        self.processes = processes
        self.watched: list[tuple[Progress, torch.Tensor]] = []
        self.row = 0  # bad steps up to now, one behind the other

    def watch(self, at: Progress, norm: torch.Tensor) -> None:
        """Take note of the norm of a step's gradient, and look at it now and then.

        Raises InputError for one that is not finite; where they are passed over, only for many in a row.
        """
        self.watched.append((at, norm))
        if self.processes.device.type == "cpu" or len(self.watched) >= EVERY:
            self.look()

    def look(self) -> None:
        """Look at what was not looked at yet; see `watch`."""
        watched, self.watched = self.watched, []
        if not watched:
            return
        for (at, _), good in zip(
            watched, torch.stack([n for _, n in watched]).isfinite().tolist(), strict=True
        ):
            self.row = 0 if good else self.row + 1
            if not good:
                self._report(at)

    def _report(self, at):
        places = self.loader.places_of_all(at.epoch, at.batch)
        damaged = [place for place in places if not np.isfinite(self.split.clips[place]).all()]
        names = [str(self.split.names[place]) for place in damaged or places]
        if self.processes.first:
            self.out.mkdir(parents=True, exist_ok=True)
            record = {"step": at.steps + 1, "epoch": at.epoch, "damaged": bool(damaged), "clips": names}
            with (self.out / NAME).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if self.skip and self.row < IN_A_ROW:
            return
        shown = ", ".join(printable(name, 80) for name in names[:NAMED]) + (" …" if names[NAMED:] else "")
        what = "coordinates that are not finite in" if damaged else "a gradient that is not finite from"
        in_a_row = f", the last of {self.row} such steps in a row" if self.row > 1 else ""
        raise InputError(
            f"{self.out}: expected finite numbers, found {what} {shown} in step {at.steps + 1}{in_a_row}; "
            f"the last checkpoint is kept, and {NAME} has the clips: "
            + ("prepare the dataset anew without them" if damaged else "begin again with a smaller --lr")
            + (", or pass over such steps with --nonfinite skip" if not self.skip else "")
        )


class Undo:
    """Puts back the buffers of a model (the bank, statistics) where a step was bad; on the device, unseen.

    Args:
        model: whose buffers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.buffers = list(model.buffers())
        self.kept = [buffer.clone() for buffer in self.buffers]

    def keep(self) -> None:
        """Copy them, ahead of a step."""
        torch._foreach_copy_(self.kept, self.buffers)

    def back(self, bad: torch.Tensor) -> None:
        """Put the copies back where `bad`, a tensor () on the device, is true."""
        for buffer, kept in zip(self.buffers, self.kept, strict=True):
            buffer.copy_(torch.where(bad, kept, buffer))


def gradient_norm(parameters: Iterator[nn.Parameter] | list[nn.Parameter]) -> torch.Tensor:
    """Compute the 2-norm of all gradients together: float32 () on the device, which is not waited for.

    Example:
        norm = gradient_norm(list(model.parameters()))
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).float())

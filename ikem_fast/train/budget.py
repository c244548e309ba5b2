"""How far a run is and when it ends: epochs, steps and minutes as one share of a budget."""

import time
from dataclasses import dataclass

from ikem_fast.runtime.processes import Processes

CLOCK = 16  # steps between two looks at the first process's clock, where several have to agree on it


@dataclass(frozen=True)
class Progress:
    """Where a run stands ahead of a step.

    steps: done so far.
    epoch: of the step to come, from 1.
    batch: that it takes of the epoch, from 0.
    share: of the budget that is used in the middle of the step, 0 … 1.
    over: whether the budget is used up, and there is no step to come.
    """

    steps: int
    epoch: int
    batch: int
    share: float
    over: bool = False

    def reached(self, when: float | None) -> bool:
        """Tell whether a run is there: at an epoch (1, 2, …), or at a share of its budget (below 1).

        Example:
            Progress(steps=70, epoch=8, batch=0, share=0.5).reached(8)
        """
        return when is not None and (self.share if when < 1 else self.epoch) >= when


class Budget:
    """Counts steps and seconds of a run, those before it was gone on with too.

    Args:
        steps_an_epoch: batches of an epoch.
        total: steps after which the run ends, minutes: of training after which it ends, whichever comes
            first; None for one that does not end it.
        processes: those that train; the clock is the first one's.
        steps, seconds: used before.

    Example:
        budget = Budget(len(loader), config.total_steps(len(loader)), config.max_minutes, processes)
        while not budget.progress().over:
            step(...)
            budget.count()
    """

    def __init__(
        self,
        steps_an_epoch: int,
        total: int | None,
        minutes: float | None,
        processes: Processes,
        steps: int = 0,
        seconds: float = 0.0,
    ) -> None:
        self.steps_an_epoch = steps_an_epoch
        self.total = total
        self.limit = None if minutes is None else 60 * minutes
        self.processes = processes
        self.steps = steps
        self.began = time.monotonic() - seconds
        self.agreed = seconds

    @property
    def seconds(self) -> float:
        """Tell the time used so far, by this process's clock."""
        return time.monotonic() - self.began

    def count(self) -> None:
        """Count a step as done."""
        self.steps += 1

    def progress(self) -> Progress:
        """Tell where the run stands; every process is told the same."""
        epoch, batch = divmod(self.steps, self.steps_an_epoch)
        share, over = 0.0, False
        if self.total is not None:
            share, over = (self.steps + 0.5) / self.total, self.steps >= self.total
        if self.limit is not None:
            if self.processes.size == 1 or self.steps % CLOCK == 0:
                self.agreed = self.processes.of_first(lambda: self.seconds)
            share, over = max(share, self.agreed / self.limit), over or self.agreed >= self.limit
        return Progress(self.steps, epoch + 1, batch, min(share, 1.0), over)

"""How a batch is shared between the processes that compute it."""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Share:
    """What one of several processes computes of a batch.

    clips: its places in the batch, a slice.
    weight: of the mean over its clips in the mean over the batch.
    own: how many of its clips, from the first on, count as its own where each clip counts once.
    """

    clips: slice
    weight: float
    own: int


def divide(clips: int, processes: int) -> list[Share]:
    """Divide a batch of `clips` into the `Share` of each process; every clip is some process's own, in order.

    Shares are consecutive and differ by one clip at most. A batch of fewer clips than processes (the last of
    an epoch may be) is computed by all of them, at an equal weight, so that none is left without a clip.

    Example:
        divide(7, 2)  # places 0 … 3 at weight 4/7, and 4 … 6 at weight 3/7
    """
    if clips < processes:
        return [Share(slice(0, clips), 1 / processes, 0 if rank else clips) for rank in range(processes)]
    ends = [-(-clips * rank // processes) for rank in range(processes + 1)]
    return [Share(slice(start, end), (end - start) / clips, end - start) for start, end in pairwise(ends)]

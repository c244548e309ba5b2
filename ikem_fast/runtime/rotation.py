"""The checkpoints of a run: which are kept beside the newest, and which one to go on from."""

from pathlib import Path
from typing import Any

from ikem_fast.errors import InputError
from ikem_fast.files import give_name
from ikem_fast.runtime.checkpoint import NAME, earlier, load_checkpoint, step_of

BEST = "checkpoint-best.pt"


class Rotation:
    """Makes room for the next checkpoint of a folder, and keeps some of those before it.

    The newest is `checkpoint.pt`; one that it replaced is `checkpoint-00000120.pt`, by its step.

    Args:
        folder: of the run.
        last: how many are kept, with the newest.
        every: steps; the first checkpoint at or behind each multiple of it is kept for good.

    Example:
        rotation = Rotation(out, last=2, every=None, newest=0)
        rotation.make_room(120)
        save_checkpoint(out / NAME, step=120, ...)
    """

    def __init__(self, folder: Path, *, last: int, every: int | None, newest: int) -> None:
        """newest: the step of the checkpoint that is there, 0 where none is to be kept."""
        self.folder, self.last, self.every, self.newest = folder, last, every, newest

    def make_room(self, step: int) -> None:
        """Keep the newest under the name of its step, ahead of one of `step`, and delete what is too much."""
        newest = self.folder / NAME
        if self.newest and newest.exists() and (self.last > 1 or self._for_good(self.newest)):
            give_name(newest, self.folder / f"checkpoint-{self.newest:08d}.pt")
        self.newest = step

    def tidy(self) -> None:
        """Delete what is not kept, now that the newest is there."""
        rotated = [path for path in earlier(self.folder) if step_of(path) < self.newest]
        for path in rotated[self.last - 1 :]:
            if not self._for_good(step_of(path)):
                path.unlink(missing_ok=True)

    def _for_good(self, step):
        """Whether it is the first at or behind a multiple of `every`, of those that are there."""
        if self.every is None or step < self.every:
            return False
        before = [step_of(path) for path in earlier(self.folder) if step_of(path) < step]
        return not before or max(before) // self.every < step // self.every


def newest_whole(folder: Path, kinds: tuple[str, ...]) -> tuple[Path, dict[str, Any], list[str]] | None:
    """Find the checkpoint to go on from: the newest that is whole.

    Args:
        folder: of the run.
        kinds: see `load_checkpoint`.

    Returns:
        Its path, what it holds, and what is wrong with each that is newer; None where there is no checkpoint.

    Raises InputError where there are some and none is whole.
    """
    wrong: list[str] = []
    for path in (folder / NAME, *earlier(folder)):
        if path.exists():
            try:
                return path, load_checkpoint(path, kinds), wrong
            except InputError as error:
                wrong.append(str(error))
    if wrong:
        raise InputError("; ".join(wrong) + "; no earlier checkpoint is whole")
    return None

"""What a run says where memory or the disk runs out under it."""

import contextlib
from collections.abc import Iterator

import torch

from ikem_fast.errors import InputError
from ikem_fast.train.config import TrainConfig


@contextlib.contextmanager
def naming_what_ran_out(config: TrainConfig) -> Iterator[None]:
    """Say which settings to change where memory, or the disk under `out`, does not suffice.

    Raises InputError, or OSError with what to do, in place of what torch, Python and the system raise.

    Example:
        with naming_what_ran_out(config):
            step(...)
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        text = " ".join(str(error).split())[:300]
        less = max(config.batch_size // 2, 1)
        raise InputError(
            f"expected memory for batches of {config.batch_size} clips, found too little ({text}); try "
            f"--batch-size {less} --lr-scaling linear, --amp true, or a smaller --model.queue-size"
        ) from None
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}; what was written before is whole, go on with --resume auto",
            str(error.filename or config.out),
        ) from error


def _is_memory(error):
    words = ("can't allocate memory", "out of memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        word in str(error).lower() for word in words
    )

"""What a run says where memory or the disk runs out under it."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from ikem_fast.errors import InputError
from ikem_fast.files import FULL, amount, free_space
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
        raise InputError(
            f"expected memory for batches of {config.batch_size} clips, found too little ({text}); "
            f"{_advice(config, asked_for(text), free_memory())}"
        ) from None
    except OSError as error:
        free = f" ({amount(free_space(config.out))} are free)" if error.errno in FULL else ""
        raise OSError(
            error.errno,
            f"{error.strerror or error}{free}; what was written before is whole, go on with --resume auto",
            str(error.filename or config.out),
        ) from error


def asked_for(text: str) -> int | None:
    """Read how many bytes were asked for at once out of torch's message; None where it does not say.

    Example:
        asked_for("Tried to allocate 2.00 GiB.")  # 2147483648
    """
    found = re.search(r"[Tt]ried to allocate ([\d.]+) (bytes|[KMG]iB)", text)
    units = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    return int(float(found[1]) * units[found[2]]) if found else None


def free_memory() -> int | None:
    """Return the bytes free, of the GPU where one is used, else of the machine; None if not known."""
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    with contextlib.suppress(OSError, IndexError):
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(text.partition("MemAvailable:")[2].split()[0])
    return None


def _advice(config, asked, free):
    """Which settings to lower, and to what: a step's memory goes with its clips, a bank's with its keys."""
    share = 0.5
    if asked and free is not None:
        share = min(share, free / (2 * asked))  # twice: more than this one thing is asked for in a step
    less = max(int(config.batch_size * share), 1)
    part = f"1/{round(config.batch_size / less)}" if less < config.batch_size else "no less"
    advice = [
        f"--batch-size {less} --lr-scaling linear ({part} of a step's memory)",
        "--amp true (about half)",
    ]
    model = getattr(config, "model", None)
    if model is not None:
        of_a_key = 4 * model.feature_dim * len(model.modalities)
        keys = max(int(model.queue_size * share), 1)
        megabytes = [f"{count * of_a_key / 1e6:.3g} MB" for count in (model.queue_size, keys)]
        advice.append(f"--model.queue-size {keys} (a bank of {megabytes[1]} in place of {megabytes[0]})")
    known = "" if free is None else f"{free / 1e9:.3g} GB are free; "
    return f"{known}try {', or '.join(advice)}"


def _is_memory(error):
    words = ("can't allocate memory", "out of memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        word in str(error).lower() for word in words
    )

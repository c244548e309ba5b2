"""Who computes a call: one answer to whether a fused implementation can, in one wording."""

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from ikem_fast.ops._autograd import transform_at_work

Implementation = Literal["auto", "fused", "reference"]
IMPLEMENTATIONS: tuple[str, ...] = get_args(Implementation)
OLDEST_GPU = (8, 0)  # compute capability


@dataclass(frozen=True)
class Support:
    """Whether an implementation can compute a call: true where it can; else `problem` says why not.

    The problem names what is in the way (the argument, device, dtype or missing part) and what was found.
    """

    problem: str | None = None

    def __bool__(self) -> bool:
        return self.problem is None


YES = Support()


def support_under_transforms() -> Support:
    """Say whether a fused implementation may compute here, as far as transforms of functions go."""
    transform = None if torch.compiler.is_compiling() else transform_at_work()
    return Support(f"the kernels know nothing of {transform}") if transform else YES


def takes_fused(impl: str, support: Support) -> bool:
    """Decide whether the fused implementation computes a call, or the reference.

    Args:
        impl: the caller's "auto", "fused" or "reference".
        support: `Support` of the fused implementation for this call.

    Raises:
        RuntimeError: impl="fused" and there is none; the message has the reason.
    """
    possible = support.problem is None  # torch 2.11 compiles no bool() of a dataclass
    if impl == "fused" and not possible:
        raise RuntimeError(
            f"impl='fused' is not possible here, 'auto' and 'reference' are: {support.problem}"
        )
    return impl != "reference" and possible


@functools.cache
def support_on_gpu(device: torch.device) -> Support:
    """Say whether a GPU is one that the Triton kernels are made for (torch calls AMD's "cuda", too).

    They want NVIDIA's matrix instructions with bfloat16 and asynchronous copies, which there are from compute
    capability 8.0 on, and the shared memory of such a card.
    """
    if torch.version.hip:
        return Support(
            f"the kernels are made for NVIDIA GPUs, and this torch is built for ROCm {torch.version.hip}"
        )
    found = torch.cuda.get_device_capability(device)
    if found < OLDEST_GPU:
        wanted, has = (".".join(map(str, numbers)) for numbers in (OLDEST_GPU, found))
        return Support(f"the kernels want compute capability {wanted} or newer, and {device} has {has}")
    return YES

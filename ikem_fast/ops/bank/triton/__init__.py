"""The operators of the bank as Triton kernels, for CUDA tensors (and CPU tensors under the interpreter).

A few simple kernels over chunks of the bank, so that what is between them stays in the second-level cache:
`products` multiplies matrices (similarities, weighted keys), `pairs` works on similarities two at a time,
`rows` begins and ends each row; `losses` launches them, `plan` says in which tiles and chunks.
"""

from ikem_fast.ops._support import YES, Support
from ikem_fast.ops._triton import INTERPRETED
from ikem_fast.ops.bank.triton import losses
from ikem_fast.ops.bank.triton.plan import MAX_DIM, MAX_MODALITIES, MAX_TOPK

__all__ = ["INTERPRETED", "register", "support_for"]


def register(library):
    """Have the kernels compute the operators that `library` defines.

    Under the interpreter they take the place of the compiled library's on a CPU.
    """
    for launcher in (
        losses.attention,
        losses.relations,
        losses.relations_backward,
        losses.nearest,
        losses.softmax,
    ):
        library.impl(launcher.__name__, launcher, "CUDA")
        if INTERPRETED:
            library.impl(launcher.__name__, launcher, "CPU", allow_override=True)


def support_for(queue, topk):
    """The `Support` of the kernels for this bank (P,K,D) and topk."""
    P, _, D = queue.shape
    if P > MAX_MODALITIES:
        return Support(f"the kernels take up to {MAX_MODALITIES} modalities and there are {P}")
    if D > MAX_DIM:
        return Support(f"the kernels take features of up to {MAX_DIM} numbers a modality and these have {D}")
    if topk > MAX_TOPK:
        return Support(f"the kernels find up to {MAX_TOPK} nearest keys and topk is {topk}")
    return YES

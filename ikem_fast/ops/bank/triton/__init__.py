"""The operators of the bank as Triton kernels, for CUDA tensors (and CPU tensors under the interpreter).

The similarities of features and bank stay on chip. `attention` holds the kernels of `info_nce`,
`implicit_exchange` and `ops.contrast`, `relations` and `relations_backward` those of
`cross_modal_contrast` and `relational_distillation`, `neighbors` those that find nearest keys; `tiles` what
they share, `launch` how they are launched.
"""

from ikem_fast.ops._support import YES, Support
from ikem_fast.ops.bank.triton import attention, neighbors, relations, relations_backward
from ikem_fast.ops.bank.triton.launch import INTERPRETED, MAX_DIM, MAX_MODALITIES, MAX_TOPK

__all__ = ["INTERPRETED", "register", "support_for"]


def register(library):
    """Have the kernels compute the operators that `library` defines.

    Under the interpreter they take the place of the compiled library's on a CPU.
    """
    launchers = {
        "attention": attention.attention,
        "softmax": attention.softmax,
        "relations": relations.relations,
        "relations_backward": relations_backward.relations_backward,
        "nearest": neighbors.nearest,
    }
    for name, launcher in launchers.items():
        library.impl(name, launcher, "CUDA")
        if INTERPRETED:
            library.impl(name, launcher, "CPU", allow_override=True)


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

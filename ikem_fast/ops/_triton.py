"""What the Triton kernels of several operators share: matrix products, and in which precision."""

import os

import torch
import triton
import triton.language as tl

OLDEST = (3, 6)  # comes with the oldest torch that is taken; with older ones nothing was tried
if tuple(map(int, triton.__version__.split(".")[:2])) < OLDEST:
    raise ImportError(f"expected Triton 3.6 or newer, found {triton.__version__}")

# With TRITON_INTERPRET=1 kernels run on the CPU, one program after the other, in NumPy.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def precision():
    """How float32 factors are multiplied: in three TF32 products, or in one where torch may do so too.

    AMD's matrix units take float32 as it is.
    """
    if torch.version.hip:
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


@triton.jit
def matmul(a, b, accumulator, FACTORS: tl.constexpr):
    """a @ b + accumulator in float32, in FACTORS.PRECISION.

    FACTORS.WIDEN: the interpreter multiplies bfloat16 as if it were integers.
    """
    if FACTORS.WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, accumulator, input_precision=FACTORS.PRECISION)

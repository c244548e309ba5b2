"""The blocks of an encoder: by kernels between convolutions on a CPU, by Triton kernels on a GPU."""

from ikem_fast.ops.encoder.fused_block import Edges, fused_block
from ikem_fast.ops.encoder.support import by_triton, triton


def fused_blocks(blocks, x, graphs, adjacency):
    """Compute an encoder's blocks one after the other for x (B,T,V,C) → (B,T',V,C').

    Args:
        blocks: `nn.encoders.stgcn.Block`s that `support_for` has said yes to.
        x: float32, bfloat16 or, on a GPU, float16, contiguous; also the dtype of the result.
        graphs: A (K,V,V) float32 of each block, 0 wherever `adjacency` is.
        adjacency: (K,V,V).
    """
    if by_triton(x):
        return fused_together([blocks], x[None], [A[None] for A in graphs]).squeeze(0)
    edges = Edges.of(adjacency)
    for block, A in zip(blocks, graphs, strict=True):
        x = fused_block(block, x, A, edges)
    return x


def fused_together(encoders, x, graphs):
    """Compute the blocks of P encoders, in the same launches of Triton kernels, for x (P,B,T,V,C).

    Args:
        encoders: the blocks of each, that `support_for` and, of several, `support_together` have said yes to.
        x: as in `fused_blocks`, for each encoder.
        graphs: A (P,K,V,V) float32 of each place of a block.
    """
    return triton.fused_blocks(encoders, x, graphs)

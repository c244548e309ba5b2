"""Names for the parts of a training step, as profilers of GPUs (nsys, ncu) show them."""

import contextlib

import torch


def span(name):
    """A context that is the NVTX range `name` on a GPU, and nothing without one.

    The names of a step: augment+derive, query, key, loss, backward, optimiser.
    """
    return torch.cuda.nvtx.range(name) if torch.cuda.is_available() else contextlib.nullcontext()

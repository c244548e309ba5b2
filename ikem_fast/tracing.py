"""Names for the parts of a training step, as profilers show them."""

import torch


def span(name):
    """A context that is the NVTX range `name` on a GPU (nsys, ncu), else a range of torch's own profiler.

    The names of a step: augment+derive, query, key, loss, backward, optimiser.
    """
    if torch.cuda.is_available():
        return torch.cuda.nvtx.range(name)
    return torch.profiler.record_function(name)

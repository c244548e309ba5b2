"""A process that times one way of computing the losses, with any checkout's package (`subjects/busy.py`).

It imports nothing of this checkout that another one's package might lack.
"""

import json
import os
import sys
import time
from pathlib import Path


def work(way, package, cores, N, K):
    """What a `Worker` process does: a step whenever a line comes, and its seconds as a line back."""
    os.sched_setaffinity(0, cores)
    sys.path[:0] = [package, str(Path(__file__).resolve().parents[1])]
    import torch

    import ikem_fast

    assert Path(ikem_fast.__file__).is_relative_to(package), ikem_fast.__file__
    from benchmarks import harness

    torch.set_num_threads(len(cores))
    torch.manual_seed(0)
    tensors = {name: harness.arguments(name, N, K, "cpu", torch.float32) for name in harness.PHASE_2}
    steps = {name: harness.step(way, [name], tensors, True) for name in harness.PHASE_2}
    print(json.dumps([step()[1].norm().item() for step in steps.values()]), flush=True)
    both = harness.step(way, harness.PHASE_2, tensors, True)
    both()
    for _ in sys.stdin:
        start = time.perf_counter()
        both()
        print(json.dumps(time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))

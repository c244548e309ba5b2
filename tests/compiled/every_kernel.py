"""Compile each kernel, once for each set of arguments that may be left out, and print what compiled.

Run by `test_oldest_triton` in a process that has another Triton: `python -m tests.compiled.every_kernel`.
"""

import triton

from benchmarks import predict
from benchmarks.compiled import compiled
from tests.compiled import test_encoder_kernels, test_kernels

LOSSES = "implicit_exchange", "cross_modal_contrast", "relational_distillation", "nearest_neighbors"
BLOCKS = (16, 16, 1, 50), (32, 64, 2, 25), (64, 256, 1, 13)  # identity; convolution; torch's convolution


def main():
    print(triton.__version__)
    launches = [launch for name in LOSSES for launch in test_kernels.noted(name, "H200")]
    launches += [launch for block in BLOCKS for launch in test_encoder_kernels.launched(*block)]
    different = {}
    for launch in launches:
        _, constants, _ = launch.variant
        left_out = tuple(path for path, value in constants.items() if value is None)
        different.setdefault((launch.name, left_out), launch)
    for (name, _), launch in different.items():
        made = compiled(launch, arch=90)
        if name in ("similarities", "weighted_keys"):
            assert made.shared >= predict.in_flight(launch, 90), f"{name} waits for what it loads"
        print(name)


if __name__ == "__main__":
    main()

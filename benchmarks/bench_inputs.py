"""All that docs/performance.md says of augmentation, derivation and preparation, measured anew and put there.

usage: python -m benchmarks.bench_inputs [SKELETONS]

SKELETONS is a folder of .skeleton files; without one, preparation keeps its last figures. Takes some minutes;
the machine should do nothing else. `bench_derive`, `bench_augment` and `bench_prepare` are the parts.
"""

import argparse
import os
from pathlib import Path

from benchmarks import bench_augment, bench_derive, bench_prepare
from benchmarks.harness import ROOT
from benchmarks.publish import publish

RESULTS = ROOT / "benchmarks" / "results"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("skeletons", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    derived = bench_derive.measure_cpu(args.threads, RESULTS)
    publish(bench_derive.NAME, bench_derive.table(derived), [RESULTS / "derive-cpu.png"])
    augmented = bench_augment.measure(args.threads, RESULTS)
    publish(bench_augment.NAME, bench_augment.table(augmented))
    if args.skeletons:
        prepared = bench_prepare.measure_all(args.skeletons, 2000, RESULTS)
        publish(bench_prepare.NAME, bench_prepare.table(prepared))


if __name__ == "__main__":
    main()

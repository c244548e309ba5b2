"""python -m benchmarks: measure subjects, write pages."""

import argparse
import os
import sys
from pathlib import Path

import torch

from benchmarks import show
from benchmarks.publish import publish, results_path
from benchmarks.run import RESULTS, Run
from benchmarks.subject import Settings
from benchmarks.subjects import SUBJECTS
from ikem_fast.errors import InputError


def measure(name, settings, out):
    """Measure a subject, write its results, print its tables."""
    run = Run(settings, results_path(name, settings.device, out))
    SUBJECTS[name].measure(run)
    run.keep()
    print("\n".join([show.where(run.about), "", SUBJECTS[name].headline(run), "", *SUBJECTS[name].show(run)]))


def parse(arguments):
    """The options of a command line, or its usage and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    what = f"what to measure: {', '.join(SUBJECTS)}; or `publish`: write the pages alone"
    parser.add_argument("subjects", nargs="+", choices=[*SUBJECTS, "publish"], metavar="SUBJECT", help=what)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="the method's size alone")
    parser.add_argument("--tiny", action="store_true", help="sizes that show whether it works, not how fast")
    parser.add_argument("--skeletons", type=Path, help="preparation: a folder of .skeleton files")
    parser.add_argument("--against", type=Path, help="busy: another checkout of this package, built")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--publish", action="store_true", help="write docs/performance afterwards")
    return parser.parse_args(arguments)


def main(arguments=None):
    given = parse(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: --device cuda: torch finds no GPU")
    settings = Settings(given.device, given.threads, given.quick, given.tiny, given.skeletons, given.against)
    try:
        for name in given.subjects:
            if name != "publish":
                measure(name, settings, given.out)
    except InputError as e:
        sys.exit(f"error: {e}")
    if given.publish or "publish" in given.subjects:
        publish(given.out)


if __name__ == "__main__":
    main()

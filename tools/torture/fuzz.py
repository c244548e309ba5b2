"""Coverage-guided fuzzing of the readers in Python, by atheris.

    python -m tools.torture.fuzz FAMILY [--seconds N] [--corpus DIR] [--seed N]

A reader is to answer any bytes with what they hold or with one error that says what is wrong, within ten
seconds and a gigabyte. What breaks that is left in the corpus as crash-*, timeout-* or oom-*, and the exit
status is not 0. FAMILY is one of `readers.FAMILIES`.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ikem_fast"]):
    from tools.torture.readers import FAMILIES, answered, every_reader

LIMITS = ("-timeout=10", "-rss_limit_mb=1536", "-malloc_limit_mb=1024", "-max_len=65536")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as scratch:
        readers = every_reader(Path(scratch) / "readers")
        names = FAMILIES[options.family]
        corpus = options.corpus or Path(scratch) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for place, name in enumerate(names):
            for number, sample in enumerate(readers[name].samples):
                (corpus / f"{name}-{number}").write_bytes(bytes([place]) + sample)

        def one(content):
            if content:
                answered(readers[names[content[0] % len(names)]].read, content[1:])

        words = [f"-max_total_time={options.seconds}", f"-artifact_prefix={corpus}/", f"-seed={options.seed}"]
        atheris.Setup([sys.argv[0], *LIMITS, *words, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

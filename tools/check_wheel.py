#!/usr/bin/env python3
"""Build one wheel and try it under several releases of torch, each in an environment of its own.

usage: check_wheel.py [--wheel FILE] [WHERE ...]

WHERE is a release of torch (2.11.0), `newest`, or the Python of an environment that has torch already, which
is left as it is. Without any: the oldest supported release and the newest. Releases are installed by pip with
all that torch needs (gigabytes where it is built for CUDA), into folders that are removed afterwards. The
wheel is built with the Python that runs this script, and its torch.

Exit status: the number of environments in which the wheel did not work.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = "2.11.0"

# What must hold in every environment: the kernels load, and do what the reference does, with gradients.
TRIAL = """
import torch
import ikem_fast
from ikem_fast import augment, ops
from ikem_fast.ops import _library
from torch.library import opcheck

assert _library.LIBRARY, _library.PROBLEM
x, frames = torch.randn(5, 3, 50, 25, 2), torch.randint(1, 200, (5,))
options = {"shear": augment.draw_shear(5), "crop_start": augment.draw_crop_start(5, 50)}
got, want = (ops.derive_modalities(x, frames, **options, impl=i) for i in ("fused", "reference"))
assert (got - want).abs().amax() <= 1e-6 * want.abs().amax(), (got - want).abs().amax()
ops.derive_modalities(x.requires_grad_(), impl="fused").sum().backward()
assert torch.isfinite(x.grad).all()
clips = torch.randn(3, 40, 25, 2), torch.tensor([9, 31])
got, want = (ops.preprocess_clips(*clips, impl=i)[0] for i in ("fused", "reference"))
assert (got - want).abs().amax() <= 1e-6 * want.abs().amax(), (got - want).abs().amax()
layout = ikem_fast.skeleton.get_layout("ntu-rgb+d")
arguments = x, frames, None, None, [1, 2], layout.parents, layout.axis_parents, layout.torso, torch.float32
opcheck(torch.ops.ikem_fast.derive_modalities.default, arguments)
try:
    import ikem_fast._skeleton_io
    reader = "with the C++ reader"
except ImportError as e:
    reader = f"without the C++ reader ({e})"
print(f"works under torch {torch.__version__}, {reader}")
"""


def run(*command, **options):
    return subprocess.run(list(map(str, command)), check=True, **options)


def build_wheel(folder):
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ROOT,
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        folder,
    )
    return next(Path(folder).glob("*.whl"))


def environment_with(release, folder):
    """A Python with that release of torch, in `folder`."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    torch = "torch" if release == "newest" else f"torch=={release}"
    run(python, "-m", "pip", "install", "--quiet", torch, "numpy")
    return python


def works(wheel, python, folder):
    """Whether the wheel, unpacked beside the environment, passes the trial in it."""
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, wheel)
    trial = [python, "-c", TRIAL]
    return subprocess.run(trial, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}).returncode == 0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("where", nargs="*", default=[OLDEST, "newest"])
    parser.add_argument("--wheel", type=Path, help="try this one instead of building one")
    args = parser.parse_args()
    failures = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        wheel = args.wheel or build_wheel(scratch / "wheel")
        print(f"{wheel.name}, {wheel.stat().st_size / 1e6:.2f} MB")
        for i, where in enumerate(args.where):
            print(f"--- {where}", flush=True)
            if Path(where).is_file():
                python = Path(where).absolute()
            else:
                python = environment_with(where, scratch / f"environment{i}")
            if not works(wheel, python, scratch / f"unpacked{i}"):
                failures.append(where)
    print(f"FAILS under {', '.join(failures)}" if failures else "works everywhere it was tried")
    sys.exit(len(failures))


if __name__ == "__main__":
    main()

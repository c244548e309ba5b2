"""Searches for convolutions that crash or compute something else, in processes that may die.

Every case is a convolution that an encoder can meet: kernels over time of length 9 and 1, strides 1 and 2,
few to many channels, in float32 and bfloat16. It runs forward and backward in one of the `ways`:

- package: as ikem_fast.ops.encoder.convolution computes it, on activations with channels last; its own
  kernels where channels are few
- module: as the modules of STGCN do in plain torch, on contiguous activations
- library: torch's convolution_backward with channels last. For 1×1 kernels the package never calls it; it
  is searched to know which versions and processors are affected, and does not count as a failure.

A process that dies names the case that it was at; the next goes on behind it. Results are held against sums
of products in float64. Inputs lie between NaNs, which an access outside them would bring into the result.
Where libc_malloc_debug.so is installed, glibc checks its heap at every call (MALLOC_CHECK_), which sees what
was written outside.

usage: python tools/search_convolutions.py [--quick] [--ways package module library] [--settings NAME …]

Without --settings, all of SETTINGS are gone through: the instruction sets of oneDNN and torch, their
arithmetic, and threads. A setting above what the processor has (AVX512 on one with AVX2) changes nothing.
Exit status: 0, or 1 if a case of "package" or "module" failed.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "as it is": {},
    "oneDNN AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "oneDNN AVX512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "oneDNN AVX512 bfloat16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "float32 as bfloat16": {"DNNL_DEFAULT_FPMATH_MODE": "BF16"},
    "float32 strict": {"DNNL_DEFAULT_FPMATH_MODE": "STRICT"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "torch default": {"ATEN_CPU_CAPABILITY": "default"},
    "torch AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "torch AVX512": {"ATEN_CPU_CAPABILITY": "avx512"},
}
WAYS = ("package", "module", "library")
QUICK = {"channels": (1, 3, 8), "frames": (1, 24, 25), "clips": (6,), "settings": ("as it is",)}
WHOLE = {
    "channels": (1, 2, 3, 4, 5, 7, 8, 11, 12, 15, 16, 17, 24, 32, 48, 64),
    "frames": (1, 2, 7, 24, 25, 50),
    "clips": (1, 2, 16, 33, 256),
    "settings": tuple(SETTINGS),
}
CASES_AT_ONCE = 500
JOINTS = 25
LARGEST = 1 << 22  # numbers of input of a case; larger ones take long and tell nothing new
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}  # of the largest number of a result


@dataclass(frozen=True)
class Case:
    way: str
    dtype: str
    inputs: int
    outputs: int
    length: int
    stride: int
    frames: int
    clips: int


def cases(ways, space):
    """All cases of a space: channels stay or double, as an encoder's blocks have them."""
    widths = [(c, d) for c in space["channels"] for d in (c, 2 * c) if d <= 64]
    every = itertools.product(ways, TOLERANCES, widths, (9, 1), (1, 2), space["frames"], space["clips"])
    found = [
        Case(way, dtype, *width, length, stride, frames, clips)
        for way, dtype, width, length, stride, frames, clips in every
        if width[0] * frames * clips * JOINTS <= LARGEST
    ]
    return [case for case in found if case.way != "library" or case.length == 1]


def search(ways, space):
    """Print what fails under each setting. The number of failures that count."""
    counted = 0
    for name in space["settings"]:
        failures = failures_under(SETTINGS[name], cases(ways, space))
        print(f"{name}: {len(failures)} of {len(cases(ways, space))} cases fail", flush=True)
        for case, reason in failures:
            print(f"    {case}: {reason}")
        counted += sum(case.way != "library" for case, _ in failures)
    return counted


def failures_under(setting, remaining):
    """(case, reason) of those that fail; each process takes some, the next goes on behind one that died."""
    failures = []
    while remaining:
        batch = remaining[:CASES_AT_ONCE]
        done, verdicts = run_in_process(setting, batch)
        failures += [(batch[i], verdict) for i, verdict in enumerate(verdicts) if verdict != "ok"]
        if len(verdicts) < len(batch):
            failures.append((batch[len(verdicts)], f"the process died with status {done}"))
            verdicts.append("died")
        elif done:  # memory was spoiled earlier than it was noticed
            failures.append(
                (batch[-1], f"the process died with status {done} at its end, or in a case before")
            )
        remaining = remaining[len(verdicts) :]
    return failures


def run_in_process(setting, batch):
    """Exit status of a process that computes these cases, and a verdict for each one that it got through."""
    environment = {"OMP_NUM_THREADS": "1", "MALLOC_CHECK_": "3", "PYTHONPATH": str(ROOT)} | setting
    if checker := heap_checker():
        environment["LD_PRELOAD"] = checker
    done = subprocess.run(
        [sys.executable, __file__, "--worker"],
        input=json.dumps([asdict(case) for case in batch]),
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode == 1:  # an exception of Python's is a mistake of this program
        raise RuntimeError(done.stderr)
    return done.returncode, [
        line.removeprefix("case: ") for line in done.stdout.splitlines() if "case: " in line
    ]


def heap_checker():
    """Path of glibc's library that makes MALLOC_CHECK_ work, or None."""
    folders = ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib")
    paths = [Path(folder, "libc_malloc_debug.so.0") for folder in folders]
    return next((str(path) for path in paths if path.exists()), None)


def work():
    """Compute the cases on standard input, a verdict each on standard output."""
    for case in json.load(sys.stdin):
        print(f"case: {verdict_of(Case(**case))}", flush=True)


def verdict_of(case, repeats=3):
    import torch

    torch.manual_seed(0)
    dtype = getattr(torch, case.dtype)
    out_frames = (case.frames - 1) // case.stride + 1
    x = guarded(case.clips, case.frames, JOINTS, case.inputs, dtype=dtype)
    if case.length > 1:
        x.abs_()  # as a ReLU leaves it: the package's own kernel takes its maximum with 0
    grad = guarded(case.clips, out_frames, JOINTS, case.outputs, dtype=dtype)
    weight = guarded(case.outputs, case.inputs, case.length, 1, dtype=dtype)
    expected = exact(x.double(), weight.double(), grad.double(), case.stride)
    for _ in range(repeats):
        got = ALL[case.way](x, weight, grad, case.stride)
        for name, g, e in zip(
            ("result", "gradient in x", "gradient in the weight"), got, expected, strict=True
        ):
            off = ((g.double() - e).abs().max() / e.abs().max()).item()
            if not off <= TOLERANCES[case.dtype]:
                return f"{name} is off by {off:.1e} of its largest number"
    return "ok"


def guarded(*shape, dtype):
    """Random numbers with NaN in front and behind."""
    import torch

    size = torch.Size(shape).numel()
    whole = torch.full((size + 2048,), float("nan"), dtype=dtype)
    whole[1024:-1024] = torch.randn(size)
    return whole[1024:-1024].view(shape)


def exact(x, weight, grad, stride):
    """Result and gradients as sums of products over the taps of the kernel."""
    import torch

    B, T, V, C = x.shape
    length, out_frames = weight.shape[2], grad.shape[1]
    half = (length - 1) // 2
    padded = x.new_zeros(B, T + 2 * half, V, C)
    padded[:, half : half + T] = x
    y, grad_padded, grad_weight = torch.zeros_like(grad), torch.zeros_like(padded), torch.zeros_like(weight)
    for tap in range(length):
        window = slice(tap, tap + stride * (out_frames - 1) + 1, stride)
        y += padded[:, window] @ weight[:, :, tap, 0].T
        grad_padded[:, window] += grad @ weight[:, :, tap, 0]
        grad_weight[:, :, tap, 0] = grad.flatten(0, 2).T @ padded[:, window].flatten(0, 2)
    return y, grad_padded[:, half : half + T], grad_weight


def package(x, weight, grad, stride):
    import torch

    from ikem_fast.ops.encoder import convolution

    if weight.shape[2] == 1:
        flat = weight.flatten(1)
        y = convolution.pointwise(x, flat, stride)
        grad_x, grad_weight = convolution.pointwise_backward(grad, x, flat, stride)
        return y, grad_x, grad_weight.view_as(weight)
    if len(weight) != x.shape[-1]:
        y = convolution.temporal(x, weight, stride)
        return y, *convolution.temporal_backward(grad, x, weight, stride)
    same = torch.stack([torch.ones(x.shape[2:]), torch.zeros(x.shape[2:])])
    y = convolution.normalized_temporal(x, same, weight.float(), stride)
    return y, *convolution.normalized_temporal_backward(grad, x, same, weight.float(), stride)


def library(x, weight, grad, stride):
    import torch

    options = (stride, 1), ((weight.shape[2] - 1) // 2, 0), (1, 1), False, (0, 0), 1
    x, grad = x.permute(0, 3, 1, 2), grad.permute(0, 3, 1, 2)
    y = torch.ops.aten.convolution(x, weight, None, *options)
    gradients = torch.ops.aten.convolution_backward(grad, x, weight, None, *options, (True, True, False))
    return y.permute(0, 2, 3, 1), gradients[0].permute(0, 2, 3, 1), gradients[1]


def module(x, weight, grad, stride):
    from torch import nn

    from ikem_fast.nn.encoders.stgcn import Pointwise

    outputs, inputs, length, _ = weight.shape
    kind = Pointwise if length == 1 else nn.Conv2d
    conv = kind(inputs, outputs, (length, 1), (stride, 1), ((length - 1) // 2, 0), bias=False).to(x.dtype)
    conv.weight.data = weight
    x = x.permute(0, 3, 1, 2).contiguous().requires_grad_()
    y = conv(x)
    y.backward(grad.permute(0, 3, 1, 2).contiguous())
    return y.detach().permute(0, 2, 3, 1), x.grad.permute(0, 2, 3, 1), conv.weight.grad


ALL = {"package": package, "module": module, "library": library}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few sizes and two settings: seconds")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, help="only these")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work()
    space = QUICK if options.quick else WHOLE
    return (
        1 if search(options.ways, space | ({"settings": options.settings} if options.settings else {})) else 0
    )


if __name__ == "__main__":
    sys.exit(main())

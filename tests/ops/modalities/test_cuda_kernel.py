"""The CUDA kernels without a GPU: they compile for every architecture, and their bodies run on CPU threads.

What is left to a GPU (launch, streams, graphs, large tensors) is in tests/cuda/test_native_cuda.py.
"""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils import cpp_extension

from ikem_fast import augment
from ikem_fast.ops import derive_modalities, preprocess_clips
from ikem_fast.skeleton import MODALITIES, Layout, get_layout

ROOT = Path(__file__).parents[3]
INCLUDES = [f"-I{path}" for path in (ROOT / "csrc", *cpp_extension.include_paths())]
KINDS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


def nvcc():
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")


@pytest.mark.skipif(nvcc() is None, reason="nvcc is not installed")
@pytest.mark.parametrize("source", sorted((ROOT / "csrc").rglob("*.cu")), ids=lambda source: source.name)
def test_compiles_without_a_gpu_or_a_warning(source, tmp_path):
    known = subprocess.run([nvcc(), "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    architectures = [a for a in ("80", "90", "100") if f"compute_{a}\n" in known]
    assert "90" in architectures
    command = [
        nvcc(), "-c", source, "-o", tmp_path / "kernel.o",
        "-O3", "-std=c++20", "-fmad=false", "-Werror", "all-warnings",
        "-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020b000000000000",
        *cpp_extension.COMMON_NVCC_FLAGS,
        f"-gencode=arch=compute_{architectures[0]},code=[{','.join(f'sm_{a}' for a in architectures)}]",
        *INCLUDES,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if source.name == "modalities_cuda.cu":
        reads_four_values_at_once(tmp_path / "kernel.o")


def reads_four_values_at_once(binary):
    """Assert that kernels that write four values read them so from shared memory, and spill nothing."""
    found = importlib.util.find_spec("triton")
    if found is None:
        return
    disassembler = Path(found.origin).parent / "backends/nvidia/bin/cuobjdump"
    command = [disassembler, "-sass", "-arch", "sm_90", binary]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels = dict(re.findall(r"Function : (\S*derive_kernel\S*)\n(.*?)(?=\.{10,}|\Z)", text, re.DOTALL))
    assert len(kernels) == 6
    for name, instructions in kernels.items():
        assert not re.search(r"\b(STL|LDL)\b", instructions), name
        if "Li4E" in name:
            assert instructions.count("LDS.128") >= 20, name
            assert "STG.E.128" in instructions if "kernelIf" in name else "STG.E.64" in instructions, name


@pytest.fixture(scope="module", params=["thread", "address,alignment"])
def emulator(request, tmp_path_factory):
    """Builds a program that runs a kernel's body on CPU threads and aborts at what its sanitizer finds."""
    build = lambda source: build_emulator(source, request.param, tmp_path_factory.mktemp("emulator"))  # noqa: E731
    return functools.cache(build)


def build_emulator(source, sanitizer, folder):
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = folder / "emulator"
    command = [
        compiler, Path(__file__).parents[1] / source, "-o", program, "-O0", "-g1", "-std=c++20",
        "-ffp-contract=off", "-pthread", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all",
        "-DTORCH_TARGET_VERSION=0x020b000000000000", *INCLUDES,
    ]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True)
    if "cannot find" in built.stderr:
        pytest.skip(f"no -fsanitize={sanitizer} here: {built.stderr.splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    return program


def emulate(
    program, folder, x, frames, shear, start, *, modalities, layout, out_dtype, misaligned_by=0, threads=5
):
    N, _, T, V, M = x.shape
    numbers = [
        N, T, V, M, len(modalities), *map(MODALITIES.index, modalities), KINDS[x.dtype], KINDS[out_dtype],
        misaligned_by, *layout.torso, layout.root, *layout.parents, *layout.axis_parents, *frames.tolist(),
    ]  # fmt: skip
    raw = lambda tensor: tensor.contiguous().view(torch.uint8).numpy().tobytes()  # noqa: E731
    source, result = folder / "in", folder / "out"
    source.write_bytes(np.array(numbers, np.int64).tobytes() + raw(shear) + raw(start) + raw(x))
    done = subprocess.run([program, source, result, str(threads)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = torch.frombuffer(bytearray(result.read_bytes()), dtype=out_dtype)
    return out.view(len(modalities), N, 3, T, V, M)


def long_chain(V):
    """A layout of V joints in a row: more than a block's memory holds for several bodies."""
    parents = (0, *range(V - 1))
    return Layout(f"chain {V}", tuple(map(str, range(V))), parents, torso=(0, 2, 5), shoulders=(0, 1))


@pytest.mark.parametrize(
    ("N", "T", "M", "layout", "dtype", "out_dtype", "options"),
    [
        (3, 50, 2, "ntu-rgb+d", torch.float32, torch.float32, {}),  # 4 values at once
        (
            2,
            50,
            2,
            "ntu-rgb+d",
            torch.float32,
            torch.bfloat16,
            {},
        ),  # later frames 2 values out of step with 4
        (2, 16, 1, "ntu-rgb+d", torch.bfloat16, torch.float16, {}),  # 1
        (2, 8, 1, long_chain(7), torch.float32, torch.float32, {}),  # 3
        (2, 13, 1, "coco", torch.float16, torch.float32, {}),  # 1: an odd number of values
        (2, 16, 2, "ntu-rgb+d", torch.float32, torch.float32, {"misaligned_by": 1}),
        (2, 16, 2, "ntu-rgb+d", torch.float32, torch.bfloat16, {"misaligned_by": 4}),
        (2, 1, 2, "ntu-rgb+d", torch.float32, torch.float32, {}),
        (2, 2, 3, "h36m", torch.float32, torch.float32, {}),
        (2, 9, 2, "ntu-rgb+d", torch.float32, torch.float32, {"modalities": ("acceleration", "joint")}),
        (1, 9, 2, "ntu-rgb+d", torch.float32, torch.float32, {"modalities": ("rotation_axis", "bone")}),
        (1, 4, 1, long_chain(511), torch.float32, torch.bfloat16, {}),  # 4 frames, for 4 values, do not fit
        (1, 7, 5, long_chain(300), torch.float32, torch.float32, {}),  # a tile does not hold all bodies
        (1, 4, 3, long_chain(512), torch.float32, torch.float32, {"threads": 1}),
    ],
)
def test_body_of_the_kernel_is_the_reference(emulator, tmp_path, N, T, M, layout, dtype, out_dtype, options):
    layout = get_layout(layout)
    x = torch.randn(N, 3, T, layout.num_joints, M).to(dtype)
    x[0, ..., -1] = 0
    frames = torch.randint(1, 100, (N,))
    shear, start = augment.draw_shear(N), augment.draw_crop_start(N, T)
    options = {"modalities": MODALITIES, "layout": layout, "out_dtype": out_dtype} | options
    got = emulate(emulator("modalities/emulate_kernel.cpp"), tmp_path, x, frames, shear, start, **options)
    want = derive_modalities(
        x, frames, modalities=options["modalities"], layout=layout, shear=shear, crop_start=start,
        impl="reference",
    )  # fmt: skip
    rounding = 0 if out_dtype == torch.float32 else torch.finfo(out_dtype).eps
    for name, ours, theirs in zip(options["modalities"], got.float(), want, strict=True):
        scale = max(theirs.abs().max().item(), T / frames.min().item() if name == "angular_velocity" else 0)
        assert (ours - theirs).abs().max().item() <= (1e-6 + rounding) * scale, name


@pytest.mark.parametrize("threads", [1, 5, 64])
def test_body_of_preprocessing_is_the_reference(emulator, tmp_path, threads):
    layout = get_layout("kinect-v1")
    lengths = torch.tensor([7, 0, 40, 1, 5, 9])
    raw = torch.randn(3, int(lengths.sum()), layout.num_joints, 2)
    raw[:, 10:20, :, 0] = 0
    raw[:, 48:53] -= raw[:, 48:53, :1].clone()  # centred on the first joint
    raw[1, 55, 3, 1] = float("nan")
    numbers = [len(lengths), raw.shape[1], 12, layout.num_joints, 2, layout.root, *layout.shoulders]
    numbers += [*(lengths.cumsum(0) - lengths).tolist(), *lengths.tolist()]
    source, result = tmp_path / "in", tmp_path / "out"
    source.write_bytes(np.array(numbers, np.int64).tobytes() + raw.numpy().tobytes())
    program = emulator("preprocessing/emulate_preprocessing.cpp")
    done = subprocess.run([program, source, result, str(threads)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = result.read_bytes()
    want, true_frames = preprocess_clips(raw, lengths, frames=12, layout=layout, impl="reference")
    assert np.frombuffer(content[-8 * len(lengths) :], np.int64).tolist() == true_frames.tolist()
    assert true_frames.tolist() == [7, 0, 30, 1, 5, -1]
    got = torch.frombuffer(bytearray(content[: -8 * len(lengths)]), dtype=torch.float32).view(want.shape)
    assert (got - want).abs().max().item() <= 1e-6 * want.abs().max().item()

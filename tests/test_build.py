"""setup.py: what it does without a compiler, torch, pybind11 or CUDA, and what the library depends on."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ikem_fast.ops import _library

ROOT = Path(__file__).parents[1]
NO_COMPILER = {"CXX": "no-such-compiler"}


def build(folder, environment=(), without=(), before="pass"):
    """Run `setup.py build_ext` into a folder, as if modules were not installed: (process, record).

    before: a statement to run first.
    """
    hide = f"import sys, runpy; sys.modules.update(dict.fromkeys({list(without)}))\n{before}"
    run = "sys.argv[0] = 'setup.py'; runpy.run_path('setup.py', run_name='__main__')"
    command = [
        sys.executable, "-c", f"{hide}\n{run}", "build_ext",
        "--build-lib", folder / "lib", "--build-temp", folder / "temp",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if "CUDA" not in k} | dict(environment)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    record = folder / "lib" / "ikem_fast" / "_build.json"
    return done, json.loads(record.read_text()) if record.exists() else None


def test_without_a_compiler_nothing_fails_and_the_reason_is_kept(tmp_path):
    done, outcomes = build(tmp_path, NO_COMPILER)
    assert done.returncode == 0, done.stderr
    assert "ikem-fast: ikem_fast._C is left out: no C++ compiler: 'no-such-compiler'" in done.stderr
    assert all("no C++ compiler" in outcomes[part] for part in ("_C", "_skeleton_io"))
    assert not list(tmp_path.rglob("*.so"))


def test_a_compiler_that_fails_is_survived_and_reported(tmp_path):
    compiler = tmp_path / "broken-compiler"
    compiler.write_text("#!/bin/sh\necho 'the licence has expired' >&2\nexit 1\n")
    compiler.chmod(0o755)
    done, outcomes = build(tmp_path, {"CXX": str(compiler)})
    assert done.returncode == 0, done.stderr
    assert "ikem_fast._C is left out" in done.stderr and outcomes["_C"].startswith("not built: ")


def test_without_torch_the_reason_says_how_to_build(tmp_path):
    done, outcomes = build(tmp_path, NO_COMPILER, without=["torch"])
    assert done.returncode == 0, done.stderr
    assert "torch cannot be imported" in outcomes["_C"] and "--no-build-isolation" in outcomes["_C"]


def test_without_pybind11_only_the_reader_is_left_out(tmp_path):
    done, outcomes = build(tmp_path, NO_COMPILER, without=["pybind11"])
    assert done.returncode == 0, done.stderr
    assert outcomes["_skeleton_io"] == "not built: pybind11 is not installed"


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch has CUDA")
@pytest.mark.parametrize("wish", [{"IKEM_BUILD_CUDA": "1"}, {"FORCE_CUDA": "1"}])
def test_cuda_that_is_demanded_and_impossible_fails(tmp_path, wish):
    done, _ = build(tmp_path, wish)
    assert done.returncode != 0
    assert f"IKEM_BUILD_CUDA=1 is impossible here: torch {torch.__version__} is built" in done.stderr


# Answers as nvcc and as a C++ compiler do, compiles nothing, and notes what it was asked for.
FAKE_COMPILER = """#!/bin/sh
case "$*" in
*--list-gpu-arch*) printf 'compute_80\\ncompute_90\\n'; exit;;
*--version*) echo 'Cuda compilation tools, release 13.0, V13.0.88'; exit;;
*-dump*version*) echo 12.2.0; exit;;
esac
echo "$0 $*" >> {log}
case "$0 $*" in {failing}) echo "it cannot be done" >&2; exit 1;; esac
while [ $# -gt 1 ]; do
    if [ "$1" = -o ]; then touch "$2"; echo "$2:" > "$2.d"; fi
    shift
done
"""


def build_with_fakes(folder, environment, failing="never"):
    """As if torch had CUDA 13.0, with compilers that only say so: (process, record, their command lines)."""
    log = folder / "log"
    folder.mkdir(exist_ok=True)
    log.touch()
    for name in ("bin/nvcc", "bin/g++"):
        compiler = folder / "cuda" / name
        compiler.parent.mkdir(parents=True, exist_ok=True)
        compiler.write_text(FAKE_COMPILER.format(log=log, failing=failing))
        compiler.chmod(0o755)
    before = f"""if True:
    import torch
    from torch.utils import cpp_extension
    torch.version.cuda, cpp_extension.CUDA_HOME = "13.0", {str(folder / "cuda")!r}"""
    done, outcomes = build(folder, {"CXX": str(folder / "cuda" / "bin" / "g++")} | environment, before=before)
    return done, outcomes, log.read_text()


@pytest.mark.parametrize(
    ("environment", "architectures", "flags"),
    [
        ({}, "8.0;9.0+PTX", ["sm_80", "sm_90", "compute_90,code=compute_90"]),  # all that this nvcc knows
        ({"TORCH_CUDA_ARCH_LIST": "8.6"}, "8.6", ["sm_86"]),
        ({"FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "9.0;10.0"}, "9.0;10.0", ["sm_90", "sm_100"]),
        ({"IKEM_BUILD_CUDA": "1"}, "8.0;9.0+PTX", ["sm_80", "sm_90"]),
    ],
)
def test_cuda_kernels_are_compiled_for_the_architectures_asked_for(
    tmp_path, environment, architectures, flags
):
    done, outcomes, commands = build_with_fakes(tmp_path, environment)
    assert outcomes is not None and outcomes["cuda"] == architectures, done.stderr
    kernels = [line for line in commands.splitlines() if line.startswith(f"{tmp_path}/cuda/bin/nvcc")]
    assert len(kernels) == len(list((ROOT / "csrc").rglob("*.cu")))
    for line in kernels:
        assert all(flag in line for flag in flags), line
        assert line.count("code=sm_") == len([flag for flag in flags if flag.startswith("sm_")])


def test_cuda_kernels_that_are_not_wanted_are_not_compiled(tmp_path):
    _, outcomes, commands = build_with_fakes(tmp_path, {"IKEM_BUILD_CUDA": "0"})
    assert outcomes["cuda"] == "not built: IKEM_BUILD_CUDA=0" and "nvcc" not in commands


def test_cuda_kernels_that_do_not_compile_are_left_out_or_fail(tmp_path):
    done, outcomes, _ = build_with_fakes(tmp_path / "auto", {}, failing="*nvcc*")
    assert outcomes["_C"] == "built" and outcomes["cuda"].startswith("not built: "), done.stderr
    assert "trying without the CUDA kernels" in done.stderr
    done, _, _ = build_with_fakes(tmp_path / "forced", {"FORCE_CUDA": "1"}, failing="*nvcc*")
    assert done.returncode != 0 and "the CUDA kernels were not built" in done.stderr


def test_a_wrong_wish_is_named(tmp_path):
    done, _ = build(tmp_path, {"IKEM_BUILD_CUDA": "yes"})
    assert done.returncode != 0 and "IKEM_BUILD_CUDA: expected 0, 1 or auto, found 'yes'" in done.stderr


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_a_build_from_nothing_gives_a_library_that_derives(tmp_path):
    """The set-up's own build, where that is of these sources; else one is made here, which takes minutes."""
    library = ROOT / "ikem_fast" / "_C.abi3.so"
    sources = [ROOT / "setup.py", *(path for path in (ROOT / "csrc").rglob("*.*") if path.is_file())]
    if not library.is_file() or library.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        done, outcomes = build(tmp_path, {"IKEM_BUILD_CUDA": "0"})
        assert outcomes["_C"] == "built" and outcomes["cuda"] == "not built: IKEM_BUILD_CUDA=0", done.stderr
        library = tmp_path / "lib" / "ikem_fast" / "_C.abi3.so"
    script = f"""
import torch
torch.ops.load_library({str(library)!r})
x = torch.arange(36.0).view(1, 3, 4, 3, 1)
joint, motion = torch.ops.ikem_fast.derive_modalities(
    x, None, None, None, [0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 2], torch.float32)
assert torch.equal(joint, x) and (motion[:, :, :3] == 3).all() and not motion[:, :, 3:].any()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.skipif(_library.LIBRARY is None, reason=str(_library.PROBLEM))
@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_the_library_uses_torch_s_stable_interface_alone():
    """No C++ symbol of torch, which would tie the binary to one release of it."""
    listing = subprocess.run(
        ["nm", "-D", "--undefined-only", _library.LIBRARY], capture_output=True, text=True, check=True
    ).stdout
    symbols = [line.split()[-1] for line in listing.splitlines()]
    assert any(symbol.startswith("aoti_torch_") for symbol in symbols)
    assert not [symbol for symbol in symbols if re.match(r"_ZNK?(2at|3c10|5torch)|_?Py", symbol)]

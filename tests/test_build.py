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

from ikem_fast.ops import native

ROOT = Path(__file__).parents[1]
NO_COMPILER = {"CXX": "no-such-compiler"}


def build(folder, environment=(), without=()):
    """Run `setup.py build_ext` into a folder, as if modules were not installed: (process, record)."""
    hide = f"import sys, runpy; sys.modules.update(dict.fromkeys({list(without)}))"
    run = "sys.argv[0] = 'setup.py'; runpy.run_path('setup.py', run_name='__main__')"
    command = [
        sys.executable, "-c", f"{hide}; {run}", "build_ext",
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


def test_a_wrong_wish_is_named(tmp_path):
    done, _ = build(tmp_path, {"IKEM_BUILD_CUDA": "yes"})
    assert done.returncode != 0 and "IKEM_BUILD_CUDA: expected 0, 1 or auto, found 'yes'" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_a_build_from_nothing_gives_a_library_that_derives(tmp_path):
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


@pytest.mark.skipif(native.LIBRARY is None, reason=str(native.PROBLEM))
@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_the_library_uses_torch_s_stable_interface_alone():
    """No C++ symbol of torch, which would tie the binary to one release of it."""
    listing = subprocess.run(
        ["nm", "-D", "--undefined-only", native.LIBRARY], capture_output=True, text=True, check=True
    ).stdout
    symbols = [line.split()[-1] for line in listing.splitlines()]
    assert any(symbol.startswith("aoti_torch_") for symbol in symbols)
    assert not [symbol for symbol in symbols if re.match(r"_ZNK?(2at|3c10|5torch)|_?Py", symbol)]

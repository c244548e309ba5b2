"""Builds the native parts of the package; everything else about it is in pyproject.toml.

- `ikem_fast._C`, the op library, through torch's stable ABI: one binary for torch ≥ 2.11 and Python ≥ 3.11.
- `ikem_fast._skeleton_io`, the reader of .skeleton files and of numbers in texts, through pybind11.

IKEM_BUILD_CUDA=auto (default) compiles the CUDA kernels where torch has CUDA and nvcc is there; 0 never;
1 (or FORCE_CUDA=1) fails where that is impossible. No GPU is needed. TORCH_CUDA_ARCH_LIST chooses for which.

A part that cannot be built is left out with a notice: the package works without it, more slowly. What became
of each part is kept in `ikem_fast/_build.json`, which `ikem-fast doctor` shows.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup

try:
    import torch
    from torch.utils import cpp_extension
    from torch.utils.cpp_extension import BuildExtension

    TORCH_PROBLEM = None
except Exception as e:  # a torch that is broken is as good as none, and says why
    from setuptools.command.build_ext import build_ext as BuildExtension

    TORCH_PROBLEM = f"torch cannot be imported ({e}); install it and build with --no-build-isolation"

CSRC = Path("csrc")
HEADERS = [str(header) for header in sorted(CSRC.rglob("*.*h"))]
ARCHITECTURES = ("8.0", "8.6", "8.9", "9.0", "10.0")
TORCH_2_11 = "0x020b000000000000"
# Kernel and reference round alike (csrc/modalities/modalities.h), so no fused multiply-adds; errno and
# floating-point exceptions, which nobody reads, would keep loops from being vectorised.
CXX_FLAGS = ["-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
if os.name != "nt":  # where it was built is in no wheel: the same commit gives the same bytes
    CXX_FLAGS.append(f"-ffile-prefix-map={Path.cwd()}=.")
NVCC_FLAGS = ["-O3", "-fmad=false", "-DUSE_CUDA"]


def cuda_wish():
    """(whether the CUDA kernels must be built, why they cannot or shall not be)."""
    wish = os.environ.get("IKEM_BUILD_CUDA", "1" if os.environ.get("FORCE_CUDA") == "1" else "auto")
    if wish not in ("0", "1", "auto"):
        sys.exit(f"IKEM_BUILD_CUDA: expected 0, 1 or auto, found {wish!r}")
    problem = None
    if wish == "0":
        problem = "IKEM_BUILD_CUDA=0"
    elif TORCH_PROBLEM:
        problem = TORCH_PROBLEM
    elif torch.version.cuda is None:
        problem = f"torch {torch.__version__} is built without CUDA"
    elif not Path(cpp_extension.CUDA_HOME or "", "bin", "nvcc").is_file():
        problem = "nvcc is not found (set CUDA_HOME)"
    if wish == "1" and problem:
        sys.exit(f"IKEM_BUILD_CUDA=1 is impossible here: {problem}")
    return wish == "1", problem


CUDA_REQUIRED, NO_CUDA = cuda_wish()


def op_library(with_cuda):
    if TORCH_PROBLEM:
        return Extension("ikem_fast._C", [])
    sources = sorted(CSRC.glob("*/*_ops.cpp")) + sorted(CSRC.glob("*/*_cpu.cpp"))
    macros = [("TORCH_TARGET_VERSION", TORCH_2_11)]
    make = cpp_extension.CppExtension
    if with_cuda:
        sources += sorted(CSRC.glob("*/*.cu"))
        macros.append(("IKEM_WITH_CUDA", None))
        make = cpp_extension.CUDAExtension
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", default_architectures())
    return make(
        "ikem_fast._C",
        [str(source) for source in sources],
        include_dirs=[str(CSRC.resolve())],
        define_macros=macros,
        extra_compile_args={"cxx": CXX_FLAGS, "nvcc": NVCC_FLAGS},
        depends=HEADERS,
        py_limited_api=True,
    )


COMPILED_FROM = (
    "sources", "define_macros", "include_dirs", "libraries", "library_dirs", "extra_compile_args",
)  # fmt: skip


def default_architectures():
    """Those of the default list that this nvcc knows, and PTX of the newest for GPUs to come."""
    nvcc = Path(cpp_extension.CUDA_HOME, "bin", "nvcc")
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    return ";".join(a for a in ARCHITECTURES if f"compute_{a.replace('.', '')}\n" in known) + "+PTX"


def skeleton_reader():
    try:
        import pybind11
    except ImportError:
        return Extension("ikem_fast._skeleton_io", [])
    return Extension(
        "ikem_fast._skeleton_io",
        [str(CSRC / "skeleton" / "skeleton_io.cpp")],
        include_dirs=[str(CSRC.resolve()), pybind11.get_include()],
        depends=HEADERS,
        extra_compile_args=["-std=c++17", "-fvisibility=hidden", *CXX_FLAGS],
        language="c++",
    )


class BuildNative(BuildExtension):
    """Builds each part by itself, goes on without one that fails, and writes down what became of it."""

    def run(self):
        super().run()
        record = Path(self.get_ext_fullpath("ikem_fast._C")).with_name("_build.json")
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(self.outcomes, indent=2) + "\n")

    def build_extensions(self):
        requested, built, self.outcomes = self.extensions, [], {}
        for extension in requested:
            name = extension.name.rpartition(".")[2]
            problem = self.attempt(extension)
            if problem and self.has_cuda(extension):
                if CUDA_REQUIRED:
                    sys.exit(f"IKEM_BUILD_CUDA=1, but the CUDA kernels were not built: {problem}")
                notice(f"trying without the CUDA kernels, which were not built: {problem}")
                no_cuda = problem
                without = op_library(with_cuda=False)
                for part in COMPILED_FROM:  # all else on it is what setuptools noted when the build began
                    setattr(extension, part, getattr(without, part))
                problem = self.attempt(extension)
            else:
                no_cuda = NO_CUDA
            if problem:
                notice(f"{extension.name} is left out: {problem}")
                self.outcomes[name] = f"not built: {problem}"
                continue
            built.append(extension)
            self.outcomes[name] = "built"
            if name == "_C":
                cuda = f"not built: {no_cuda}" if no_cuda else os.environ["TORCH_CUDA_ARCH_LIST"]
                self.outcomes["cuda"] = cuda
        self.extensions = built

    def attempt(self, extension):
        """Build one part; None, or why it was not built."""
        if not extension.sources:
            return TORCH_PROBLEM if extension.name.endswith("_C") else "pybind11 is not installed"
        compiler = shlex.split(os.environ.get("CXX", "c++"))[0]
        if shutil.which(compiler) is None:
            return f"no C++ compiler: {compiler!r} is not found (set CXX)"
        self.extensions = [extension]
        try:
            super().build_extensions()
        except (Exception, SystemExit) as e:
            return f"{type(e).__name__}: {e} (the output of pip install -v has the compiler's own words)"
        return None

    def has_cuda(self, extension):
        return any(source.endswith(".cu") for source in extension.sources)


def notice(text):
    print(f"ikem-fast: {text}", file=sys.stderr, flush=True)


setup(
    ext_modules=[op_library(with_cuda=NO_CUDA is None), skeleton_reader()],
    cmdclass={"build_ext": BuildNative},
)

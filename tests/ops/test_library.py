"""The compiled op library: what torch checks about an op, what is said when it is missing, memory safety."""

from pathlib import Path

import pytest
import torch

from ikem_fast import augment
from ikem_fast.ops import _library, derive_modalities
from ikem_fast.skeleton import get_layout
from tests.helpers import needs_kernel

LAYOUT = get_layout("ntu-rgb+d")


def arguments(N=3, T=9, **changes):
    """What the op itself takes, with every optional argument given."""
    given = {
        "x": torch.randn(N, 3, T, 25, 2),
        "frames": torch.randint(1, 100, (N,)),
        "shear": augment.draw_shear(N),
        "crop_start": augment.draw_crop_start(N, T),
        "modalities": list(range(6)),
        "parents": LAYOUT.parents,
        "axis_parents": LAYOUT.axis_parents,
        "torso": LAYOUT.torso,
        "out_dtype": torch.float32,
    }
    assert changes.keys() <= given.keys()
    return (given | changes).values()


@needs_kernel
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"x": torch.randn(3, 3, 9, 25, 2, requires_grad=True), "modalities": [2, 1]},
        {"frames": None, "shear": None, "crop_start": None, "modalities": [5, 0]},
        {"x": torch.randn(0, 3, 9, 25, 2), "frames": None, "shear": None, "crop_start": None},
        {"out_dtype": torch.bfloat16},
    ],
    ids=["all", "gradient", "plain", "no clips", "bfloat16"],
)
def test_opcheck(changes):
    torch.library.opcheck(torch.ops.ikem_fast.derive_modalities.default, tuple(arguments(**changes)))


@needs_kernel
def test_compiles_whole_and_for_any_size():
    def step(x, frames, shear, start):
        out = derive_modalities(
            x, frames, modalities=("motion", "joint"), shear=shear, crop_start=start, impl="fused"
        )
        return out.square()

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for N, T in ((3, 12), (5, 31)):
        x = torch.randn(N, 3, T, 25, 2)
        rest = torch.randint(1, 90, (N,)), augment.draw_shear(N), augment.draw_crop_start(N, T)
        leaves = [x.clone().requires_grad_() for _ in range(2)]
        out, want = compiled(leaves[0], *rest), step(leaves[1], *rest)
        assert torch.equal(out, want)
        out.sum().backward()
        want.sum().backward()
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad)


@needs_kernel
def test_the_gradient_s_version_check_sees_later_changes():
    x = torch.randn(2, 3, 5, 25, 2, requires_grad=True)
    leaf = x * 1
    out = derive_modalities(leaf, impl="fused")
    leaf.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@needs_kernel
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.randn(3, 3, 9, 25, 4)[..., ::2]}, "x: .*contiguous"),
        ({"x": torch.randn(3, 3, 9, 25, 2).double()}, "x: .*float32"),
        ({"x": torch.randn(3, 2, 9, 25, 2)}, "x: "),
        ({"parents": LAYOUT.parents[:-1]}, "parents: expected 25"),
        ({"parents": [25] * 25}, "parents: expected 25 joints of 0 … 24"),
        ({"parents": [*range(1, 25), 0]}, "parents: .*root"),
        ({"axis_parents": [-1] * 25}, "axis_parents"),
        ({"torso": [1, 2]}, "torso: expected 3"),
        ({"torso": [1, 2, 25]}, "torso: expected 3"),
        ({"modalities": []}, "modalities"),
        ({"modalities": [0] * 7}, "modalities"),
        ({"modalities": [6]}, "modalities"),
        ({"frames": torch.ones(2, dtype=torch.int64)}, "frames"),
        ({"frames": torch.ones(3, dtype=torch.int32)}, "frames: expected int64"),
        ({"shear": torch.ones(3, 3)}, "shear"),
        ({"shear": torch.ones(3, 3, 3).double()}, "shear: expected float32"),
        ({"crop_start": torch.ones(3)}, "crop_start: expected int64"),
        ({"out_dtype": torch.float64}, "out_dtype"),
    ],
)
def test_the_op_itself_refuses_what_would_read_out_of_bounds(changes, message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.ikem_fast.derive_modalities(*arguments(**changes))


@needs_kernel
def test_a_crop_start_out_of_range_reads_the_clip_alone():
    """On a GPU the values are not checked beforehand, and must not lead out of the clip."""
    frames = torch.arange(12.0).view(1, 1, 12, 1, 1).expand(2, 3, 12, 25, 1).contiguous()
    start = torch.tensor([-(2**40), 2**40])
    got = torch.ops.ikem_fast.derive_modalities(
        *arguments(2, x=frames, frames=None, shear=None, crop_start=start, modalities=[0])
    )
    want = augment.temporal_crop(frames, torch.tensor([0, 4]), padding=2)
    assert torch.equal(got[0], want)


def grants_huge_pages():
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.exists() and "[never]" not in setting.read_text()


@needs_kernel
@pytest.mark.skipif(not grants_huge_pages(), reason="the system grants no huge pages")
def test_memory_for_a_large_result_comes_in_huge_pages():
    import resource

    x = torch.randn(512, 3, 50, 25, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    out = derive_modalities(x, impl="fused")
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    pages = out.numel() * out.element_size() // resource.getpagesize()
    assert faults < pages / 4, "most of the result was handed over in small pages"


def test_a_missing_library_is_reported_with_what_the_build_said(tmp_path, monkeypatch):
    monkeypatch.setattr(_library, "_PACKAGE", tmp_path)
    library, problem = _library._load()
    assert library is None and "_C.abi3.so is missing" in problem and "no build was recorded" in problem
    (tmp_path / "_build.json").write_text('{"_C": "not built: no C++ compiler"}')
    assert "not built: no C++ compiler" in _library._load()[1]


def test_a_broken_library_is_reported_with_the_loader_s_words(tmp_path, monkeypatch):
    (tmp_path / "_C.abi3.so").write_bytes(b"not a library" * 100)
    monkeypatch.setattr(_library, "_PACKAGE", tmp_path)
    library, problem = _library._load()
    assert library is None and "cannot be loaded" in problem and "invalid ELF header" in problem


@needs_kernel
def test_a_library_of_another_version_is_reported_and_left_alone(monkeypatch):
    monkeypatch.setattr(_library, "_OPS", (*_library._OPS, "an_op_to_come"))
    library, problem = _library._load()
    assert library is None and "without an_op_to_come: build the package again" in problem


def test_without_a_library_auto_works_and_fused_says_why(monkeypatch):
    x = torch.randn(2, 3, 6, 25, 2)
    want = derive_modalities(x, impl="reference")
    monkeypatch.setattr(_library, "DEVICES", ())
    monkeypatch.setattr(_library, "LIBRARY", None)
    monkeypatch.setattr(_library, "PROBLEM", "the dog ate it")
    assert torch.equal(derive_modalities(x), want)
    with pytest.raises(RuntimeError, match=r"impl='fused'.*the dog ate it"):
        derive_modalities(x, impl="fused")
    assert _library.status() == {"library": None, "cpu": "the dog ate it", "cuda": "the dog ate it"}


@needs_kernel
def test_status_says_what_is_compiled_in():
    status = _library.status()
    assert status["library"].endswith("_C.abi3.so") and status["cpu"] == "ok"
    assert status["cuda"] == "ok" or "no kernels for cuda" in status["cuda"]

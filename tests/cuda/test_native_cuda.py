"""derive_modalities and preprocess_clips on a GPU: launch, streams, dtypes, graphs, large tensors, alignment.

The arithmetic is tested without one (tests/ops/test_cuda_kernel.py). Skipped where there is no GPU.
"""

import pytest
import torch

from ikem_fast import augment
from ikem_fast.ops import _library, derive_modalities, preprocess_clips
from ikem_fast.skeleton import MODALITIES, Layout, get_layout, layout_names

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(not _library.support_on("cuda"), reason=str(_library.support_on("cuda").problem)),
]


def batch(N, T=50, layout="ntu-rgb+d", M=2, dtype=torch.float32):
    x = torch.randn(N, 3, T, get_layout(layout).num_joints, M, device="cuda").to(dtype)
    options = {
        "frames": torch.randint(1, 300, (N,), device="cuda"),
        "shear": augment.draw_shear(N, device="cuda"),
        "crop_start": augment.draw_crop_start(N, T, device="cuda"),
        "layout": layout,
    }
    return x, options


def assert_same(got, want, speed):
    """got: from the GPU; want: from the CPU, in float32. Within 1e-6 of the largest, and got's rounding."""
    rounding = 0 if got.dtype == torch.float32 else torch.finfo(got.dtype).eps
    for name, ours, theirs in zip(MODALITIES, got.cpu().float(), want, strict=True):
        scale = max(theirs.abs().max().item(), speed if name == "angular_velocity" else 0)
        assert (ours - theirs).abs().max().item() <= (1e-6 + rounding) * scale, name


def on_cpu(x, options):
    options = {k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    return derive_modalities(x.cpu(), **options, impl="reference")


@pytest.mark.parametrize("layout", layout_names())
@pytest.mark.parametrize(("N", "T", "M"), [(1, 1, 1), (3, 2, 2), (5, 17, 3), (128, 50, 2)])
def test_is_the_reference_on_the_cpu(layout, N, T, M):
    x, options = batch(N, T, layout, M)
    x[0, ..., -1] = 0
    got = derive_modalities(x, **options, impl="fused")
    assert torch.isfinite(got).all()
    assert_same(got, on_cpu(x, options), speed=T / options["frames"].min().item())


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("T", [48, 50, 51])  # planes of 2400, 2500 and 2550 values
def test_dtypes(dtype, out_dtype, T):
    x, options = batch(4, T, dtype=dtype)
    options["frames"].fill_(40)
    got = derive_modalities(x, **options, out_dtype=out_dtype, impl="fused")
    assert got.dtype == out_dtype
    assert_same(got, on_cpu(x.float(), options), speed=T / 40)


def test_no_clips():
    x, options = batch(0)
    assert derive_modalities(x, **options, impl="fused").shape == (6, 0, 3, 50, 25, 2)


@pytest.mark.parametrize("start", range(1, 8))
def test_odd_alignment_of_the_input(start):
    """A view that begins anywhere in its storage."""
    x, options = batch(3)
    storage = torch.empty(x.numel() + start, device="cuda")
    shifted = storage[start:].view(x.shape).copy_(x)
    assert torch.equal(
        derive_modalities(shifted, **options, impl="fused"), derive_modalities(x, **options, impl="fused")
    )


def test_runs_on_the_current_stream():
    """Work queued before on the same stream is seen, though the default stream is idle."""
    x, options = batch(64)
    want = derive_modalities(x * 2, **options, impl="fused")
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        doubled = x * 2
        got = derive_modalities(doubled, **options, impl="fused")
    stream.synchronize()
    assert torch.equal(got, want)


def test_replays_in_a_cuda_graph():
    x, options = batch(16)
    derive_modalities(x, **options, impl="fused")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = derive_modalities(x, **options, impl="fused")
    for _ in range(2):
        fresh, redrawn = batch(16)
        x.copy_(fresh)
        for name in ("frames", "shear", "crop_start"):
            options[name].copy_(redrawn[name])
        graph.replay()
        assert torch.equal(out, derive_modalities(fresh, **redrawn, impl="fused"))


def test_waits_for_nothing():
    """No host synchronisation: the call returns while the GPU is still busy."""
    x, options = batch(8)
    derive_modalities(x, **options, impl="fused")
    torch.cuda.synchronize()
    done = torch.cuda.Event()
    torch.cuda._sleep(200_000_000)
    torch.cuda.set_sync_debug_mode("error")
    try:
        derive_modalities(x, **options, impl="fused")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    done.record()
    assert not done.query()


def test_a_crop_start_out_of_range_reads_the_clip_alone():
    x, options = batch(2)
    options["crop_start"] = torch.tensor([-(2**40), 2**40], device="cuda")
    wild = derive_modalities(x, **options, impl="fused")
    options["crop_start"] = torch.tensor([0, 16], device="cuda")
    assert torch.equal(wild, derive_modalities(x, **options, impl="fused"))


def test_more_joints_than_the_kernel_s_tables_hold_take_the_reference():
    layout = Layout("chain", tuple(map(str, range(513))), (0, *range(512)), torso=(0, 2, 5), shoulders=(0, 1))
    x = torch.randn(1, 3, 2, 513, 1, device="cuda")
    want = derive_modalities(x, layout=layout, impl="reference")
    assert torch.equal(derive_modalities(x, layout=layout), want)
    with pytest.raises(RuntimeError, match=r"impl='fused'.*512 joints"):
        derive_modalities(x, layout=layout, impl="fused")


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16])
def test_tensors_above_two_gigabytes(out_dtype):
    """Offsets beyond 2³¹ values: the last clips of a large batch are those of a small one."""
    N = 1 + 2**31 // (6 * 3 * 50 * 25 * 2)
    if torch.cuda.mem_get_info()[0] < 2 * N * 6 * 3 * 50 * 25 * 2 * 4:
        pytest.skip("not enough GPU memory")
    x, options = batch(N)
    got = derive_modalities(x, **options, out_dtype=out_dtype, impl="fused")
    assert got.numel() > 2**31
    last = {k: v[-3:] if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    want = derive_modalities(x[-3:], **last, out_dtype=out_dtype, impl="fused")
    assert torch.equal(got[:, -3:], want)


def test_gradient_is_the_reference_s():
    x, options = batch(4)
    gradients = []
    for impl in ("fused", "reference"):
        leaf = x.clone().requires_grad_()
        derive_modalities(leaf, **options, impl=impl).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def raw_batch(*lengths, dtype=torch.float32):
    raw = torch.randn(3, sum(lengths), 25, 2, device="cuda", dtype=dtype) + 2
    return raw, torch.tensor(lengths, device="cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_preprocessing_is_the_reference_on_the_cpu(dtype):
    raw, lengths = raw_batch(1, 0, 300, 90, 17, 8, dtype=dtype)
    raw[:, 100:150, :, 0] = 0
    raw[2, -1, 24, 1] = float("nan")
    clips, true_frames = preprocess_clips(raw, lengths, impl="fused")
    want, counts = preprocess_clips(raw.cpu(), lengths.cpu(), impl="reference")
    assert torch.equal(true_frames.cpu(), counts) and counts[-1] == -1
    assert (clips.cpu() - want).abs().max().item() <= 1e-6 * want.abs().max().item()


def test_preprocessing_replays_in_a_cuda_graph():
    raw, lengths = raw_batch(40, 90, 7)
    preprocess_clips(raw, lengths, impl="fused")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        clips, true_frames = preprocess_clips(raw, lengths, impl="fused")
    fresh = raw_batch(40, 90, 7)[0]
    raw.copy_(fresh)
    graph.replay()
    want = preprocess_clips(fresh, lengths, impl="fused")
    assert torch.equal(clips, want[0]) and torch.equal(true_frames, want[1])


def test_lengths_that_are_wrong_read_the_batch_alone():
    raw, _ = raw_batch(9, 30)
    wild = torch.tensor([2**40, 1], device="cuda")
    assert preprocess_clips(raw, wild, impl="fused")[1].tolist() == [39, 0]

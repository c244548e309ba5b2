"""preprocess_clips: the compiled kernel and the reference on ragged batches, edges, errors.

tests/data/test_preprocess.py holds them to a transcription of the definition and to published numbers.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast.ops import _library, preprocess_clips
from ikem_fast.skeleton import get_layout, layout_names
from tests.helpers import needs_kernel

IMPLEMENTATIONS = ["reference", pytest.param("fused", marks=needs_kernel)]


def batch(*lengths, layout="ntu-rgb+d", bodies=2, dtype=torch.float32):
    raw = torch.randn(3, sum(lengths), get_layout(layout).num_joints, bodies, dtype=dtype) + 2
    return raw, torch.tensor(lengths, dtype=torch.int64)


def assert_same(fused, reference):
    assert torch.equal(fused[1], reference[1])
    assert fused[0].dtype == reference[0].dtype == torch.float32
    if fused[0].numel():
        scale = reference[0].abs().max().item()
        assert (fused[0] - reference[0]).abs().max().item() <= 1e-6 * scale


@needs_kernel
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_kernel_is_the_reference_for_any_batch(data):
    draw = data.draw
    lengths = draw(st.lists(st.integers(0, 120), max_size=5))
    layout = draw(st.sampled_from(layout_names()))
    torch.manual_seed(draw(st.integers(0, 2**20)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    raw, lengths = batch(*lengths, layout=layout, bodies=draw(st.integers(1, 3)), dtype=dtype)
    raw *= 10.0 ** draw(st.integers(-3, 4))
    raw *= torch.rand(1, raw.shape[1], 1, raw.shape[3]) > draw(st.sampled_from([0, 0.3, 1]))  # bodies lost
    if draw(st.booleans()):
        raw -= raw[:, :, :1].clone()  # centred on the first joint
    if draw(st.booleans()) and raw.numel():
        raw.view(-1)[draw(st.integers(0, raw.numel() - 1))] = draw(st.sampled_from([float("nan"), -1e9, 9e8]))
    options = {"frames": draw(st.integers(1, 64)), "layout": layout}
    fused = preprocess_clips(raw, lengths, **options, impl="fused")
    assert fused[0].isfinite().all()
    assert_same(fused, preprocess_clips(raw, lengths, **options, impl="reference"))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_neighbours_in_a_batch_do_not_matter(impl):
    raw, lengths = batch(7, 0, 60, 1)
    raw[:, 10:30, :, 0] = 0
    clips, true_frames = preprocess_clips(raw, lengths, impl=impl)
    assert true_frames.tolist() == [7, 0, 40, 1] and not clips[1].any()
    for n, alone in enumerate(raw.split(lengths.tolist(), 1)):
        clip, count = preprocess_clips(alone, lengths[n : n + 1], impl=impl)
        assert torch.equal(clip[0], clips[n]) and count == true_frames[n]


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_what_is_unusable_is_zero_and_says_so(impl):
    raw, lengths = batch(3, 4, 5, 6)
    raw[:, 0:3] = 0
    raw[1, 5, 7, 1] = float("inf")
    raw[2, 17, 0, 0] = float("nan")
    clips, true_frames = preprocess_clips(raw, lengths, impl=impl)
    assert true_frames.tolist() == [0, -1, 5, -1]
    assert clips[2].any() and not clips[[0, 1, 3]].any()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_strides_and_threads_do_not_matter(impl):
    raw, lengths = batch(40, 3, 90, 12, 70, 1, 5, 8)
    want = preprocess_clips(raw, lengths, impl=impl)
    strided = raw.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        got = preprocess_clips(strided, torch.stack((lengths, lengths), 1)[:, 0], impl=impl)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_nothing_in_nothing_out(impl):
    clips, true_frames = preprocess_clips(*batch(), impl=impl)
    assert clips.shape == (0, 3, 50, 25, 2) and true_frames.shape == (0,)


@needs_kernel
def test_opcheck():
    raw, lengths = batch(9, 30)
    arguments = (raw, lengths.cumsum(0) - lengths, lengths, 50, 20, 8, 4)
    torch.library.opcheck(torch.ops.ikem_fast.preprocess_clips.default, arguments)


@needs_kernel
def test_lengths_that_are_wrong_read_the_batch_alone():
    """On a GPU the values are not checked beforehand, and must not lead out of it."""
    raw, lengths = batch(9, 30)
    op = torch.ops.ikem_fast.preprocess_clips
    wild = torch.tensor([-(2**40), 2**40])
    clips, true_frames = op(raw, wild, -wild, 50, 20, 8, 4)
    assert true_frames.tolist() == [39, 0]
    assert torch.equal(clips[:1], op(raw, lengths[:1] * 0, lengths[:1] * 0 + 39, 50, 20, 8, 4)[0])


@needs_kernel
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"raw": torch.zeros(3, 4, 25)}, "raw: expected"),
        ({"raw": torch.zeros(3, 4, 25, 1).half()}, "raw: expected a float32"),
        ({"lengths": torch.zeros(2, dtype=torch.int32)}, "lengths: expected"),
        ({"starts": torch.zeros(1, dtype=torch.int64)}, "lengths: expected"),
        ({"frames": 0}, "frames: expected"),
        ({"left": 25}, "joints of 0 … 24, found 25"),
        ({"root": -1}, "joints of 0 … 24, found -1"),
    ],
)
def test_the_op_itself_refuses_what_would_read_out_of_bounds(change, message):
    zeros = torch.zeros(2, dtype=torch.int64)
    given = {"raw": torch.zeros(3, 4, 25, 1), "starts": zeros, "lengths": zeros, "frames": 5, "root": 0,
             "right": 1, "left": 2} | change  # fmt: skip
    with pytest.raises(RuntimeError, match=message):
        torch.ops.ikem_fast.preprocess_clips(*given.values())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"raw": [1, 2]}, TypeError, "raw: .*list"),
        ({"raw": torch.zeros(3, 4, 25, 1, dtype=torch.int32)}, TypeError, "raw: .*int32"),
        ({"raw": torch.zeros(3, 4, 20, 1)}, ValueError, r"raw: .*V=25.*\(3, 4, 20, 1\)"),
        ({"raw": torch.zeros(3, 4, 25, 0)}, ValueError, "raw: "),
        (
            {"lengths": torch.tensor([1, 2])},
            ValueError,
            "lengths: expected the 4 frames .* found 3",
        ),
        ({"lengths": torch.tensor([5, -1])}, ValueError, "lengths: .*at least 0.*-1"),
        ({"lengths": torch.tensor([4.0])}, TypeError, "lengths: expected int64"),
        ({"lengths": torch.tensor([[4]])}, ValueError, r"lengths: .*\(1, 1\)"),
        ({"frames": 0}, ValueError, "frames: .*at least 1, found 0"),
        ({"layout": "nobody"}, ValueError, "layout: .*'nobody'"),
        ({"impl": "fast"}, ValueError, "impl: .*'fast'"),
    ],
)
def test_errors_name_the_argument(change, error, message):
    arguments = {"raw": torch.zeros(3, 4, 25, 1), "lengths": torch.tensor([1, 3])} | change
    with pytest.raises(error, match=message):
        preprocess_clips(arguments.pop("raw"), arguments.pop("lengths"), **arguments)


def test_without_a_library_auto_works_and_fused_says_why(monkeypatch):
    raw, lengths = batch(5, 6)
    want = preprocess_clips(raw, lengths, impl="reference")
    monkeypatch.setattr(_library, "DEVICES", ())
    monkeypatch.setattr(_library, "PROBLEM", "the dog ate it")
    assert torch.equal(preprocess_clips(raw, lengths)[0], want[0])
    with pytest.raises(RuntimeError, match=r"impl='fused'.*the dog ate it"):
        preprocess_clips(raw, lengths, impl="fused")

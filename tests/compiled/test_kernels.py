"""The Triton kernels compiled for GPUs that are not here: registers, instructions, predictions."""

import functools

import pytest
import torch

pytest.importorskip("triton")

from benchmarks import predict
from benchmarks.compiled import compiled, compiled_for_amd, launches
from benchmarks.predict import CARDS

bfloat16, float16, float32 = torch.bfloat16, torch.float16, torch.float32
# Shared memory that one program can have.
ROOM = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
# Instructions behind the products that touch the stack, by kernel and compute capability: of the tile that is
# fastest on an H200, spilling and all.
ON_STACK = {("similarities", 90): 40}
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@functools.cache
def noted(name, card, clips=128, keys=32768, dtype=bfloat16, **sizes):
    """The launches of a loss forward and backward, those alike once."""
    calls = predict.calls(name, clips, keys, dtype, **sizes).values()
    found = [launch for call in calls for launch in launches(CARDS[card], call)]
    return list({(launch.name, str(launch.variant)): launch for launch in found}.values())


def holds(launch, card):
    """Assert what holds for every kernel on every card."""
    made, arch = compiled(launch, CARDS[card].arch), CARDS[card].arch
    about = launch.name, launch.arguments, made
    assert made.spills <= ON_STACK.get((launch.name, arch), 0) and made.looped_spills == 0, about
    assert made.registers <= 255 and made.shared <= ROOM[arch], about
    assert not made.serialized, about
    if made.multiply_adds is not None:
        parts = 3 if launch.arguments["bank_ptr"].dtype == float32 else 1
        assert predict.duplication(launch, made) == parts, about
        assert made.shared >= predict.in_flight(launch, arch), about
    return made


@pytest.mark.parametrize(
    "card", [slow("A100"), "RTX 3090", slow("RTX 4090"), "H200", slow("B200"), slow("RTX 5090")]
)
def test_exchange(card):
    """The large tiles: nothing spills, nothing is computed twice, and they fit."""
    names = {launch.name for launch in noted("implicit_exchange", card) if holds(launch, card)}
    assert names == {"unit_rows", "similarities", "weighted_keys", "losses", "feature_gradients"}


@pytest.mark.parametrize(
    ("name", "card", "sizes"),
    [
        ("cross_modal_contrast", "H200", {}),
        ("relational_distillation", "RTX 3090", {}),
        ("relational_distillation", "H200", {"dtype": float16, "P": 8, "D": 256, "topk": 16}),
    ],
)
def test_relations(name, card, sizes):
    """Small tiles, pairs, gradients, nearest keys; and the largest of everything in the least memory."""
    names = {launch.name for launch in noted(name, card, **sizes) if holds(launch, card)}
    assert {"pair_sums", "weights", "gradients", "nearest"} < names


def test_float32_is_multiplied_in_three_parts():
    for launch in noted("info_nce", "H200", dtype=float32):
        holds(launch, "H200")


def test_the_kernels_compile_for_amd(monkeypatch):
    """For an MI300, though nothing takes them there: what runs on one is plain torch."""
    monkeypatch.setattr(torch.version, "hip", "6.4")
    calls = predict.calls("cross_modal_contrast", 128, 32768)
    launched = {launch.name: launch for launch in launches(CARDS["A100"], calls["backward"])}
    for name in ("similarities", "gradients", "weighted_keys"):
        spilled, products = compiled_for_amd(launched[name])
        assert spilled == 0 and (products > 0) == (name != "gradients"), name


def total(name, card, clips=128, keys=32768):
    """(predicted, limit) of a loss forward and backward, in seconds."""
    parts = predict.predict(name, clips, keys, CARDS[card]).values()
    return sum(part[1] for part in parts), sum(part[2] for part in parts)


def test_predicted_for_an_h200():
    exchange, cross = (total(name, "H200") for name in ("implicit_exchange", "cross_modal_contrast"))
    distillation = total("relational_distillation", "H200")
    assert exchange[0] + cross[0] <= 0.4e-3
    assert distillation[0] <= 0.45e-3
    for predicted, limit in (exchange, cross, distillation):
        assert limit >= 0.6 * predicted


@pytest.mark.parametrize("name", ["implicit_exchange", "cross_modal_contrast"])
@pytest.mark.parametrize("clips", predict.N)
@pytest.mark.parametrize("keys", predict.K[:2])
def test_predicted_faster_than_plain_torch_on_an_rtx_4090(name, clips, keys):
    assert total(name, "RTX 4090", clips, keys)[0] < predict.plain(name, clips, keys, CARDS["RTX 4090"])

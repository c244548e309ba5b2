"""What the loss benchmarks compare and count; how fast anything is, they say themselves."""

import pytest
import torch

from benchmarks import bench_augment, bench_derive, bench_prepare, bench_step, harness, publish, roofline


@pytest.mark.parametrize("name", harness.LOSSES)
@pytest.mark.parametrize("way", ["fused", "published", "linear_cross_entropy"])
def test_every_way_computes_the_same(name, way):
    if way == "linear_cross_entropy" and name != "implicit_exchange":
        with pytest.raises(ValueError, match="implicit exchange alone"):
            harness.WAYS[way](name, *harness.arguments(name, 2, 20, "cpu", torch.float32))
        return
    tensors = {name: harness.arguments(name, 3, 50, "cpu", torch.float32)}
    assert harness.disagreement(way, name, tensors) < 1e-3


def test_a_disagreement_is_seen(monkeypatch):
    monkeypatch.setitem(harness.WAYS, "wrong", lambda *given: 1.1 * harness.WAYS["published"](*given))
    tensors = {"info_nce": harness.arguments("info_nce", 3, 50, "cpu", torch.float32)}
    assert harness.disagreement("wrong", "info_nce", tensors) > 0.05


def test_the_work_of_the_method():
    """6.4 GFLOP for the cross-modal similarities, 38.7 for the exchange's, and the bank once in bfloat16."""
    size = {"P": 6, "N": 128, "K": 32768, "D": 128, "S": 3, "itemsize": 2}
    cross = roofline.work("cross_modal_contrast", **size, backward=False)
    assert cross.operations == pytest.approx(6.44e9, rel=1e-3)
    assert roofline.work("implicit_exchange", **size, backward=False).operations == 6 * cross.operations
    assert cross.bytes == pytest.approx(50.3e6, rel=1e-2)
    assert cross.floor({"bytes_per_s": 4.3e12, "operations_per_s": 790e12}) == pytest.approx(
        11.7e-6, rel=1e-2
    )


def test_in_turn_times_every_run():
    calls = []
    seconds = harness.in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert all(len(times) == 3 for times in seconds.values())
    assert harness.summary([0.3, 0.1, 0.2])["median_s"] == 0.2


@pytest.mark.parametrize("phase", bench_step.PHASES)
def test_the_step_computes_what_the_published_step_does(phase):
    bench_step.check_agreement(phase)


def test_a_step_that_computes_something_else_is_seen(monkeypatch):
    published = bench_step.PublishedStep
    monkeypatch.setattr(
        bench_step,
        "PublishedStep",
        lambda *given, **options: lambda *batch: 1.01 * published(*given, **options)(*batch),
    )
    with pytest.raises(AssertionError, match=r"float32 losses are .*e-03 away"):
        bench_step.check_agreement("contrast")


def test_every_part_of_a_step_is_timed():
    batch = bench_step.make_batch(2)
    step = bench_step.ours(bench_step.make_model("exchange", 64, hidden_channels=4, hidden_dim=16), 2)
    parts = bench_step.parts_of(lambda: step(*batch, "exchange"))
    assert set(parts) == set(bench_step.PARTS)
    assert all(seconds > 0 for seconds in parts.values())


def test_figures_take_the_place_of_the_last_ones(tmp_path, monkeypatch):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- x: measured -->\nold\n<!-- x: end -->\nafter\n")
    monkeypatch.setattr(publish, "PAGE", page)
    for line in ("newer", "newest"):
        publish.publish("x", [line], [tmp_path / "plot.png"])
    want = "before\n<!-- x: measured -->\nnewest\n\n![plot](../plot.png)\n<!-- x: end -->\nafter\n"
    assert page.read_text() == want


@pytest.mark.parametrize("bench", [bench_augment, bench_derive, bench_prepare])
def test_the_docs_have_a_place_for_every_input_benchmark(bench):
    text = publish.PAGE.read_text()
    for mark in ("measured", "end"):
        assert text.count(f"<!-- {bench.NAME}: {mark} -->") == 1


def test_every_way_derives_the_same():
    bench_derive.check_agreement()


@pytest.mark.parametrize("name", bench_augment.PER_CLIP)
def test_both_ways_augment(name):
    for augmented in (way() for way in bench_augment.ways(name).values()):
        assert augmented.shape == (bench_augment.N, *bench_augment.CLIP) and augmented.isfinite().all()


def test_preparation_is_measured_from_start_to_end(shared, tmp_path):
    result = bench_prepare.measure_all(shared / "data" / "ntu_skeletons", clips=70, out=tmp_path)
    assert result["clips"] == 70 and result["command"]["clips"] == 70
    assert "| `ikem-fast prepare ntu" in "\n".join(bench_prepare.table(result))

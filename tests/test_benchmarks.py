"""What the benchmarks compare and count, and that the published pages say what the results do.

How fast anything is, they say themselves.
"""

import json
import re
import sys

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import harness, publish, roofline, run
from benchmarks.published import loops
from benchmarks.subject import Settings
from benchmarks.subjects import (
    PAGES,
    SUBJECTS,
    augmentation,
    busy,
    compat,
    compat_step,
    derivation,
    losses,
    parts,
    preparation,
    step,
)


@pytest.fixture
def new_run(tmp_path):
    """A run on one thread that keeps its results in a scratch folder."""
    threads = torch.get_num_threads()
    yield lambda **settings: run.Run(Settings(threads=1, **settings), tmp_path / "subject-cpu.jsonl")
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", harness.LOSSES)
@pytest.mark.parametrize("way", ["fused", "published", "linear_cross_entropy"])
def test_every_way_computes_the_same(name, way):
    if way not in harness.WAYS:
        pytest.skip(f"torch {torch.__version__} has no {way}")
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
    ceilings = {"bytes_per_s": 4.3e12, "operations_per_s": 790e12}
    assert cross.floor(ceilings) == pytest.approx(11.7e-6, rel=1e-2)


def test_in_turn_times_every_run():
    calls = []
    seconds = run.in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert all(len(times) == 3 for times in seconds.values())
    assert run.summary([0.3, 0.1, 0.2])["s"][1] == 0.2


def test_results_come_back_as_they_were_measured(new_run):
    measured = new_run()
    measured.note(dtype="float32")
    measured.compare({"way": lambda: None}, rounds=2, more=lambda way: {"peak_mb": 1.23456}, N=3)
    (unfinished,) = run.read_results(measured.unfinished).rows  # there before the run is over
    measured.keep()
    read = run.read_results(measured.path)
    assert read.rows == [unfinished] and not measured.unfinished.exists()
    assert read.about["dtype"] == "float32" and read.about["threads"] == 1
    (row,) = read.rows
    assert (row["way"], row["N"], row["rounds"], row["peak_mb"]) == ("way", 3, 2, 1.235)
    assert len(row["s"]) == 3


def test_the_plan_leaves_out_what_would_take_too_long():
    plan = losses.Plan(bytes=1 << 30, seconds=1.0, minutes=5, compiles=lambda *size: False)
    size = ("published", ("info_nce",), 64, 4096, losses.BOTH)
    assert plan.obstacle(*size, minutes=0) is None
    assert plan.obstacle(*size, minutes=6) == "no time left"
    plan.took(*size, seconds=0.9)
    assert plan.obstacle("published", ("info_nce",), 128, 4096, losses.BOTH, minutes=0) == "about 1.8 s"
    assert "logits" in plan.obstacle("published", ("info_nce",), 4096, 1 << 20, losses.BOTH, minutes=0)
    assert plan.obstacle(losses.COMPILED, *size[1:], minutes=0) == "not compiled"


def test_a_size_of_the_losses_reads_as_a_row(new_run):
    measured = new_run()
    measured.note(dtype="float32", operations_per_s=1e11, bytes_per_s=1e10)
    plan = losses.Plan(bytes=1 << 14, seconds=1.0, minutes=5, compiles=lambda *size: False)
    losses.measure_size(measured, plan, ("info_nce",), 2, 4096, losses.FORWARD, rounds=1)
    assert [row.get("way") for row in measured.rows] == ["fused", None]
    assert set(measured.rows[1]["left_out"]) == {"published", "closed form"}
    text = "\n".join(losses.grid(measured))
    assert "| info_nce | forward | 2 |" in text and losses.left_out(measured).count("2 because") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="pins processes to cores")
def test_losses_are_measured_beside_busy_processes(new_run):
    """Another checkout's losses are taken from there: here from this one, under its other name."""
    measured = new_run(quick=True, against=run.ROOT)
    busy.measure(measured, N=2, K=512)
    found = {(row["condition"], row["way"]): row for row in measured.rows}
    assert set(found) == {
        (c, w) for c in (busy.QUIET, busy.LOADED) for w in ("fused", "published", busy.BEFORE)
    }
    assert all(row["rounds"] == busy.QUICK_ROUNDS and row["s"][1] > 0 for row in measured.rows)
    assert f"| {busy.BEFORE} |" in "\n".join(busy.table(measured))
    assert busy.LOADED in busy.headline(measured)


def test_busy_processes_that_disagree_are_refused():
    class Fake:
        def __init__(self, *norms):
            self.norms = norms

    with pytest.raises(AssertionError, match=r"fused: gradients of 1\.5, published 1\.0"):
        busy.check_agreement({"fused": Fake(1.0, 1.5), "published": Fake(1.0, 1.0)})


@pytest.mark.parametrize("phase", [pytest.param("contrast", marks=pytest.mark.slow), *step.PHASES[1:]])
def test_the_step_computes_what_the_published_step_does(phase):
    step.check_agreement(phase)


def test_a_step_that_computes_something_else_is_seen(monkeypatch):
    published = step.PublishedStep
    monkeypatch.setattr(
        step,
        "PublishedStep",
        lambda *given, **options: lambda *batch: 1.01 * published(*given, **options)(*batch),
    )
    with pytest.raises(AssertionError, match=r"float32 losses are (9\.\de-03|1\.0e-02) away"):
        step.check_agreement("contrast")


def test_every_part_of_a_step_is_timed():
    batch = step.make_batch(2)
    call = step.ours(step.make_model("exchange", 64, hidden_channels=4, hidden_dim=16), 2)
    parts = step.parts_of(lambda: call(*batch, "exchange"))
    assert set(parts) == set(step.PARTS)
    assert all(seconds > 0 for seconds in parts.values())


@pytest.fixture(scope="module", params=[parts.PLAIN, parts.FUSED])
def two_counted_steps(request):
    if request.param == parts.FUSED:
        pytest.importorskip("triton")
    small = {"modalities": ("joint", "bone"), "hidden_channels": 4, "hidden_dim": 16}
    return parts.noted("exchange", 4, 16, steps_taken=2, encoders=request.param, **small)


def test_a_step_never_waits_for_the_gpu(two_counted_steps):
    """Tensors without memory have no value to wait for; and a part has the launches that it always had."""
    counted = two_counted_steps[0].parts
    assert set(counted) == {*step.PARTS, "rest"}
    assert counted["query"]["launches"] <= 2 * 290 and counted["backward"]["launches"] <= 2 * 310
    assert counted["key"]["operations"] == counted["query"]["operations"] > 0
    assert counted["optimiser"]["launches"] <= 20


def test_a_wait_is_seen(monkeypatch):
    monkeypatch.setattr(
        "ikem_fast.train.step.gradient_norm", lambda p: torch.ones(()) * p[0].grad.sum().item()
    )
    with pytest.raises(torch._subclasses.fake_tensor.DataDependentOutputException):
        parts.noted("contrast", 2, 8, modalities=("joint",), hidden_channels=4, hidden_dim=16)


def test_a_step_takes_the_memory_that_the_one_before_gave_back(two_counted_steps):
    """As many pieces of every size: torch's allocator asks the device for none."""
    first, second = two_counted_steps
    assert first.allocated == second.allocated and sum(first.allocated.values()) > 100


@pytest.mark.parametrize("name", loops.LOOPS)
def test_loops_of_others_agree_before_and_after(name):
    assert compat.disagreement(name, loops.draw(6, 80, wide=40)) < 1e-4


@pytest.mark.parametrize("phase", ["contrast", "cross"])
def test_steps_of_others_agree_before_and_after(phase):
    assert compat_step.disagreement(phase) < 1e-4


def test_every_way_derives_the_same():
    derivation.check_agreement()


@pytest.mark.parametrize("name", augmentation.PER_CLIP)
def test_both_ways_augment(name):
    for augmented in (way() for way in augmentation.ways(name).values()):
        assert augmented.shape == (augmentation.N, *augmentation.CLIP) and augmented.isfinite().all()


def test_preparation_is_measured_from_start_to_end(shared, new_run):
    measured = new_run(skeletons=shared / "data" / "ntu_skeletons")
    preparation.measure(measured, clips=70)
    assert measured.rows[-1]["files"] == 70
    assert f"| `{preparation.COMMAND}" in "\n".join(preparation.table(measured))


def test_preparation_says_what_it_needs(capsys):
    with pytest.raises(SystemExit, match="--skeletons: expected a folder"):
        command.main(["preparation"])


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["losses", "--device", "tpu"]])
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as refusal:
        command.main(arguments)
    assert refusal.value.code == 2 and "usage: python -m benchmarks" in capsys.readouterr().err


def test_every_command_that_is_written_down_is_valid():
    """In the pages, the guides and the script for a GPU."""
    files = [*run.ROOT.glob("*.md"), *publish.DOCS.rglob("*.md"), run.ROOT / "benchmarks" / "run_on_gpu.sh"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    for shell, word in (('"$python"', "python"), ('"$1"', "step"), ('"$out"', "out"), ("SUBJECT", "losses")):
        text = text.replace(shell, word)
    written = re.findall(r"python -m benchmarks ([^`\n;]+)", text)
    assert len(written) > 5
    for words in written:
        command.parse(words.replace("NAME", "losses").split())


def test_every_subject_has_one_page():
    assert sorted(subject for _, subjects in PAGES.values() for subject in subjects) == sorted(SUBJECTS)


def test_calls_for_profiling_have_names_of_their_own():
    names = [(name, group, way) for name, subject in SUBJECTS.items() for group, way, _ in subject.calls()]
    assert len(names) == len(set(names)) > 20


def test_the_pages_say_what_the_results_do():
    """`python -m benchmarks publish` wrote them, and nobody since."""
    texts, figures = publish.pages()
    for path, text in texts.items():
        assert (publish.DOCS / path).read_text(encoding="utf-8") == text, (
            f"{path}: python -m benchmarks publish"
        )
    for path in figures:
        assert (publish.DOCS / path).is_file(), path


def test_results_are_short_lines():
    for path in (p for p in run.RESULTS.iterdir() if p.suffix != ".part"):  # of a run that goes on
        assert path.suffix == ".jsonl" and path.stem.rpartition("-")[0] in SUBJECTS, path
        for line in path.read_text(encoding="utf-8").splitlines():
            assert json.loads(line) and len(line) < 500, f"{path.name}: {line[:80]} …"


def test_a_subject_without_results_says_how_to_measure_it(tmp_path):
    texts, figures = publish.pages(tmp_path)
    assert "python -m benchmarks step --device cpu --publish" in texts["performance/step.md"]
    assert "not measured" in texts["performance.md"] and not figures

"""The stages of a day with a GPU: limits, going on, and a first page that says what holds.

CI rehearses all of it (`bash benchmarks/run_on_gpu.sh --rehearse`); here stages are short programs.
"""

import json
import sys
import time

import pytest

from benchmarks import __main__ as command
from benchmarks import day, judge
from benchmarks.subjects import kernels, step
from ikem_fast.cli.commands import all_commands
from ikem_fast.cli.parser import parse

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the script for a GPU is one for Linux")


@pytest.fixture
def stages(monkeypatch):
    """Has the day consist of these programs, stage → (seconds, text)."""

    def use(**programs):
        table = {
            name: day.Stage(name, seconds / 60, lambda folder, rehearse, text=text: [["-c", text]])
            for name, (seconds, text) in programs.items()
        }
        monkeypatch.setattr(day, "STAGES", table)

    return use


def end_of(out, *stages):
    with pytest.raises(SystemExit) as ended:
        day.main(["--rehearse", "--out", str(out), *stages])
    return ended.value.code


def test_a_stage_that_failed_is_run_again_and_one_that_ended_well_is_not(stages, tmp_path, capfd):
    once = f"open({str(tmp_path / 'once')!r}, 'a').write('.')"
    twice = f"file = open({str(tmp_path / 'twice')!r}, 'a+'); file.write('.'); file.flush(); file.seek(0); "
    stages(good=(60, once), bad=(60, twice + "exit(0 if len(file.read()) > 1 else 3)"))
    assert end_of(tmp_path / "out") == 1
    assert "| bad |" in (tmp_path / "out" / day.PAGE).read_text() and "status 3: -c" in capfd.readouterr().out
    assert end_of(tmp_path / "out") == 0
    assert (tmp_path / "once").read_text() == "." and (tmp_path / "twice").read_text() == ".."


def test_a_stage_ends_at_its_limit_with_all_that_it_started(stages, tmp_path):
    late = tmp_path / "late"
    child = f"import time; time.sleep(4); open({str(late)!r}, 'w')"
    text = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    stages(slow=(1, text))
    began = time.monotonic()
    assert end_of(tmp_path) == 1
    assert day.outcome(tmp_path / "slow")["problem"].startswith("ended at its limit")
    time.sleep(max(0, began + 5 - time.monotonic()))
    assert not late.exists()


def test_unknown_stages_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        day.main(["--out", str(tmp_path), "nothing"])
    assert "expected stages of build, tests" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("rehearse", [False, True])
def test_every_command_is_valid(rehearse, tmp_path):
    for name, stage in day.STAGES.items():
        for module, *arguments in (list(map(str, c[1:])) for c in stage.commands(tmp_path / name, rehearse)):
            if module == "benchmarks":
                command.parse(arguments)
            elif module == "ikem_fast":
                words = 2 if arguments[0] == "prepare" else 1
                parse(all_commands()[" ".join(arguments[:words])], arguments[words:])


def put(folder, subject, about, *rows):
    folder.mkdir(parents=True, exist_ok=True)
    lines = ({"gpu": "NVIDIA H200"} | about, *rows)
    (folder / f"{subject}-cuda.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def fused(losses, seconds, way="fused"):
    return {"losses": losses, "bank": "bfloat16", "way": way, "s": [seconds] * 3, "rounds": 9}


def test_the_page_says_what_holds(tmp_path, monkeypatch):
    """By made-up figures: a loss as predicted, one far from it, and what was never measured."""
    predictions = tmp_path / "predictions.jsonl"
    N, K = kernels.METHOD
    made_up = [
        {"card": "H200", "loss": loss, "N": N, "K": K, "kernel": "similarities", "launches": 1,
         "predicted": 1e-4, "limit": 1e-4, "plain": 1e-3}
        for loss in kernels.LOSSES
    ]  # fmt: skip
    predictions.write_text("".join(json.dumps(row) + "\n" for row in ({}, *made_up)))
    monkeypatch.setattr(kernels, "PREDICTIONS", predictions)
    monkeypatch.setattr(judge.parts, "clips_per_second", {"H200": 5000}.get)
    rows = [
        fused(judge.BOTH, 2.2e-4), fused(judge.BOTH, 1e-3, kernels.TORCH),
        fused("relational_distillation", 2e-4), fused("relational_distillation", 1e-4, kernels.TORCH),
    ]  # fmt: skip
    put(tmp_path / "kernels", "kernels", {"N": N, "K": K}, *rows)
    put(tmp_path / "autotune", "kernels", {"N": N, "K": K}, fused(judge.BOTH, 2.1e-4))
    phase_2 = {"phase": "exchange", "way": "captured", "N": 128, "s": [0.0128] * 3, "rounds": 5}
    put(tmp_path / "step", "step", {}, phase_2)
    metrics = tmp_path / "training" / "fast" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text(json.dumps({"phase": "exchange", "loss": 1.0, "clips_per_second": 9500.0}) + "\n")
    found = judge.claims(tmp_path)
    assert len(found) == 10
    verdicts = {c.what.split(",")[0]: (c.predicted, c.measured, c.verdict) for c in found}
    assert verdicts["cross_modal_contrast + implicit_exchange"] == ("200", "220", "holds")
    assert verdicts["relational_distillation"] == ("100", "200", "**fails**")
    assert verdicts["nearest_neighbors"] == ("100", "–", "–")
    assert verdicts["plain torch takes longer than each loss"][1].startswith("0.5 (relational_distillation")
    assert verdicts["a step of phase 2"] == ("5,000", "10,000 (captured)", "holds")
    assert verdicts["training in phase 2"] == ("≥ 9,000", "9,500", "holds")
    assert verdicts["pinned tiles take longer than the fastest"][1:] == ("1.05", "holds")
    assert "| nearest_neighbors, forward and backward, µs | 100 | – | – |" in day.page(tmp_path)


def test_rows_of_a_run_that_was_ended_are_read(tmp_path):
    (tmp_path / "step-cuda.part").write_text('{"gpu": "NVIDIA H200"}\n{"phase": "exchange"}\n')
    assert judge.results(tmp_path, "step").rows == [{"phase": "exchange"}]


def test_the_sweep_takes_the_batches_that_fit():
    """At 0.05 GB a clip 4096 of them need 205 GB, which no card has."""
    assert max(N for N, _, _ in step.points("cuda", 141, 0.05)) == 1024
    assert max(N for N, _, _ in step.points("cuda", 300, 0.05)) == 4096
    assert max(N for N, _, _ in step.points("cpu", float("inf"), 0.05)) == 256

"""Budgets: what ends a run, what is scheduled by its share of it, and that going on changes nothing."""

import itertools
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from ikem_fast.errors import InputError
from ikem_fast.nn import IKEM
from ikem_fast.runtime.processes import Processes
from ikem_fast.train import PretrainConfig, load_checkpoint, pretrain
from ikem_fast.train import loop as loop_module
from ikem_fast.train.budget import Budget, Progress
from ikem_fast.train.step import Step
from ikem_fast.train.tasks.pretrain import Pretraining
from ikem_fast.train.views import Views
from tests.train import tiny
from tests.train.tiny import TINY

MODEL = replace(tiny.MODEL, dropout=0.2)
ALONE = Processes(0, 1, torch.device("cpu"))


def settings(out, **changes):
    return PretrainConfig(
        **{"data": TINY, "out": out, "batch_size": 2, "lr": 0.01, "device": "cpu", "model": MODEL, **changes}
    )


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(first, second):
    for part in ("model", "optimizer"):
        states = [load_checkpoint(folder)[part] for folder in (first, second)]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    assert [r["losses"] for r in metrics(first)][-1] == [r["losses"] for r in metrics(second)][-1]


def interrupt_after(steps, monkeypatch):
    """Have a run stopped within a stretch, after so many steps."""

    class Interrupted(Views):
        done = 0

        def __call__(self, *args):
            self.done += 1
            if self.done > steps:
                raise KeyboardInterrupt
            return super().__call__(*args)

    monkeypatch.setattr(loop_module, "Views", Interrupted)


@pytest.mark.parametrize(
    ("ends", "steps"),
    [
        ({"max_steps": 5}, 5),
        ({"epochs": 2}, 4),
        ({"max_steps": 5, "epochs": 2}, 4),
        ({"max_steps": 3, "epochs": 2}, 3),
    ],
)
def test_what_is_reached_first_ends_a_run(ends, steps, tmp_path):
    pretrain(settings(tmp_path, **ends))
    state = load_checkpoint(tmp_path)
    assert (state["step"], state["epoch"]) == (steps, steps // 2)
    assert metrics(tmp_path)[-1]["step"] == steps


def test_the_published_number_of_epochs_is_where_nothing_else_ends_a_run(tmp_path):
    assert settings(tmp_path).total_steps(7) == 2100
    assert settings(tmp_path, max_steps=10_000).total_steps(7) == 10_000
    assert settings(tmp_path, max_minutes=1).total_steps(7) is None


def test_minutes_end_a_run_and_those_used_are_kept(tmp_path, monkeypatch):
    """By a clock that goes on by a second whenever it is looked at."""
    clock = SimpleNamespace(monotonic=partial(next, itertools.count(0.0)))
    monkeypatch.setattr("ikem_fast.train.budget.time", clock)
    config = settings(tmp_path, max_minutes=10 / 60, schedule="cosine", checkpoint_steps=2)
    pretrain(config)
    state = load_checkpoint(tmp_path)
    assert state["seconds"] >= 10 and 6 <= state["step"] <= 9
    pretrain(replace(config, resume=True))
    assert load_checkpoint(tmp_path)["step"] == state["step"], "its time was used up"
    rates = [record["lr"] for record in metrics(tmp_path)]
    assert rates == sorted(rates, reverse=True) and rates[-1] < rates[0]


def test_processes_agree_on_the_time():
    """A second process takes the first's clock, now and then; its own runs ahead."""

    class Second(Processes):
        def of_first(self, work):
            return 30.0

    budget = Budget(2, None, 1, Second(1, 2, torch.device("cpu")), seconds=59)
    assert budget.progress().share == 0.5 and not budget.progress().over


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_gone_on_with_in_the_middle_of_an_epoch_gives_the_same_bits(optimizer, tmp_path):
    config = settings(tmp_path / "whole", max_steps=7, optimizer=optimizer, lr=0.002, exchange_from=3)
    pretrain(config)
    parts = replace(config, out=tmp_path / "parts", resume=True)
    for steps in (1, 3, 7):
        pretrain(replace(parts, max_steps=steps))
        assert load_checkpoint(parts.out)["step"] == steps
    assert_same_run(config.out, parts.out)


def test_an_interrupted_run_on_shares_of_its_budget_gives_the_same_bits(tmp_path, monkeypatch):
    config = settings(
        tmp_path / "whole", max_steps=7, schedule="cosine", warmup=0.3, exchange_from=0.5, checkpoint_steps=2
    )
    pretrain(config)
    parts = replace(config, out=tmp_path / "parts", resume=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(5, patch)
        pretrain(parts)
    assert load_checkpoint(parts.out)["step"] == 4
    pretrain(parts)
    assert_same_run(config.out, parts.out)
    phases = [(record["step"], record["phase"]) for record in metrics(config.out)]
    assert phases == [(2, "contrast"), (3, "contrast"), (4, "exchange"), (6, "exchange"), (7, "exchange")]
    assert [(r["step"], r["phase"]) for r in metrics(parts.out)] == phases


@pytest.mark.parametrize("changes", [{"schedule": "cosine"}, {"warmup": 0.1}, {"exchange_from": 0.5},
                                     {"lr_milestones": (0.5,)}])  # fmt: skip
def test_a_budget_that_schedules_depend_on_does_not_change(changes, tmp_path):
    config = settings(tmp_path, max_steps=2, **changes)
    pretrain(config)
    with pytest.raises(InputError, match="max_steps was 2 and is 4"):
        pretrain(replace(config, max_steps=4, resume=True))


def test_checkpoints_are_seldom_and_last(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(
        "ikem_fast.train.keeper.save_checkpoint", lambda path, **parts: kept.append(parts["step"])
    )
    pretrain(settings(tmp_path / "seldom", max_steps=7))
    assert kept == [7]
    kept.clear()
    pretrain(settings(tmp_path / "often", max_steps=7, checkpoint_steps=2))
    assert kept == [2, 4, 6, 7]


def rates(config, shares=(0.05, 0.15, 0.5, 0.95)):
    return [config.learning_rate(Progress(steps=0, epoch=1, batch=0, share=share)) for share in shares]


def test_schedules(tmp_path):
    config = settings(tmp_path, lr=1.0)
    assert rates(config) == [1, 1, 1, 1]
    assert rates(replace(config, lr_milestones=(0.5, 0.9))) == pytest.approx([1, 1, 0.1, 0.01])
    assert rates(replace(config, warmup=0.1)) == pytest.approx([0.5, 1, 1, 1])
    cosine = replace(config, schedule="cosine")
    assert rates(cosine, (0, 0.5, 1)) == pytest.approx([1, 0.5, 0])
    assert rates(replace(cosine, warmup=0.2), (0.1, 0.2, 0.6, 1)) == pytest.approx([0.5, 1, 0.5, 0])


def test_adamw_decays_weights_but_no_biases_and_no_normalizations(tmp_path):
    """One step without gradients of the loss: what moves is what decays."""
    model = IKEM(**vars(MODEL))
    step = Step(
        Pretraining(model, MODEL, None),
        settings(tmp_path, optimizer="adamw", weight_decay=0.5, lr=0.1),
        ALONE,
    )
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in step.parameters:
        parameter.grad = torch.zeros_like(parameter)
    step.optimizer.step()
    for name, value in model.named_parameters():
        expected = before[name] * (0.95 if value.requires_grad and value.dim() > 1 else 1)
        torch.testing.assert_close(value.detach(), expected, msg=name)


def test_an_optimizer_of_another_kind_is_refused(tmp_path):
    pretrain(settings(tmp_path, max_steps=1))
    with pytest.raises(InputError, match="optimizer was 'sgd' and is 'adamw'"):
        pretrain(settings(tmp_path, max_steps=1, optimizer="adamw", resume=True))

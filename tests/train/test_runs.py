"""Training runs on tiny data: both kinds, resumed exactly, damaged, stopped."""

import json
from dataclasses import replace

import pytest
import torch

from ikem_fast.errors import InputError
from ikem_fast.train import DistillConfig, ModelConfig, PretrainConfig, distill, load_checkpoint, pretrain
from ikem_fast.train import loop as loop_module
from ikem_fast.train.budget import Progress
from ikem_fast.train.views import Views
from tests.helpers import ONE_BLOCK

MODEL = ModelConfig(
    feature_dim=8, queue_size=16, hidden_channels=4, encoder=ONE_BLOCK, dropout=0.2, momentum=0.9
)


@pytest.fixture(scope="module")
def settings(tiny_dataset, tmp_path_factory):
    return PretrainConfig(
        data=tiny_dataset,
        out=tmp_path_factory.mktemp("runs") / "teacher",
        epochs=3,
        exchange_from=3,
        batch_size=8,
        lr=0.05,
        device="cpu",
        model=MODEL,
    )


@pytest.fixture(scope="module")
def teacher(settings):
    return pretrain(settings)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_weights(first, second):
    first, second = load_checkpoint(first), load_checkpoint(second)
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name]), name


def test_a_run_leaves_checkpoint_metrics_and_scalars(settings, teacher):
    state = load_checkpoint(teacher)
    assert (state["kind"], state["epoch"]) == ("pretrain", 3)
    assert state["model_config"]["queue_size"] == 16
    lines = metrics(settings.out)
    assert [line["phase"] for line in lines] == ["contrast", "contrast", "exchange"]
    assert list(lines[0]["losses"]) == list(MODEL.modalities)
    assert all(line["clips_per_second"] > 0 for line in lines)
    assert any(settings.out.glob("events.out.tfevents.*"))
    assert not list(settings.out.glob("*.partial"))


def test_a_resumed_run_gives_the_same_bits(settings, teacher, tmp_path):
    out = tmp_path / "resumed"
    pretrain(replace(settings, out=out, epochs=1))
    pretrain(replace(settings, out=out, resume=True))
    assert_same_weights(teacher, out)
    assert [line["epoch"] for line in metrics(out)] == [1, 2, 3]
    losses = [line["losses"] for line in metrics(out)]
    assert losses == [line["losses"] for line in metrics(settings.out)]


def test_a_run_stopped_within_an_epoch_goes_on_from_the_one_before(settings, teacher, tmp_path, monkeypatch):
    out = tmp_path / "stopped"

    class Stopping(Views):
        steps = 0

        def __call__(self, *args):
            self.steps += 1
            if self.steps > 4:
                raise KeyboardInterrupt
            return super().__call__(*args)

    monkeypatch.setattr(loop_module, "Views", Stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain(replace(settings, out=out, checkpoint_steps=1))
    monkeypatch.undo()
    assert load_checkpoint(out)["epoch"] == 1
    pretrain(replace(settings, out=out, resume=True))
    assert_same_weights(teacher, out)


def test_the_seed_decides(settings, teacher, tmp_path):
    other = pretrain(replace(settings, out=tmp_path / "other", epochs=1, seed=1))
    same = pretrain(replace(settings, out=tmp_path / "same", epochs=1))
    first = [metrics(path.parent)[0]["losses"] for path in (teacher, same, other)]
    assert first[0] == first[1] != first[2]


def test_a_finished_folder_is_not_trained_over(settings, teacher):
    with pytest.raises(InputError, match="--resume"):
        pretrain(settings)


def test_another_model_does_not_resume(settings, teacher):
    with pytest.raises(InputError, match=r"model.queue_size was 16 and is 8"):
        pretrain(replace(settings, resume=True, model=replace(MODEL, queue_size=8)))


def test_mixed_precision_follows_float32(settings, teacher, tmp_path):
    pretrain(replace(settings, out=tmp_path / "amp", epochs=1, amp=True))
    full, mixed = metrics(settings.out)[0]["loss"], metrics(tmp_path / "amp")[0]["loss"]
    assert mixed == pytest.approx(full, rel=0.05)


def test_learning_rate_falls_after_each_milestone(settings):
    config = replace(settings, lr=1.0, lr_milestones=(2, 5))
    epochs = [Progress(steps=0, epoch=epoch, batch=0, share=0) for epoch in (1, 2, 3, 5, 6)]
    assert [config.learning_rate(epoch) for epoch in epochs] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_the_published_augmentation_stream_repeats(settings, tmp_path, monkeypatch):
    drawn = []

    class Remembering(Views):
        def __call__(self, *args):
            query, key = super().__call__(*args)
            drawn.extend((query.augmentation["shear"], key.augmentation["shear"]))
            return query, key

    monkeypatch.setattr(loop_module, "Views", Remembering)
    pretrain(replace(settings, out=tmp_path / "repeat", epochs=2, fresh_augmentation=False))
    half = len(drawn) // 2
    assert torch.equal(drawn[0], drawn[half])
    assert not torch.equal(drawn[0], drawn[1])
    drawn.clear()
    pretrain(replace(settings, out=tmp_path / "fresh", epochs=2))
    assert not torch.equal(drawn[0], drawn[half])


def test_distillation_trains_students_against_a_frozen_teacher(settings, teacher, tmp_path):
    config = DistillConfig(
        data=settings.data, out=tmp_path / "student", teacher=teacher, epochs=2, batch_size=8, lr=0.05,
        device="cpu",
    )  # fmt: skip
    student = load_checkpoint(distill(config))
    assert [list(line["losses"]) for line in metrics(config.out)] == [["joint", "motion", "bone"]] * 2
    before = load_checkpoint(teacher)["model"]
    for name, value in before.items():
        if name.startswith("query_encoders."):
            frozen = student["model"]["teacher." + name.removeprefix("query_encoders.")]
            assert torch.equal(value, frozen), name
    with pytest.raises(InputError, match="expected a checkpoint of pretrain, found distill"):
        distill(replace(config, teacher=config.out, out=tmp_path / "again"))


def test_a_dataset_smaller_than_a_batch_is_named(settings, tmp_path):
    with pytest.raises(InputError, match="at least one batch of 500"):
        pretrain(replace(settings, out=tmp_path / "x", batch_size=500, drop_last=True))


def test_more_clips_in_a_batch_than_in_the_bank(settings, tmp_path):
    with pytest.raises(InputError, match="queue_size"):
        pretrain(replace(settings, out=tmp_path / "x", batch_size=24))


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_a_device_that_is_not_there(settings, tmp_path, device):
    with pytest.raises(InputError, match=f"device: '{device}'"):
        pretrain(replace(settings, out=tmp_path / "x", device=device))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_foreign_checkpoints_are_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        load_checkpoint(path)


def test_a_cut_checkpoint_is_refused(teacher, tmp_path):
    cut = tmp_path / "cut.pt"
    cut.write_bytes(teacher.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(cut)


class _Payload:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_checkpoint_cannot_run_code(tmp_path, capsys):
    path = tmp_path / "hostile.pt"
    torch.save({"format": "ikem-fast checkpoint", "model": _Payload()}, path)
    with pytest.raises(InputError, match="foreign"):
        load_checkpoint(path)
    torch.save({"some": "tensors"}, path)
    with pytest.raises(InputError, match="another file"):
        load_checkpoint(path)
    assert "code ran" not in capsys.readouterr().out

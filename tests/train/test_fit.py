"""What a run leaves behind it in memory, what is checked ahead of it, and what it never writes."""

import gc
import json
import weakref
from dataclasses import replace

import pytest
import torch

from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.nn import IKEM
from ikem_fast.runtime.processes import Processes
from ikem_fast.train import DistillConfig, ModelConfig, PretrainConfig, distill, load_checkpoint, pretrain
from ikem_fast.train.loop import fit
from ikem_fast.train.step import Step
from ikem_fast.train.tasks.pretrain import Pretraining
from tests.helpers import ONE_BLOCK

MODEL = ModelConfig(
    feature_dim=4,
    queue_size=12,
    hidden_channels=2,
    encoder=ONE_BLOCK,
    modalities=("joint", "bone"),
    dropout=0.0,
    impl="reference",
)
ALONE = Processes(0, 1, torch.device("cpu"))


def settings(data, out, **changes):
    return PretrainConfig(
        **{"data": data, "out": out, "epochs": 1, "batch_size": 12, "lr": 0.05, "device": "cpu",
           "model": MODEL, **changes}
    )  # fmt: skip


class Failing(Pretraining):
    def losses(self, batch, phase, gather):
        raise InputError("expected a step, found none")


@pytest.mark.parametrize("kind", [Pretraining, Failing])
def test_model_step_and_graph_die_with_the_run(kind, tiny_dataset, tmp_path, monkeypatch):
    """Without the cycle collector: nothing refers back to what refers to it."""
    alive = []

    class Watched(Step):
        def __init__(self, *args):
            super().__init__(*args)
            alive.append(weakref.ref(self))
            alive.append(weakref.ref(self.optimizer))

    monkeypatch.setattr("ikem_fast.train.loop.Step", Watched)

    def run():
        task = kind(IKEM(**vars(MODEL)), MODEL, 2)
        alive.append(weakref.ref(task.model))
        alive.append(weakref.ref(task))
        try:
            fit(task, settings(tiny_dataset, tmp_path), open_dataset(tiny_dataset), ALONE)
        except InputError:
            assert kind is Failing
        else:
            assert kind is Pretraining

    gc.collect()
    gc.disable()
    try:
        run()
        assert len(alive) == 4 and [reference() for reference in alive] == [None] * 4
    finally:
        gc.enable()


def test_the_loop_and_the_loader_know_no_bank():
    from ikem_fast.data import loader
    from ikem_fast.train import loop, step

    for module in (loop, step, loader):
        source = module.__loader__.get_source(module.__name__)
        assert "bank" not in source and "queue" not in source, module.__name__


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 13}, r"batch_size: expected at most model.queue_size = 12"),
        ({"epochs": 5, "exchange_from": 5, "model": replace(MODEL, modalities=("joint",))}, "at least two"),
        ({"model": replace(MODEL, topk=13)}, r"model\.topk: expected at most queue_size = 12"),
        ({"lr": 1e6}, "lr: expected a number > 0 and ≤ 100"),
        ({"compile": "fast"}, "compile: expected one of off, on, max, found 'fast'"),
        ({"lr_milestones": (5, 2)}, "lr_milestones: expected rising numbers"),
    ],
)
def test_what_can_be_known_at_the_start_is_refused_at_the_start(tiny_dataset, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        pretrain(settings(tiny_dataset, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_one_modality_trains_where_phase_2_never_comes(tiny_dataset, tmp_path):
    model = replace(MODEL, modalities=("joint",))
    pretrain(settings(tiny_dataset, tmp_path, exchange_from=2, model=model))
    assert load_checkpoint(tmp_path)["epoch"] == 1


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [("weight", r"exchange_heads.bone.0.bias not finite"), ("loss", r"a loss of bone that is inf")],
)
def test_numbers_that_are_not_finite_are_never_written(tiny_dataset, tmp_path, monkeypatch, spoiled, said):
    """A loss, or a weight at finite losses: the checkpoint before it stays, and is said to."""
    config = settings(tiny_dataset, tmp_path)
    pretrain(config)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    class Spoiling(Pretraining):
        def losses(self, batch, phase, gather):
            found = super().losses(batch, phase, gather)
            with torch.no_grad():
                if spoiled == "weight":
                    self.model.exchange_heads["bone"][0].bias[0] = torch.inf
                else:
                    found[1] = torch.inf
            return found

    monkeypatch.setattr("ikem_fast.train.tasks.pretrain.Pretraining", Spoiling)
    with pytest.raises(InputError, match=rf"{said}.* in epoch 2; the checkpoint of step 2"):
        pretrain(replace(config, epochs=2, resume=True))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    with pytest.raises(InputError, match="in epoch 1; there is no checkpoint yet"):
        pretrain(replace(config, out=tmp_path / "other"))
    assert not (tmp_path / "other" / "checkpoint.pt").exists()


@pytest.fixture(scope="module")
def checkpoint(tiny_dataset, tmp_path_factory):
    return pretrain(settings(tiny_dataset, tmp_path_factory.mktemp("fit")))


@pytest.mark.parametrize(
    "part", ["version", "kind", "config", "model_config", "dataset", "epoch", "model", "optimizer"]
)
@pytest.mark.parametrize("way", ["missing", "another type"])
def test_a_checkpoint_without_a_part_is_one_message(checkpoint, tmp_path, part, way):
    state = load_checkpoint(checkpoint)
    del state[part]
    if way == "another type":
        state[part] = ["something"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=f"checkpoint.pt: expected a checkpoint with '{part}' in it"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("model_config", {"surprise": 1}, "known settings.*surprise"),
        ("model", {}, "do not fit"),
        ("model", {"bank.rows": 3}, "tensors, found something else"),
        ("dataset", {}, "joint layout"),
        ("dataset", {"layout": "sbu"}, "expected a model for the layout"),
    ],
)
def test_a_teacher_that_is_odd_is_one_message(checkpoint, tiny_dataset, tmp_path, part, value, message):
    torch.save({**load_checkpoint(checkpoint), part: value}, tmp_path / "teacher.pt")
    with pytest.raises(InputError, match=message):
        distill(
            DistillConfig(
                data=tiny_dataset,
                teacher=tmp_path / "teacher.pt",
                out=tmp_path / "run",
                batch_size=8,
                device="cpu",
            )
        )
    assert not (tmp_path / "run").exists()


def test_a_flipped_bit_is_found(checkpoint, tmp_path):
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"flipped.pt: expected a checkpoint, found"):
        load_checkpoint(tmp_path / "flipped.pt")


def test_nobody_is_advised_to_let_a_file_run_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"format": "ikem-fast checkpoint", "model": Payload()}, tmp_path / "foreign.pt")
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path / "foreign.pt")
    assert "weights_only" not in str(caught.value) and "more than tensors" in str(caught.value)


def test_checkpoints_and_metrics_are_written_whole_or_not_at_all(tiny_dataset, tmp_path, monkeypatch):
    config = settings(tiny_dataset, tmp_path)
    pretrain(config)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*") if "tfevents" not in path.name}

    def full(state, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ikem_fast.runtime.checkpoint.torch.save", full)
    with pytest.raises(OSError, match="No space left"):
        pretrain(replace(config, epochs=2, resume=True))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before["checkpoint.pt"]
    assert not list(tmp_path.glob("*.partial"))
    monkeypatch.undo()
    pretrain(replace(config, epochs=2, resume=True))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]

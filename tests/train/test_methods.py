"""Methods that are presets of one trainer, and the momentum of keys over a run."""

import json

import pytest
import torch

from ikem_fast.errors import InputError
from ikem_fast.nn import IKEM
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain
from ikem_fast.train.budget import Progress
from ikem_fast.train.tasks.pretrain import Pretraining
from tests.train.tiny import MODEL, TINY


def settings(out, **changes):
    return PretrainConfig(
        **{"data": TINY, "out": out, "batch_size": 2, "lr": 0.01, "device": "cpu", "max_steps": 2,
           "exchange_from": 1, "model": MODEL, **changes}
    )  # fmt: skip


@pytest.fixture
def batch():
    return torch.randn(4, 3, 8, 25, 1), torch.randn(4, 3, 8, 25, 1)


def test_losses_of_phase_2_are_chosen_each_alone(batch):
    model = IKEM(**vars(MODEL)).eval()
    cross, exchange = (
        model(*batch, exchange=(name,)) for name in ("cross_modal_contrast", "implicit_exchange")
    )
    torch.testing.assert_close(model(*batch, exchange=True), cross + exchange)
    torch.testing.assert_close(model(*batch, exchange=()), model(*batch))
    assert not torch.allclose(cross, model(*batch))
    with pytest.raises(ValueError, match=r"exchange: expected one of .*, found 'implicit'"):
        model(*batch, exchange=("implicit",))


@pytest.mark.parametrize(
    ("method", "phase"),
    [("ikem", "exchange"), ("crossclr", "exchange"), ("exchange", "exchange"), ("skeletonclr", "contrast")],
)
def test_each_method_trains(method, phase, tmp_path):
    pretrain(settings(tmp_path, method=method))
    (record,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert record["phase"] == phase


def test_one_modality_has_no_phase_2(tmp_path):
    one = ModelConfig(**{**vars(MODEL), "modalities": ("joint",)})
    with pytest.raises(InputError, match=r"at least two.* --method skeletonclr"):
        pretrain(settings(tmp_path, model=one))
    pretrain(settings(tmp_path, model=one, method="skeletonclr"))


def test_momentum_rises_where_it_is_to(tmp_path):
    task = Pretraining(IKEM(**vars(MODEL)), MODEL, None, momentum_schedule="cosine")
    found = []
    for share in (0.0, 0.5, 1.0):
        task.advance(Progress(steps=0, epoch=1, batch=0, share=share))
        found.append(task.model.momentum)
    assert found == pytest.approx([0.999, 0.9995, 1.0])
    constant = Pretraining(IKEM(**vars(MODEL)), MODEL, None)
    constant.advance(Progress(steps=0, epoch=1, batch=0, share=0.5))
    assert constant.model.momentum == 0.999
    with pytest.raises(InputError, match="momentum_schedule: expected constant with cuda_graph"):
        pretrain(settings(tmp_path, momentum_schedule="cosine", cuda_graph=True))
    rising = settings(tmp_path / "run", momentum_schedule="cosine")
    pretrain(rising)
    with pytest.raises(InputError, match="max_steps was 2 and is 3"):
        pretrain(settings(tmp_path / "run", momentum_schedule="cosine", max_steps=3, resume=True))

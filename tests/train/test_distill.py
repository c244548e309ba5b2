"""Where students start, and what is in the bank when they do."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ikem_fast import ops
from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.nn import IKEM, RelationalDistiller
from ikem_fast.nn.encoders.base import encode_views
from ikem_fast.train import DistillConfig, ModelConfig, PretrainConfig, distill, load_checkpoint, pretrain
from ikem_fast.train.tasks.distill import Distillation
from tests.helpers import ONE_BLOCK

TINY = Path(__file__).parents[1] / "version1" / "data"
MODEL = ModelConfig(
    feature_dim=2,
    queue_size=6,
    hidden_channels=2,
    encoder=ONE_BLOCK,
    modalities=("joint", "motion"),
    dropout=0.0,
)
COMMON = {"data": TINY, "batch_size": 2, "device": "cpu", "max_steps": 1}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return pretrain(PretrainConfig(out=tmp_path_factory.mktemp("teacher"), model=MODEL, lr=0.01, **COMMON))


def backbone(state, prefix):
    return {k: v for k, v in state.items() if k.startswith(prefix) and ".fc." not in k and "running" not in k}


def test_students_start_where_they_are_told_to(teacher, tmp_path):
    config = DistillConfig(
        out=tmp_path / "teacher", teacher=teacher, students=("motion",), lr=1e-12, **COMMON
    )
    starts = {
        start: load_checkpoint(distill(replace(config, out=tmp_path / start, initialize=start)))["model"]
        for start in ("teacher", "random")
    }
    weights = backbone(load_checkpoint(teacher)["model"], "query_encoders.motion.")
    for start, state in starts.items():
        same = [
            torch.allclose(state[name.replace("query_encoders", "students")], value, atol=1e-6)
            for name, value in weights.items()
            if value.dim() == 4
        ]
        assert all(same) if start == "teacher" else not any(same), start


def test_a_student_of_a_modality_without_a_teacher_cannot_start_from_it(teacher, tmp_path):
    config = DistillConfig(
        out=tmp_path / "run", teacher=teacher, students=("motion", "bone"), initialize="teacher", **COMMON
    )
    with pytest.raises(InputError, match=r"initialize: .* joint, motion, to start from, found 'bone'"):
        distill(config)
    sizes = {
        "feature_dim": 2,
        "queue_size": 6,
        "hidden_channels": 1,
        "hidden_dim": 4,
        "modalities": ("joint",),
    }
    with pytest.raises(ValueError, match=r"initialize: .*found 'bone'"):
        RelationalDistiller(**sizes, students=("bone",), teacher=IKEM(**sizes), initialize="teacher")
    with pytest.raises(ValueError, match="initialize: expected one of"):
        RelationalDistiller(**sizes, students=("joint",), initialize="zeros")


def test_the_bank_is_filled_with_the_teachers_features_of_the_clips_as_they_are(
    teacher, tmp_path, monkeypatch
):
    """Four clips and six rows: the first two of the four are replaced by those that come again."""
    filled = []
    losses = Distillation.losses

    def remember(self, *args):
        filled.append((self.model.bank.rows.clone(), self.model))
        return losses(self, *args)

    monkeypatch.setattr(Distillation, "losses", remember)
    config = DistillConfig(
        out=tmp_path / "run", teacher=teacher, students=("joint",), fill_bank=True, **COMMON
    )
    distill(config)
    (rows, model), train = filled[0], open_dataset(TINY)["train"]
    modalities = ops.derive_modalities(
        torch.tensor(train.clips[:]), torch.tensor(train.frames), modalities=model.modalities, layout="sbu"
    )
    with torch.no_grad():
        features = F.normalize(encode_views(model.teacher, modalities)[0], dim=-1)
    pointer = int(load_checkpoint(teacher)["model"]["bank.pointer"])
    expected = features[:, [0, 1, 2, 3, 0, 1]].roll(pointer, 1)
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)
    distill(replace(config, resume=True, max_steps=2))
    assert len(filled) == 2 and not torch.equal(filled[1][0], rows), "going on, it is not filled again"

"""The table of encoders, and what a model takes from it."""

import pytest
import torch
from torch import nn

from ikem_fast.nn import ENCODERS, IKEM, STGCN, RelationalDistiller, create_encoder
from ikem_fast.nn.encoders import base

SMALL = {"feature_dim": 8, "queue_size": 16, "hidden_dim": 12, "layout": "kinect-v1"}


class Pooled(nn.Module):
    """A second encoder: a linear map of the mean pose of each body; it depends on their number."""

    def __init__(self, layout, bodies, num_classes, hidden_dim=12, depth=1):
        super().__init__()
        layers = [
            nn.Linear(60 * bodies, hidden_dim),
            *(nn.Linear(hidden_dim, hidden_dim) for _ in range(1, depth)),
        ]
        self.hidden = nn.Sequential(*layers)
        self.hidden_dim = hidden_dim
        self.fc = nn.Linear(hidden_dim, num_classes)

    def forward(self, x):
        feature = self.hidden(x.mean(2).flatten(1))
        return self.fc(feature), feature


@pytest.fixture
def pooled(monkeypatch):
    monkeypatch.setitem(ENCODERS, "pooled", Pooled)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("layout", "joints", "bodies"), [("ntu-rgb+d", 25, 2), ("coco", 17, 1)])
def test_every_encoder_keeps_the_contract(name, layout, joints, bodies):
    encoder = create_encoder(name, layout=layout, bodies=bodies, num_classes=5)
    output, feature = encoder(torch.randn(3, 3, 8, joints, bodies))
    assert output.shape == (3, 5) and feature.shape == (3, encoder.hidden_dim)
    torch.testing.assert_close(output, encoder.fc(feature))
    encoder.fc = nn.Identity()
    assert torch.equal(*encoder.eval()(torch.randn(3, 3, 8, joints, bodies)))


def test_settings_reach_the_encoder_and_unknown_ones_are_named():
    encoder = create_encoder("stgcn", layout="coco", num_classes=5, hidden_channels=4, strategy="distance")
    assert isinstance(encoder, STGCN) and encoder.st_gcn_networks[0].gcn.conv.out_channels == 12
    with pytest.raises(
        ValueError, match=r"encoder stgcn: expected settings out of .*hidden_channels.*'depth'"
    ):
        create_encoder("stgcn", layout="coco", num_classes=5, depth=3)
    with pytest.raises(ValueError, match=r"encoder: expected one of .*stgcn.*, found 'gcn'"):
        create_encoder("gcn", layout="coco", num_classes=5)


@pytest.mark.parametrize("bodies", [1, 3])
def test_models_are_made_with_any_encoder_of_the_table(pooled, bodies):
    chosen = base.EncoderConfig("pooled", {"depth": 2})
    model = IKEM(**SMALL, encoder=chosen, bodies=bodies, modalities=("joint", "bone"))
    assert len(model.query_encoders["bone"].hidden) == 2
    clips = torch.randn(4, 3, 9, 20, bodies)
    assert model(clips, clips, exchange=True).shape == (2,)
    options = {"encoder": chosen, "bodies": bodies, "modalities": ("joint", "bone")}
    for teacher in (None, model):
        student = RelationalDistiller(**SMALL, **options, teacher=teacher, students=("joint",))
        assert isinstance(student.teacher["joint"], Pooled) and isinstance(student.students["joint"], Pooled)
        assert student(clips, clips).shape == (1,)


def test_a_size_that_the_model_has_is_not_set_twice(pooled):
    with pytest.raises(ValueError, match=r"encoder.sizes: expected 'hidden_dim' as a setting of the model"):
        IKEM(**SMALL, encoder=base.EncoderConfig("pooled", {"hidden_dim": 4}))

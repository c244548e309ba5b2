"""Settings of the models: defaults, ranges, what version 1 called them, and the models made of them."""

from dataclasses import asdict

import pytest
import torch

from ikem_fast.errors import InputError
from ikem_fast.nn import STGCN
from ikem_fast.nn.build import build_distiller, build_ikem
from ikem_fast.nn.config import EncoderConfig, ModelConfig
from ikem_fast.settings import check

SMALL = {"feature_dim": 8, "queue_size": 16, "hidden_channels": 4, "hidden_dim": 12}
VERSION_1 = {
    **SMALL, "dropout": 0.2, "momentum": 0.9, "temperature": 0.1, "topk": 2, "context": False,
    "modalities": ["joint", "bone"], "strategy": "distance", "exchange_key_updates": ["bone"],
    "initialisation": "published", "impl": "reference",
}  # fmt: skip


def test_settings_of_version_1_make_the_same_model():
    config = ModelConfig.of(VERSION_1)
    assert config.initialization == "published" and config.encoder == EncoderConfig()
    model = build_ikem(config, "kinect-v1")
    assert (model.momentum, model.temperature, model.topk, model.context) == (0.9, 0.1, 2, False)
    assert model.modalities == ("joint", "bone") and model.exchange_key_updates == ("bone",)
    encoder = model.query_encoders["bone"]
    expected = STGCN(hidden_channels=4, hidden_dim=12, layout="kinect-v1", strategy="distance")
    assert torch.equal(encoder.A, expected.A) and encoder.impl == "reference"
    assert encoder.st_gcn_networks[3].tcn[4].p == 0.2
    assert model.bank.rows.shape == (2, 16, 8)


def test_settings_survive_a_checkpoint():
    config = ModelConfig.of(VERSION_1 | {"encoder": {"name": "stgcn", "sizes": {"in_channels": 3}}})
    assert ModelConfig.of(asdict(config)) == config
    with pytest.raises(InputError, match="depth"):
        ModelConfig.of({"depth": 3})


def test_a_distiller_is_made_of_its_teachers_settings():
    config = ModelConfig.of(VERSION_1)
    teacher = build_ikem(config, "kinect-v1")
    model = build_distiller(config, "kinect-v1", ("bone",), temperature=0.3, teacher=teacher.state_dict())
    assert torch.equal(model.bank.rows, teacher.bank.rows) and model.temperature == 0.3
    for name, tensor in teacher.query_encoders.state_dict().items():
        assert torch.equal(model.teacher.state_dict()[name], tensor), name
    assert model.students["bone"].fc[2].out_features == 2 * 8
    assert (model.topk, model.context, model.impl) == (2, False, "reference")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature_dim", 0), ("queue_size", 0), ("hidden_channels", 0), ("hidden_dim", -1), ("dropout", 1),
        ("dropout", -0.1), ("momentum", 2), ("momentum", -0.1), ("temperature", 0), ("topk", 0),
        ("temperature", float("nan")), ("modalities", ()), ("modalities", ("joint", "joint")),
        ("modalities", ("joint", "bonee")), ("exchange_key_updates", ("foo",)),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_named(name, value):
    with pytest.raises(InputError, match=f"model.{name}: expected .*found"):
        check(ModelConfig(**{name: value}), "model.")


def test_what_is_at_the_ends_of_its_range_is_taken():
    check(
        ModelConfig(
            dropout=0, momentum=1, topk=1, queue_size=1, exchange_key_updates=(), modalities=("bone",)
        )
    )
    assert ModelConfig().problem() is None
    assert ModelConfig(topk=9, queue_size=8).problem() == "topk: expected at most queue_size = 8, found 9"

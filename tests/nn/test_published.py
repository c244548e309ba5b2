"""Checkpoints under the published names; the golden trajectories hold the numbers."""

import pytest
import torch

from ikem_fast.nn import (
    IKEM,
    STGCN,
    TCN,
    RelationalDistiller,
    load_published_state_dict,
    published_state_dict,
)
from ikem_fast.nn.published import _LETTER, _SUFFIX

SMALL = {"feature_dim": 8, "queue_size": 16, "hidden_channels": 4, "hidden_dim": 12}


def published(model, prefix=""):
    """What the published code would have saved of an IKEM model."""
    state = {}
    for name in model.modalities:
        for ours, theirs in (
            (model.query_encoders[name], "encoder_q" + _SUFFIX[name]),
            (model.key_encoders[name], "encoder_k" + _SUFFIX[name]),
            (model.exchange_heads[name], "mlp2" + _LETTER[name]),
        ):
            state |= {f"{prefix}{theirs}.{key}": value for key, value in ours.state_dict().items()}
        state[f"{prefix}queue{_SUFFIX[name]}"] = model.bank.rows[model.modalities.index(name)].T
    state[f"{prefix}queue_ptr"] = torch.tensor([4])
    return state


@pytest.mark.parametrize("prefix", ["", "module."])
def test_everything_arrives(prefix):
    source, target = IKEM(**SMALL), IKEM(**SMALL)
    source.bank.pointer.fill_(4)
    load_published_state_dict(target, published(source, prefix))
    loaded = target.state_dict()
    for name, value in source.state_dict().items():
        assert torch.equal(value, loaded[name]), name


def test_checkpoint_without_exchange_heads_keeps_ours():
    three = ("joint", "motion", "bone")
    source, target = IKEM(**SMALL, modalities=three), IKEM(**SMALL, modalities=three)
    state = {name: value for name, value in published(source).items() if not name.startswith("mlp2")}
    heads = {name: value.clone() for name, value in target.exchange_heads.state_dict().items()}
    load_published_state_dict(target, state)
    assert all(torch.equal(value, heads[name]) for name, value in target.exchange_heads.state_dict().items())
    assert torch.equal(target.bank.rows, source.bank.rows)


def test_pretraining_checkpoint_becomes_a_teacher():
    source, target = IKEM(**SMALL), RelationalDistiller(**SMALL)
    load_published_state_dict(target, published(source))
    loaded = target.teacher.state_dict()
    for name, value in source.query_encoders.state_dict().items():
        assert torch.equal(value, loaded[name]), name


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("encoder_q.fc.0.weight"), "encoder_q.fc.0.weight"),
        (lambda s: s.pop("queue_omega"), "queue_omega"),
        (lambda s: s.update(surplus=torch.zeros(1)), "'surplus' belongs nowhere"),
        (lambda s: s.update(queue=torch.zeros(8, 5)), r"expected shape \(8, 16\) for 'queue'"),
        (lambda s: s.update({"encoder_k.A": torch.zeros(1)}), "expected shape"),
    ],
)
def test_a_checkpoint_that_does_not_fit_changes_nothing(damage, message):
    model = IKEM(**SMALL)
    state = published(IKEM(**SMALL))
    damage(state)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_published_state_dict(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="expected IKEM, RelationalDistiller or STGCN, found TCN"):
        load_published_state_dict(TCN(), {})


def nested(head):
    """As CrosSCLR's three views stack their heads: a layer more, on top of the joint's head."""
    return torch.nn.Sequential(torch.nn.Linear(12, 12), torch.nn.ReLU(), head)


def three_views():
    """CrosSCLR's three views as they are saved: motion and bone have the joint's head within their own."""
    model = IKEM(**SMALL, modalities=("joint", "motion", "bone"))
    for encoders in (model.query_encoders, model.key_encoders):
        for name in ("motion", "bone"):
            encoders[name].fc = nested(encoders["joint"].fc)
    return model, published_state_dict(model, exchange_heads=False)


def test_three_views_with_nested_heads_arrive_and_go_back():
    source, state = three_views()
    assert {"encoder_q_bone.fc.2.2.weight", "queue_motion", "queue_ptr_bone"} <= state.keys()
    target = IKEM(**SMALL, modalities=("joint", "motion", "bone"))
    load_published_state_dict(target, state)
    x = torch.randn(2, 3, 12, 25, 1)
    for mine, theirs in (
        (target.query_encoders, source.query_encoders),
        (target.key_encoders, source.key_encoders),
    ):
        for name in target.modalities:
            torch.testing.assert_close(mine[name].eval()(x), theirs[name].eval()(x))
    again = published_state_dict(target, exchange_heads=False)
    assert again.keys() == state.keys() and all(torch.equal(again[name], state[name]) for name in state)


@pytest.mark.parametrize("modality", ["joint", "motion"])
def test_checkpoints_of_one_view_have_no_modality_in_their_names(modality):
    """AimCLR and SkeletonCLR train a stream at a time under the same names."""
    source, target = (IKEM(**SMALL, modalities=(modality,)) for _ in range(2))
    state = published_state_dict(source, exchange_heads=False)
    assert {name.split(".")[0] for name in state} == {"encoder_q", "encoder_k", "queue", "queue_ptr"}
    load_published_state_dict(target, {f"module.{name}": tensor for name, tensor in state.items()})
    again = published_state_dict(target, exchange_heads=False)
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_an_encoder_alone():
    _, state = three_views()
    encoder = STGCN(hidden_channels=4, hidden_dim=12, num_classes=5)
    head = encoder.fc.weight.clone()
    load_published_state_dict(encoder, state, encoder="encoder_q_bone")
    name = "st_gcn_networks.3.gcn.conv.weight"
    assert torch.equal(encoder.state_dict()[name], state[f"encoder_q_bone.{name}"])
    assert torch.equal(encoder.fc.weight, head)
    load_published_state_dict(encoder, state)
    assert torch.equal(encoder.state_dict()[name], state[f"encoder_q.{name}"])
    plain = STGCN(hidden_channels=4, hidden_dim=12, num_classes=5)
    load_published_state_dict(plain, encoder.state_dict())
    assert torch.equal(plain.fc.weight, encoder.fc.weight)


@pytest.mark.parametrize(
    ("sizes", "encoder", "message"),
    [
        ({"hidden_channels": 4, "hidden_dim": 12}, "encoder_x", "encoder: expected one of 'encoder_k', 'enc"),
        ({"hidden_channels": 5, "hidden_dim": 12}, None, "expected shape .* for 'encoder_q.st_gcn_networks"),
    ],
)
def test_an_encoder_that_does_not_fit_changes_nothing(sizes, encoder, message):
    _, state = three_views()
    model = STGCN(num_classes=5, **sizes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_published_state_dict(model, state, encoder=encoder)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

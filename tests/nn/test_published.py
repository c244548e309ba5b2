"""Checkpoints under the published names; the golden trajectories hold the numbers."""

import pytest
import torch

from ikem_fast.nn import IKEM, STGCN, RelationalDistiller, load_published_state_dict
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
    with pytest.raises(TypeError, match="STGCN"):
        load_published_state_dict(STGCN(), {})

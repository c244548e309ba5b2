"""The pretraining model: the order of a step, what moves in which phase, other encoders."""

import copy

import pytest
import torch
from torch import nn

from ikem_fast import ops
from ikem_fast.nn import IKEM

SMALL = {"feature_dim": 8, "queue_size": 16, "hidden_channels": 4, "hidden_dim": 12, "dropout": 0.0}


def views(N=4, T=10, V=25, M=2):
    return torch.randn(N, 3, T, V, M), torch.randn(N, 3, T, V, M), torch.full((N,), 30)


def test_keys_start_as_copies_and_follow_by_momentum():
    model = IKEM(**SMALL, momentum=0.9)
    for q, k in zip(model.query_encoders.parameters(), model.key_encoders.parameters(), strict=True):
        assert torch.equal(q, k) and not k.requires_grad
    before = copy.deepcopy(model.key_encoders.state_dict())
    for q in model.query_encoders.parameters():
        q.data.add_(1)
    model.update_keys(model.modalities)
    for name, k in model.key_encoders.named_parameters():
        torch.testing.assert_close(k, before[name] + 0.1)


def test_phase_two_moves_the_published_keys_only():
    model = IKEM(**SMALL, momentum=0.5)
    for q in model.query_encoders.parameters():
        q.data.add_(1)
    before = copy.deepcopy(model.key_encoders)
    model(*views(), exchange=True)
    for name in model.modalities:
        pairs = zip(model.key_encoders[name].parameters(), before[name].parameters(), strict=True)
        moved = any(not torch.equal(k, old) for k, old in pairs)
        assert moved == (name in ("motion", "acceleration", "angular_velocity")), name


@pytest.mark.parametrize("exchange", [False, True])
def test_losses_see_the_bank_as_it_was_and_reach_only_what_learns(exchange):
    model = IKEM(**SMALL)
    x_q, x_k, frames = views()
    bank = model.bank.rows.clone()
    losses = model(x_q, x_k, frames, exchange=exchange)
    assert losses.shape == (6,)
    assert not torch.equal(model.bank.rows, bank) and int(model.bank.pointer) == 4

    q, hidden = model.encode(model.query_encoders, x_q, frames)
    k = torch.stack([model.bank.rows[:, row] for row in range(4)], 1)
    if exchange:
        z = torch.stack([h(f) for h, f in zip(model.exchange_heads.values(), hidden, strict=True)])
        expected = ops.cross_modal_contrast(q, k, bank) + ops.implicit_exchange(z, k, bank)
    else:
        expected = ops.info_nce(q, k, bank)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)

    losses.sum().backward()
    learning = [p.grad is not None for p in model.query_encoders.parameters()]
    assert all(learning)
    assert all((p.grad is not None) == exchange for p in model.exchange_heads.parameters())
    assert all(p.grad is None for p in model.key_encoders.parameters())


def test_eval_mode_scores_and_changes_nothing():
    model = IKEM(**SMALL).eval()
    state = copy.deepcopy(model.state_dict())
    model(*views())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_augmentation_is_passed_to_the_derivation():
    model = IKEM(**SMALL).eval()
    x, _, frames = views()
    shear = torch.randn(4, 3, 3)
    sheared = torch.einsum("nij,njtvm->nitvm", shear, x)
    plain, _ = model.encode(model.query_encoders, sheared, frames)
    fused, _ = model.encode(model.query_encoders, x, frames, {"shear": shear})
    torch.testing.assert_close(fused, plain, rtol=1e-3, atol=1e-4)


class Pooled(nn.Module):
    """The least an encoder can be: a linear map of the mean pose."""

    def __init__(self):
        super().__init__()
        self.hidden, self.output = nn.Linear(60, 12), nn.Linear(12, 8)

    def forward(self, x):
        feature = self.hidden(x.mean((2, 4)).flatten(1))
        return self.output(feature), feature


@pytest.mark.parametrize("encoder", [Pooled, Pooled()])
def test_any_encoder_and_any_modalities(encoder):
    model = IKEM(**SMALL, encoder=encoder, layout="kinect-v1", modalities=("bone", "joint"))
    losses = model(*views(V=20, M=1), exchange=True)
    losses.sum().backward()
    assert losses.shape == (2,)
    assert model.query_encoders["bone"] is not model.query_encoders["joint"]


def test_published_initialization_sets_queries_and_keys_apart():
    model = IKEM(**SMALL, initialization="published")
    q = model.query_encoders["joint"].st_gcn_networks[9].tcn[2].weight
    k = model.key_encoders["joint"].st_gcn_networks[9].tcn[2].weight
    assert not torch.equal(q, k)
    assert abs(q.std().item() - 0.02) < 0.005
    with pytest.raises(ValueError, match="initialization"):
        IKEM(**SMALL, initialisation="zeros")


def test_more_clips_than_the_bank_holds_are_refused():
    with pytest.raises(ValueError, match="N ≤ 16"):
        IKEM(**SMALL)(*views(N=17))


@pytest.mark.parametrize("exchange", [False, True])
@pytest.mark.parametrize("clips", [torch.float32, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_compute_in_any_dtype(dtype, clips, exchange):
    model = IKEM(**SMALL, momentum=0.5).to(dtype)
    x_q, x_k, frames = views()
    losses = model(x_q.to(clips or dtype), x_k.to(clips or dtype), frames, exchange=exchange)
    losses.sum().backward()
    assert losses.isfinite().all() and model.bank.rows.dtype == dtype
    gradients = [p.grad for p in model.query_encoders.parameters()]
    assert all(g.dtype == dtype and g.isfinite().all() for g in gradients)


def test_a_moving_average_lost_in_rounding_is_warned_of():
    with pytest.warns(UserWarning, match=r"bfloat16.*momentum 0.999.*autocast"):
        IKEM(**SMALL, momentum=0.999).bfloat16()(*views())


def test_what_is_gathered_enters_the_bank():
    model = IKEM(**SMALL)
    x_q, x_k, frames = views()
    model(x_q, x_k, frames, gather=lambda keys: torch.cat([keys, -keys], 1))
    assert int(model.bank.pointer) == 8
    torch.testing.assert_close(model.bank.rows[:, 4:8], -model.bank.rows[:, :4])

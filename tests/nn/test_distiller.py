"""The distiller: what is frozen, what is copied, what enters the bank."""

import copy

import pytest
import torch
import torch.nn.functional as F

from ikem_fast import ops
from ikem_fast.nn import IKEM, RelationalDistiller
from ikem_fast.nn.encoders.base import encode_views

SMALL = {"feature_dim": 8, "queue_size": 16, "hidden_channels": 4, "hidden_dim": 12, "dropout": 0.5}


def views(N=4):
    return torch.randn(N, 3, 10, 25, 2), torch.randn(N, 3, 10, 25, 2), torch.full((N,), 30)


def test_teacher_is_copied_and_frozen():
    teacher = IKEM(**SMALL)
    model = RelationalDistiller(**SMALL, teacher=teacher).train()
    assert torch.equal(model.bank.rows, teacher.bank.rows)
    assert not any(module.training for module in model.teacher.modules())
    frozen = copy.deepcopy(model.teacher.state_dict())
    losses = model(*views())
    assert losses.shape == (3,)
    losses.sum().backward()
    assert all(p.grad is not None for p in model.students.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(torch.equal(v, frozen[name]) for name, v in model.teacher.state_dict().items())
    assert torch.equal(teacher.bank.pointer, torch.tensor(0)), "the teacher's own bank was written to"


def test_the_teachers_features_enter_the_bank():
    model = RelationalDistiller(**SMALL)
    x_teacher, x_student, frames = views()
    model(x_teacher, x_student, frames)
    modalities = ops.derive_modalities(x_teacher, frames, modalities=model.modalities)
    t, _ = encode_views(model.teacher, modalities)
    torch.testing.assert_close(model.bank.rows[:, :4], F.normalize(t, dim=-1), rtol=1e-4, atol=1e-5)


def test_teacher_in_train_mode_as_published():
    model = RelationalDistiller(**SMALL, teacher_mode="train").train()
    assert all(module.training for module in model.teacher.modules())
    assert not any(module.training for module in model.eval().teacher.modules())


def test_other_students_and_teachers():
    sizes = {**SMALL, "modalities": ("joint", "bone"), "layout": "kinect-v1"}
    model = RelationalDistiller(**sizes, teacher=IKEM(**sizes), students=("motion",))
    losses = model(torch.randn(3, 3, 6, 20, 1), torch.randn(3, 3, 6, 20, 1))
    assert losses.shape == (1,)
    with pytest.raises(ValueError, match="teacher: expected"):
        RelationalDistiller(**SMALL, teacher=IKEM(**sizes))
    with pytest.raises(ValueError, match="teacher_mode"):
        RelationalDistiller(**SMALL, teacher_mode="frozen")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_distiller_computes_in_any_dtype(dtype):
    model = RelationalDistiller(**SMALL).to(dtype)
    losses = model(*views())
    losses.sum().backward()
    assert losses.isfinite().all() and model.bank.rows.dtype == dtype
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in model.students.parameters())


def test_what_is_gathered_enters_the_bank():
    model = RelationalDistiller(**SMALL)
    model(*views(), gather=lambda features: torch.cat([features, -features], 1))
    assert int(model.bank.pointer) == 8
    torch.testing.assert_close(model.bank.rows[:, 4:8], -model.bank.rows[:, :4])

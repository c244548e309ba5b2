"""What every modality of the table keeps to, whoever adds one, and one that the kernels do not know."""

import pytest
import torch

from ikem_fast import MODALITIES, pictures
from ikem_fast.ops import derive_modalities
from ikem_fast.ops.modalities import definitions
from ikem_fast.ops.modalities.base import Modality
from ikem_fast.ops.modalities.definitions import DEFINITIONS, derivable
from ikem_fast.skeleton import Layout, get_layout

NTU = get_layout("ntu-rgb+d")
FRAMES = torch.tensor([5.0, 40.0, 7.0])


def one(x, name, **options):
    return derive_modalities(x, FRAMES, modalities=(name,), impl="reference", **options)[0]


@pytest.fixture
def jerk(monkeypatch):
    """A modality that is in the table alone, as a first version of one would be."""
    derive = lambda bodies: bodies.derivative(DEFINITIONS["acceleration"].derive(bodies))  # noqa: E731
    monkeypatch.setitem(definitions.DEFINITIONS, "jerk", Modality(derive, "how its acceleration changes"))
    return "jerk"


def test_the_six_of_the_paper_are_there():
    assert set(MODALITIES) <= set(DEFINITIONS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_body_that_is_absent_stays_so(name):
    x = torch.randn(3, 3, 6, 25, 2)
    x[1, ..., 1] = 0
    x[2] = 0
    derived = one(x, name)
    assert derived.shape == x.shape and derived.isfinite().all()
    assert not derived[1, ..., 1].any() and not derived[2].any()
    assert derived[0].any()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_gradient_comes_back_that_is_finite_at_absent_bodies(name):
    x = torch.randn(3, 3, 6, 25, 2)
    x[..., 1] = 0
    x.requires_grad_()
    one(x, name).square().sum().backward()
    assert x.grad.isfinite().all() and x.grad[..., 0].any()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_layout_without_a_torso_has_what_does_not_need_it(name):
    chain = Layout(name="chain", joints=("a", "b", "c"), parents=(-1, 0, 1))
    assert (name in derivable(chain)) is not DEFINITIONS[name].needs_torso
    x = torch.randn(3, 3, 6, 3, 1)
    if name in derivable(chain):
        assert one(x, name, layout=chain).any()
    else:
        with pytest.raises(ValueError, match=f"modalities: expected a layout with a torso for {name}, found"):
            one(x, name, layout=chain)


def test_one_that_no_kernel_knows_is_left_to_the_reference(jerk):
    x = torch.randn(3, 3, 6, 25, 2, dtype=torch.float32)
    acceleration, derived = derive_modalities(x, modalities=("acceleration", jerk))
    assert torch.equal(derived[:, :, :-1], acceleration[:, :, 1:] - acceleration[:, :, :-1])
    with pytest.raises(RuntimeError, match=r"modalities: the kernels derive joint, .*, found 'jerk'"):
        derive_modalities(x, modalities=(jerk,), impl="fused")


def test_one_that_was_added_is_drawn(jerk):
    clip = torch.randn(3, 6, 25, 1)
    derived = one(clip[None].expand(3, -1, -1, -1, -1), jerk)[0]
    (panel,) = pictures.modality_panels(clip.numpy(), {jerk: derived.numpy()}, NTU)
    assert panel.caption == "how its acceleration changes" and panel.mark == "arrow"

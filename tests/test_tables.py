"""A step copies nothing from the host: tables of a layout are on the device after the first one."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ikem_fast import augment, ops
from ikem_fast.skeleton import get_layout
from ikem_fast.tables import index_table


class CopiesFromHost(TorchDispatchMode):
    """Counts tensors that are made of Python numbers, which a captured graph forbids and a step waits for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.lift_fresh.default
        return function(*args, **(kwargs or {}))


STEPS = {
    "derive_modalities": lambda x: ops.derive_modalities(x, impl="reference"),
    "stretch_bones": lambda x: augment.stretch_bones(x, torch.ones(len(x), x.shape[3])),
    "flip": lambda x: augment.flip(x, torch.ones(len(x), dtype=torch.bool)),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_second_step_copies_nothing_from_the_host(step):
    x = torch.randn(2, 3, 8, 25, 2)
    STEPS[step](x)
    with CopiesFromHost() as copies:
        STEPS[step](x)
    assert copies.count == 0


def test_the_mode_sees_a_copy():
    with CopiesFromHost() as copies:
        torch.tensor([1, 2])
    assert copies.count == 1


def test_a_table_made_in_inference_mode_serves_training():
    table = tuple(reversed(get_layout("ntu-rgb+d").parents))
    with torch.inference_mode():
        index_table(table, torch.device("cpu"))
    assert not index_table(table, torch.device("cpu")).is_inference()


def test_a_table_is_never_a_fake_tensor():
    table = (3, 1, 2)
    with torch._subclasses.FakeTensorMode():
        index_table(table, torch.device("cpu"))
    assert type(index_table(table, torch.device("cpu"))) is torch.Tensor

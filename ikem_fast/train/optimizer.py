"""The optimizers that there are, and going on with what one had gathered."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ikem_fast.train.config import TrainConfig

GATHERED = {torch.optim.SGD: ("momentum_buffer",), torch.optim.AdamW: ("exp_avg", "exp_avg_sq")}


def make_optimizer(
    config: TrainConfig, parameters: Sequence[nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """Make the optimizer that the settings name, for parameters on a device.

    AdamW leaves biases and normalizations, which have one dimension, without weight decay; SGD does not, as
    published.

    Example:
        optimizer = make_optimizer(config, list(model.parameters()), torch.device("cpu"))
    """
    # A captured step reads the learning rate from the device.
    lr = torch.tensor(config.lr, device=device) if config.cuda_graph else config.lr
    fused = device.type in ("cpu", "cuda")
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            parameters, lr=lr, momentum=config.sgd_momentum, weight_decay=config.weight_decay, fused=fused
        )
    else:
        kept = {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}
        decayed = {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay}
        optimizer = torch.optim.AdamW([decayed, kept], lr=lr, fused=fused, capturable=config.cuda_graph)
    start_momenta(optimizer)
    return optimizer


def start_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Set SGD's momentum to 0 where there is none: the fused step wants all or none, and some learn later."""
    if optimizer.defaults.get("momentum"):
        for parameter in _parameters(optimizer):
            state = optimizer.state[parameter]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take over what another run's optimizer had gathered; the settings stay this one's own.

    Args:
        optimizer: of this run.
        state: `state_dict()` of the other's.

    Raises ValueError or KeyError where it belongs to other parameters or to another optimizer.
    """
    mine = optimizer.state_dict()["param_groups"]
    counts = [[len(group["params"]) for group in groups] for groups in (mine, state["param_groups"])]
    if counts[0] != counts[1]:
        raise ValueError(f"expected an optimizer of {counts[0]} parameters, found one of {counts[1]}")
    parameters = _parameters(optimizer)
    for number, gathered in state["state"].items():
        for name in GATHERED[type(optimizer)]:
            shape, found = parameters[number].shape, gathered[name].shape
            if shape != found:
                raise ValueError(f"expected a {name} of shape {tuple(shape)}, found {tuple(found)}")
    optimizer.load_state_dict({"state": state["state"], "param_groups": mine})
    start_momenta(optimizer)


def _parameters(optimizer):
    """In the order in which a state numbers them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

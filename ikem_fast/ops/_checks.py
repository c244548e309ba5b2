"""Validation of op arguments: every message names the argument, what was expected and what was found."""

import math
from numbers import Real

import torch


def check_tensor(name, tensor, shape, *, like=None):
    """Raise unless `tensor` is a floating-point tensor of `shape` on the device of `like`.

    shape: a sequence of (label, size); size None accepts any size of at least one.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: expected a tensor {_describe(shape)}, found {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name}: expected a floating-point tensor {_describe(shape)}, found dtype {tensor.dtype}"
        )
    fits = tensor.dim() == len(shape) and all(
        found == size if size is not None else found > 0
        for found, (_, size) in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: expected shape {_describe(shape)}, found {tuple(tensor.shape)}")
    if like is not None and tensor.device != like.device:
        raise ValueError(f"{name}: expected device {like.device}, found {tensor.device}")


def _describe(shape):
    """Only for messages: writing a size out would bind a compiled graph to it."""
    return "(" + ", ".join(label if size is None else f"{label}={size}" for label, size in shape) + ")"


def check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, found {value!r}")


def is_one(features):
    """Tell whether these are the features (N,D) of one modality, without a dimension for it."""
    return isinstance(features, torch.Tensor) and features.dim() == 2


def lifted(tensor):
    """(N,D) of one modality as (1,N,D); all else as it is."""
    return tensor[None] if is_one(tensor) else tensor


def bank_of(queue, modalities, dim, *, like, name="queue"):
    """The bank (P,K,D) that is meant by (P,K,D) or (P,D,K), or for one modality by (K,D) or (D,K): a view.

    A square one is taken for rows of keys. Raises as `check_tensor` does.
    """
    bank = lifted(queue)
    if isinstance(bank, torch.Tensor) and bank.dim() == 3 and bank.shape[2] != dim and bank.shape[1] == dim:
        bank = bank.mT
    check_tensor(name, bank, (("P", modalities), ("K", None), ("D", dim)), like=like)
    return bank


def temperature_of(temperature, *, name="temperature", learns=False):
    """A temperature as a float, or where an op `learns` it and it is a tensor, as a tensor ().

    Raises ValueError for what is no positive number, and for a tensor with a gradient that the op has not.
    """
    if isinstance(temperature, torch.Tensor) and temperature.numel() == 1:
        if not learns and temperature.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{name}: expected a number, found a tensor whose gradient this op does not have"
            )
        if not learns or not temperature.is_floating_point():
            temperature = temperature.item()
        elif torch.compiler.is_compiling() or temperature.device.type != "cpu" or temperature.item() > 0:
            return temperature.reshape(())
    elif not isinstance(temperature, int | float) and isinstance(temperature, Real):
        temperature = float(temperature)  # NumPy's
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise ValueError(f"{name}: expected a positive number, found {temperature!r}")
    return temperature


def check_topk(topk, bank_size):
    if not isinstance(topk, int) or isinstance(topk, bool) or not 1 <= topk <= bank_size:
        raise ValueError(f"topk: expected an integer in 1 … {bank_size} (the bank's size), found {topk!r}")


def check_modalities(modalities, known):
    if isinstance(modalities, str) or not modalities:
        raise ValueError(
            f"modalities: expected a sequence of names out of {', '.join(known)}, found {modalities!r}"
        )
    for name in modalities:
        check_choice("modalities", name, known)
    if len(set(modalities)) != len(modalities):
        raise ValueError(f"modalities: expected each name once, found {tuple(modalities)}")


def check_per_clip(name, tensor, clips, *, like, low=None, high=None):
    """Raise unless `tensor` is (N,) of numbers, and within low … high where that can be seen without a wait.

    Values on a GPU are not looked at: reading them would stall the stream.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: expected a tensor (N={clips},), found {type(tensor).__name__}")
    if tensor.shape != (clips,):
        raise ValueError(f"{name}: expected shape (N={clips},), found {tuple(tensor.shape)}")
    if tensor.device != like.device:
        raise ValueError(f"{name}: expected device {like.device}, found {tensor.device}")
    if tensor.device.type != "cpu" or torch.compiler.is_compiling() or not clips:
        return
    smallest, largest = tensor.min().item(), tensor.max().item()
    if (low is not None and smallest < low) or (high is not None and largest > high):
        bounds = f"at least {low}" if high is None else f"in {low} … {high}"
        raise ValueError(f"{name}: expected values {bounds}, found {smallest} … {largest}")

"""Validation of op arguments: every message names the argument, what was expected and what was found."""

import math

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


def check_temperature(temperature):
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise ValueError(f"temperature: expected a positive number, found {temperature!r}")


def check_topk(topk, bank_size):
    if not isinstance(topk, int) or isinstance(topk, bool) or not 1 <= topk <= bank_size:
        raise ValueError(f"topk: expected an integer in 1 … {bank_size} (the bank's size), found {topk!r}")


def check_modalities(modalities, known):
    if isinstance(modalities, str) or not modalities:
        raise ValueError(f"modalities: expected a sequence of names out of {known}, found {modalities!r}")
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

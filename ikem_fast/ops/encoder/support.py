"""Whether the kernels compute exactly what an encoder's blocks say: one question, one answer.

The blocks' modules are the definition. Whatever their owner hooked, replaced, parametrized or set otherwise
than `nn.encoders.stgcn` builds it, the kernels do not know of, and leave to the modules.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from ikem_fast.ops import _library
from ikem_fast.ops._support import YES, Support, support_on_gpu, support_under_transforms

try:
    from ikem_fast.ops.encoder import triton

    TRITON = YES
except Exception as error:  # it is optional, and an old driver or a broken ptxas raises what it likes
    triton = None
    TRITON = Support(f"Triton cannot be imported: {type(error).__name__}: {error}")

# Up to so many numbers of input, float32 training takes plain torch: there is little to save, and it rounds
# as the published code does, which shows in gradients that are zero in exact arithmetic.
SMALL = 1 << 16

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
DTYPES = {"cpu": (torch.float32, torch.bfloat16), "cuda": (torch.float32, torch.bfloat16, torch.float16)}
PLAIN = (torch.Tensor, nn.Parameter)


@dataclass(frozen=True)
class Kinds:
    """The classes that an encoder builds its blocks of, apart from torch's."""

    block: type[nn.Module]
    graph_convolution: type[nn.Module]
    residual_convolution: type[nn.Module]


def support_for(x, blocks, graphs, kinds):
    """Return the `Support` of the kernels for an encoder's blocks.

    Args:
        x: (B,C,T,V) input of the first block.
        blocks: modules built as `nn.encoders.stgcn.Block` is.
        graphs: A (K,V,V) of each block, edge importance included.
        kinds: the classes of a block and of its parts.
    """
    dtype, dtypes = activation_dtype(x), DTYPES.get("cuda" if by_triton(x) else x.device.type, ())
    if dtype not in dtypes or x.numel() == 0:
        taken = " and ".join(map(str, dtypes)) or "a CPU or a GPU"
        return Support(f"the kernels are for {taken}, found {dtype} on {x.device}")
    if x.dtype not in dtypes or (dtype != torch.float32 and not autocasts(x)):
        return Support(f"the kernels take float32, or less under autocast, found {x.dtype}")
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) not in PLAIN:
        return Support("the kernels are not for torch.compile, export or trace, nor for odd tensors")
    transforms = support_under_transforms()
    if not transforms:
        return transforms
    if torch_module._has_any_global_hook():
        return Support("the kernels call no modules, found hooks on all modules")
    try:
        channels = x.shape[1]
        for number, (block, A) in enumerate(zip(blocks, graphs, strict=True)):
            channels = _check_block(block, A, channels, x.shape[3], kinds, f"block {number}")
    except _Different as difference:
        return Support(f"the kernels compute a block as STGCN builds it, found {difference}")
    if not by_triton(x):
        return _library.support_on("cpu")
    able = support_on_gpu(x.device) if TRITON and x.is_cuda else TRITON
    return triton.support_for(x, blocks, dtype) if able else able


def support_together(x, encoders):
    """Return the `Support` of one set of launches for the blocks of encoders, of each of which it is YES.

    Args:
        x: (B,C,T,V) input of the first block of any of them.
        encoders: their blocks.
    """
    modules = [[module for block in blocks for module in block.modules()] for blocks in encoders]
    if len({id(module) for of_one in modules for module in of_one}) < sum(map(len, modules)):
        return Support("encoders are computed together where they share no module")
    forms = [[_form(module) for module in of_one] for of_one in modules]
    if any(form != forms[0] for form in forms):
        return Support("encoders are computed together where they are alike but for their numbers")
    if len(encoders) * triton.numbers(x, encoders[0]) >= triton.MAX_NUMBERS:
        return Support("encoders are computed together where their activations are fewer numbers")
    return YES


def _form(module):
    """What of a module that `support_for` knows is not a number of its parameters."""
    parameters = [(p.shape, p.device, p.requires_grad) for p in module.parameters(recurse=False)]
    settings = [getattr(module, name, None) for name in ("stride", "p", "eps", "momentum")]
    return type(module), module.training, settings, parameters


def calls_nothing_else(module, kind):
    """Say whether to call a module is to call its class's `forward`: nothing was hooked or replaced."""
    try:
        _check_module(module, kind, "")
    except _Different:
        return False
    return module._compiled_call_impl is None and not torch_module._has_any_global_hook()


def by_triton(x):
    """Say whether the kernels for a tensor are Triton's: on a GPU, and on a CPU under the interpreter."""
    return x.is_cuda or (x.device.type == "cpu" and triton is not None and triton.INTERPRETED)


def pays(x):
    """Say whether the kernels are worth their calls, and their other rounding, for an input x."""
    return activation_dtype(x) != torch.float32 or x.numel() > SMALL


def autocasts(x):
    """Say whether autocast is on for the device of x."""
    return torch.is_autocast_enabled(x.device.type)


def activation_dtype(x):
    """Return the dtype that autocast gives convolutions of x."""
    return torch.get_autocast_dtype(x.device.type) if autocasts(x) else x.dtype


class _Different(Exception):
    """Something is not as the kernels take for granted."""


def _check_block(block, A, channels, joints, kinds, where):
    """Raise `_Different` unless a block is as the kernels compute it; the channels that it gives."""
    _check_module(block, kinds.block, where)
    gcn, tcn = block.gcn, block.tcn
    _check_module(gcn, kinds.graph_convolution, where)
    _check_module(tcn, nn.Sequential, where)
    if type(A) not in PLAIN or A.shape != (gcn.partitions, joints, joints):
        raise _Different(f"a graph of shape {tuple(A.shape)} in {where}")
    _check_tensors((A,), where)
    if len(tcn) != 5:
        raise _Different(f"{len(tcn)} temporal layers in {where}")
    norm1, relu, conv, norm2, dropout = tcn
    width = conv.weight.shape[0] if isinstance(conv, nn.Conv2d) else None
    _check_module(relu, nn.ReLU, where)
    _check_module(dropout, nn.Dropout, where)
    if not 0 <= dropout.p < 1:
        raise _Different(f"dropout {dropout.p} in {where}")
    stride = conv.stride[0] if isinstance(conv, nn.Conv2d) else 1
    _check_convolution(gcn.conv, nn.Conv2d, (gcn.partitions * (width or 0), channels, 1, 1), 1, where)
    _check_convolution(conv, nn.Conv2d, (width, width, conv.weight.shape[2] | 1, 1), stride, where)
    for norm in (norm1, norm2):
        _check_norm(norm, width, where)
    residual = block.residual
    if isinstance(residual, nn.Sequential):
        _check_module(residual, nn.Sequential, where)
        if len(residual) != 2:
            raise _Different(f"{len(residual)} residual layers in {where}")
        _check_convolution(residual[0], kinds.residual_convolution, (width, channels, 1, 1), stride, where)
        _check_norm(residual[1], width, where)
    elif residual is not None:
        _check_module(residual, nn.Identity, where)
        if (channels, 1) != (width, stride):
            raise _Different(f"a residual of another shape in {where}")
    return width


def _check_module(module, kind, where):
    if type(module) is not kind:
        raise _Different(f"{type(module).__name__} for {kind.__name__} in {where}")
    state = module.__dict__
    if "forward" in state:
        raise _Different(f"a forward of its own on {kind.__name__} in {where}")
    for hooks in HOOKS:
        if state[hooks]:
            raise _Different(f"hooks on {kind.__name__} in {where}")


def _check_convolution(conv, kind, shape, stride, where):
    _check_module(conv, kind, where)
    padding = ((shape[2] - 1) // 2, 0)
    found = conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode
    if found != ((stride, 1), padding, (1, 1), 1, "zeros") or conv.weight.shape != shape or conv.bias is None:
        raise _Different(f"another convolution, {conv}, in {where}")
    _check_tensors((conv.weight, conv.bias), where)


def _check_norm(norm, channels, where):
    _check_module(norm, nn.BatchNorm2d, where)
    if norm.weight is None or norm.running_mean is None or not norm.track_running_stats:
        raise _Different(f"another normalization, {norm}, in {where}")
    tensors = norm.weight, norm.bias, norm.running_mean, norm.running_var
    if any(tensor.shape != (channels,) for tensor in tensors):
        raise _Different(f"a normalization of {tuple(norm.weight.shape)} channels in {where}")
    _check_tensors(tensors, where)


def _check_tensors(tensors, where):
    for tensor in tensors:
        if type(tensor) not in PLAIN or tensor.dtype != torch.float32 or not tensor.is_contiguous():
            kind = f"{type(tensor).__name__} of {tensor.dtype}"
            raise _Different(f"{kind} where a contiguous float32 tensor was expected in {where}")

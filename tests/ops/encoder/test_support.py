"""What the kernels must leave to the modules: an encoder that its owner changed, hooked or transformed."""

import copy

import pytest
import torch
from torch import nn

from ikem_fast.nn import STGCN
from ikem_fast.nn.encoders.stgcn import Block
from ikem_fast.ops.encoder import support
from ikem_fast.ops.encoder.fused_block import Edges, fused_block
from tests.helpers import needs_kernel

pytestmark = needs_kernel
BIG = (4, 3, 20, 25, 2)


@pytest.fixture(autouse=True)
def nothing_is_too_small(monkeypatch):
    """Have impl="auto" take the kernels wherever it may, as it does for large inputs."""
    monkeypatch.setattr(support, "SMALL", 0)


def encoder(impl="auto", **settings):
    torch.manual_seed(1)
    sizes = {"hidden_channels": 4, "hidden_dim": 8, "num_classes": 5, "dropout": 0.0}
    return STGCN(**sizes | settings, impl=impl)


def each(change):
    """A change of every block but the first, which has no residual."""

    def on(net):
        for block in list(net.st_gcn_networks)[1:]:
            change(block)

    return on


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Halved(Block):
    def forward(self, x, A):
        return super().forward(x, A) / 2


def replace_convolution(**settings):
    def change(block):
        old = block.tcn[2]
        options = {"stride": old.stride, "padding": (4, 0), "kernel_size": (9, 1)} | settings
        block.tcn[2] = nn.Conv2d(old.in_channels, old.out_channels, **options)

    return each(change)


def replace_norm(**settings):
    return each(lambda block: block.tcn.__setitem__(3, nn.BatchNorm2d(block.tcn[3].num_features, **settings)))


def twice(module):
    """A forward of one object's own."""
    plain = module.forward
    module.forward = lambda *inputs: 2 * plain(*inputs)


def pointwise_subclass(block):
    conv = block.gcn.conv
    block.gcn.conv = Doubled(conv.in_channels, conv.out_channels, 1)


def denser(net):
    net.A = (torch.rand(net.A.shape) < 0.3).float() / 20


def importance(shape):
    def change(net):
        net.edge_importance = nn.ParameterList(nn.Parameter(torch.full(shape, 0.5)) for _ in range(10))

    return change


CHANGES = {
    "leaky relu": each(lambda b: b.tcn.__setitem__(1, nn.LeakyReLU(0.5))),
    "dilation": replace_convolution(dilation=(2, 1), padding=(8, 0)),
    "groups": replace_convolution(groups=2),
    "padding mode": replace_convolution(padding_mode="circular"),
    "shorter kernel": replace_convolution(kernel_size=(3, 1), padding=(1, 0)),
    "longer kernel": replace_convolution(kernel_size=(11, 1), padding=(5, 0)),
    "no bias": replace_convolution(bias=False),
    "norm eps": replace_norm(eps=0.1),
    "norm momentum": replace_norm(momentum=0.7),
    "norm average": replace_norm(momentum=None),
    "norm without statistics": replace_norm(track_running_stats=False),
    "norm without affine": replace_norm(affine=False),
    "group norm": each(lambda b: b.tcn.__setitem__(0, nn.GroupNorm(2, b.tcn[0].num_features))),
    "subclassed convolution": each(pointwise_subclass),
    "subclassed block": lambda net: setattr(net.st_gcn_networks[3], "__class__", Halved),
    "own forward": each(lambda b: twice(b.tcn[2])),
    "appended layer": each(lambda b: b.tcn.append(nn.Tanh())),
    "residual taken away": each(lambda b: setattr(b, "residual", None)),
    "residual replaced": each(lambda b: setattr(b, "residual", nn.Sequential(*b.residual, nn.Tanh()))
                              if isinstance(b.residual, nn.Sequential) else None),
    "weight norm": each(lambda b: nn.utils.parametrizations.weight_norm(b.tcn[2])),
    "spectral norm": each(lambda b: nn.utils.parametrizations.spectral_norm(b.gcn.conv).eval()),
    "denser graph": denser,
    "one importance for all": importance(()),
    "importance for each partition": importance((3, 1, 1)),
    "frozen part": lambda net: net.st_gcn_networks[:5].requires_grad_(False),
    "frozen norms": each(lambda b: b.tcn[3].eval()),
    "dropout of everything": each(lambda b: setattr(b.tcn[4], "p", 1.0)),
}  # fmt: skip


def outcome(net, x):
    x = x.clone().requires_grad_()
    output, feature = net(x)
    (output.sum() + feature.pow(2).sum()).backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    buffers = {name: buffer.float() for name, buffer in net.named_buffers()}
    return {"output": output.detach(), "x": x.grad} | gradients | buffers


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_encoder_computes_what_its_modules_say(change, training):
    x, results = torch.randn(BIG), []
    for impl in ("auto", "reference"):
        net = encoder(impl)
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_var.fill_(0.1)
        net.train(training)
        change(net)
        results.append(outcome(net, x))
    got, expected = results
    assert got.keys() == expected.keys()
    learned = dict(net.named_parameters()).keys() & expected.keys()
    largest = max((expected[name].norm() for name in learned), default=0)
    for name, tensor in expected.items():
        # Some gradients are zero in exact arithmetic: rounding, measured against the largest. A ReLU that
        # flips by rounding makes single numbers jump, so all of them are looked at together.
        floor = 0.01 * largest if name in learned else 1e-6
        assert (got[name] - tensor).norm() / tensor.norm().clamp_min(floor) < 5e-3, name


HOOKS = {
    "forward": lambda module, call: module.register_forward_hook(lambda *_: call()),
    "forward pre": lambda module, call: module.register_forward_pre_hook(lambda *_: call()),
    "backward": lambda module, call: module.register_full_backward_hook(lambda *_: call()),
    "backward pre": lambda module, call: module.register_full_backward_pre_hook(lambda *_: call()),
}
EVERYWHERE = {
    "forward": nn.modules.module.register_module_forward_hook,
    "forward pre": nn.modules.module.register_module_forward_pre_hook,
    "backward": nn.modules.module.register_module_full_backward_hook,
}
PARTS = {
    "block": lambda b: b,
    "gcn": lambda b: b.gcn,
    "gcn.conv": lambda b: b.gcn.conv,
    "tcn": lambda b: b.tcn,
    "dropout": lambda b: b.tcn[4],
    "residual": lambda b: b.residual,
}


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("part", PARTS)
def test_hooks_fire(part, kind):
    net, fired = encoder(), []
    HOOKS[kind](PARTS[part](net.st_gcn_networks[4]), lambda: fired.append(1))
    net(torch.randn(BIG).requires_grad_())[0].sum().backward()
    assert len(fired) == 1


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_hooks_on_all_modules_fire(kind):
    net, seen = encoder(), set()
    handle = EVERYWHERE[kind](lambda module, *_: seen.add(module))
    try:
        net(torch.randn(BIG).requires_grad_())[0].sum().backward()
    finally:
        handle.remove()
    assert net.st_gcn_networks[4].tcn[2] in seen


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (CHANGES["leaky relu"], "LeakyReLU"),
        (CHANGES["dilation"], "dilation"),
        (CHANGES["own forward"], "forward"),
    ],
)
def test_what_is_in_the_way_of_the_kernels_is_named(change, name):
    net = encoder("fused")
    change(net)
    with pytest.raises(RuntimeError, match=f"{name}.*block 1"):
        net(torch.randn(BIG))
    net = encoder("fused")
    net.st_gcn_networks[2].register_forward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match=r"hooks on Block in block 2"):
        net(torch.randn(BIG))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_other_dtypes_fall_back(dtype, training):
    x = torch.randn(BIG)
    nets = [encoder(impl).to(dtype).train(training) for impl in ("auto", "reference")]
    got, expected = (outcome(net, x.to(dtype)) for net in nets)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())
    assert got["output"].dtype == dtype
    with pytest.raises(RuntimeError, match=str(dtype)):
        encoder("fused").to(dtype)(x.to(dtype))


def test_float16_autocast_falls_back():
    net, x = encoder().eval(), torch.randn(BIG)
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        got = net(x)[0]
        net.impl = "reference"
        assert torch.equal(got, net(x)[0])


def second(net, x):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[1].pow(2).sum(), x, create_graph=True)
    return torch.autograd.grad(gradient.pow(2).sum(), x)[0]


def test_second_derivatives_are_refused_by_name():
    net, x = encoder().eval(), torch.randn(BIG)
    with pytest.raises(RuntimeError, match="impl='reference'"):
        second(net, x)
    net.impl = "reference"
    assert second(net, x).isfinite().all()


@pytest.mark.parametrize("which", ["x", "A", "bias", "weight"])
def test_second_derivatives_of_a_block_are_refused_whatever_they_are_taken_in(which):
    """The incoming gradient requires none here: only what the block was computed from does."""
    block, A = Block(4, 4, 3, stride=1, dropout=0.0, residual=True), STGCN().A.clone().requires_grad_()
    x = torch.randn(2, 9, 25, 4, requires_grad=True)
    y = fused_block(block, x, A, Edges.of(A))
    inputs = {"x": x, "A": A, "bias": block.gcn.conv.bias, "weight": block.tcn[2].weight}
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="impl='reference'"):
        torch.autograd.grad(gradient.pow(2).sum(), inputs[which])


def test_a_graph_of_the_gradients_may_be_made_and_left_alone():
    net, plain = encoder(), encoder()
    x = torch.randn(BIG)
    plain(x)[0].sum().backward()
    net(x)[0].sum().backward(create_graph=True)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad.detach(), plain.get_parameter(name).grad)
        parameter.grad = None


def test_transforms_fall_back():
    net, x = encoder().eval(), torch.randn(BIG)
    plain = copy.deepcopy(net)
    plain.impl = "reference"
    feature = lambda net: lambda x: net(x)[1]  # noqa: E731
    calls = {
        "jvp": lambda net: torch.func.jvp(feature(net), (x,), (torch.ones_like(x),))[1],
        "grad": lambda net: torch.func.grad(lambda x: net(x)[1].sum())(x),
        "vmap": lambda net: torch.func.vmap(lambda clip: net(clip[None])[1][0])(x),
    }
    for name, call in calls.items():
        with torch.no_grad():
            torch.testing.assert_close(call(net), call(plain), msg=name)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        tangent = torch.autograd.forward_ad.unpack_dual(net(dual)[1]).tangent
    torch.testing.assert_close(tangent, calls["jvp"](plain))
    with pytest.raises(RuntimeError, match=r"torch\.func"):
        calls["jvp"](encoder("fused").eval())


def test_a_compiled_encoder_falls_back():
    net, x = encoder().eval(), torch.randn(BIG)
    with torch.no_grad():
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x)[1], net(x)[1], rtol=1e-4, atol=1e-5)

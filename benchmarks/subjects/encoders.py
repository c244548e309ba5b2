"""The encoders: parameters, arithmetic of a clip, and clips a second forward and in training."""

import functools

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, addmm_flop

from benchmarks import show
from benchmarks.subject import Subject
from ikem_fast.nn import create_encoder
from ikem_fast.skeleton import get_layout

LAYOUT, FRAMES, BODIES, CLASSES = "ntu-rgb+d", 50, 1, 128
WAYS = {
    "stgcn": ("stgcn", {}),
    "stgcn, parts": ("stgcn", {"pooling": "parts"}),
    "tcn": ("tcn", {}),
    "transformer": ("transformer", {}),
    "transformer of MAMP's size": (
        "transformer", {"hidden_channels": 256, "layers": 8, "heads": 8, "frames": 4},
    ),
}  # fmt: skip
LARGE = ("transformer of MAMP's size",)  # left out of a quick run


def make(way, device="cpu", **more):
    """The encoder of a way."""
    name, sizes = WAYS[way]
    return create_encoder(name, layout=LAYOUT, bodies=BODIES, num_classes=CLASSES, **sizes, **more).to(device)


def draw(clips, device="cpu"):
    return torch.randn(clips, 3, FRAMES, get_layout(LAYOUT).num_joints, BODIES, device=device)


def flops(way):
    """Of the products of one clip, forward; attention written out, as torch does not count a CPU's own."""
    more = {"impl": "reference"} if WAYS[way][0] == "stgcn" else {}
    encoder = make(way, **more).eval()
    counted = {torch.ops.aten.addmm_: _in_place}
    with (
        FlopCounterMode(display=False, custom_mapping=counted) as counter,
        sdpa_kernel(SDPBackend.MATH),
        torch.no_grad(),
    ):
        encoder(draw(1))
    return counter.get_total_flops()


def _in_place(into, a, b, **rest):
    return addmm_flop(into, a, b)


def forward(way, clips, device="cpu"):
    """A call that gives the features of a batch."""
    encoder, x = make(way, device).eval(), draw(clips, device)
    return torch.no_grad()(lambda: encoder(x))


def training(way, clips, device="cpu"):
    """A call that goes forward and back through a batch."""
    encoder, x = make(way, device).train(), draw(clips, device)

    def call():
        encoder.zero_grad()
        encoder(x)[0].square().sum().backward()

    return call


def measure(run, clips=64, rounds=5):
    ways = [way for way in WAYS if not (run.settings.quick and way in LARGE)]
    sizes = {way: {"parameters": sum(p.numel() for p in make(way).parameters())} for way in ways}
    for way in ways:
        sizes[way] |= {"flops": flops(way), "feature": make(way).hidden_dim}
    for what, call in (("forward", forward), ("training", training)):
        calls = {way: call(way, clips, run.device) for way in ways}
        run.compare(calls, rounds, more=sizes.get, what=what, clips=clips)


def table(results):
    rows = []
    for row in show.pick(results.rows, what="forward"):
        (trained,) = show.pick(results.rows, what="training", way=row["way"])
        speeds = [show.written(one["clips"] / show.median(one)) for one in (row, trained)]
        sizes = [f"{row['parameters']:,}", show.written(row["flops"] / 1e6), row["feature"]]
        rows.append((row["way"], *sizes, *speeds))
    titles = ("parameters|", "MFLOP a clip|", "feature|", "clips/s forward|", "clips/s in training|")
    return show.table(("encoder", *titles), rows)


def headline(results):
    tcn, stgcn = (show.pick(results.rows, what="training", way=way)[0] for way in ("tcn", "stgcn"))
    tcn_flops, stgcn_flops = (show.written(row["flops"] / 1e6) for row in (tcn, stgcn))
    return (
        f"tcn needs {tcn_flops} MFLOP a clip, stgcn {stgcn_flops}; "
        f"in training it is {show.written(show.median(stgcn) / show.median(tcn), 2)} times as fast."
    )


def calls():
    for way in ("stgcn", "tcn", "transformer"):
        yield "an encoder, forward and back", way, functools.partial(training, way, 8)


SUBJECT = Subject(
    about="""One encoder on clips of one body (3,50,25,1) in float32, with each encoder's own default sizes;
the parameters are with a linear layer to 128 outputs, the arithmetic is forward, counted by
`torch.utils.flop_counter`, two for a multiplication and its addition. Training is forward and back.""",
    measure=measure,
    show=table,
    headline=headline,
    calls=calls,
)

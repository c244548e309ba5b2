"""The table of encoders, and what a model takes from it."""

import pytest
import torch
from torch import nn

from ikem_fast.data import open_dataset
from ikem_fast.evaluate import KnnConfig, evaluate_knn
from ikem_fast.evaluate.features import estimate_statistics, load_encoders
from ikem_fast.nn import ENCODERS, IKEM, STGCN, RelationalDistiller, create_encoder
from ikem_fast.nn.encoders import base
from ikem_fast.ops import derive_modalities
from ikem_fast.ops.encoder import convolution
from ikem_fast.skeleton import Layout, get_layout
from ikem_fast.train import DistillConfig, ModelConfig, PretrainConfig, distill, load_checkpoint, pretrain

SMALL = {"feature_dim": 8, "queue_size": 16, "hidden_dim": 12, "layout": "kinect-v1"}
STICK = Layout("stick", ("hip", "head", "right", "left"), (-1, 0, 1, 1), torso=(0, 2, 3), shoulders=(2, 3))
CASES = [
    ("stgcn", {"hidden_channels": 4, "hidden_dim": 12}),
    ("stgcn", {"hidden_channels": 4, "hidden_dim": 6, "pooling": "meanmax"}),
    ("stgcn", {"hidden_channels": 4, "hidden_dim": 6, "pooling": "parts"}),
    ("tcn", {"hidden_channels": 12}),
    ("tcn", {"hidden_channels": 12, "blocks": 2, "segments": 3}),
    ("tcn", {"hidden_channels": 12, "together": True}),
    ("transformer", {"hidden_channels": 12}),
    ("transformer", {"hidden_channels": 12, "layers": 2, "heads": 3, "frames": 3}),
]


SMALL_AND_SURE = {"hidden_channels": 4, "dropout": 0.0}


class Pooled(nn.Module):
    """A second encoder: a linear map of the mean pose of each body; it depends on their number."""

    def __init__(self, layout, bodies, num_classes, hidden_dim=12, depth=1):
        super().__init__()
        layers = [
            nn.Linear(60 * bodies, hidden_dim),
            *(nn.Linear(hidden_dim, hidden_dim) for _ in range(1, depth)),
        ]
        self.hidden = nn.Sequential(*layers)
        self.hidden_dim = hidden_dim
        self.fc = nn.Linear(hidden_dim, num_classes)

    def forward(self, x):
        feature = self.hidden(x.mean(2).flatten(1))
        return self.fc(feature), feature


@pytest.fixture
def pooled(monkeypatch):
    monkeypatch.setitem(ENCODERS, "pooled", Pooled)


@pytest.mark.parametrize(("name", "sizes"), CASES)
@pytest.mark.parametrize(("layout", "bodies"), [("ntu-rgb+d", 2), ("coco", 1), (STICK, 3)])
def test_every_encoder_keeps_the_contract(name, sizes, layout, bodies):
    encoder = create_encoder(name, layout=layout, bodies=bodies, num_classes=5, **sizes)
    joints = get_layout(layout).num_joints
    for clips, times in ((3, 8), (2, 1), (1, 50)):
        output, feature = encoder(torch.randn(clips, 3, times, joints, bodies))
        assert output.shape == (clips, 5) and feature.shape == (clips, encoder.hidden_dim)
        assert feature.isfinite().all()
        torch.testing.assert_close(output, encoder.fc(feature))
    with pytest.raises(
        ValueError, match=rf"x: expected shape \(N, C=3, T, V={joints}, M\), found \(2, 3, 4, 9,"
    ):
        encoder(torch.randn(2, 3, 4, 9, bodies))
    encoder.fc = nn.Identity()
    assert torch.equal(*encoder.eval()(torch.randn(3, 3, 8, joints, bodies)))


@pytest.mark.parametrize(("name", "sizes"), [case for case in CASES if not case[1].get("together")])
def test_which_body_comes_first_does_not_matter_and_absent_ones_do_not_count(name, sizes):
    encoder = create_encoder(name, layout="sbu", bodies=2, num_classes=5, **sizes).eval()
    x = torch.randn(3, 3, 8, 15, 2)
    both = encoder(x)[1]
    torch.testing.assert_close(encoder(x.flip(-1))[1], both)
    assert not torch.allclose(encoder(x[..., [0, 0]])[1], both), "the second body is not seen"
    x[1:, ..., 1] = 0
    alone = encoder(x)[1]
    assert alone.isfinite().all() and encoder(torch.zeros_like(x))[1].isfinite().all()
    if (name, sizes.get("pooling", "mean")) != ("stgcn", "mean"):  # as published, absent bodies count there
        torch.testing.assert_close(alone[1:], encoder(x[1:, ..., :1])[1])


def test_bodies_that_go_through_together_are_as_joints_of_one():
    def make(bodies, together):
        sizes = {"hidden_channels": 12, "together": together}
        return create_encoder("tcn", layout="sbu", bodies=bodies, num_classes=5, **sizes).eval()

    encoder, alone, one = make(2, True), make(1, False), make(1, True)
    x = torch.randn(3, 3, 8, 15, 2)
    both = encoder(x)[1]
    assert encoder.hidden_dim == alone.hidden_dim
    assert not torch.allclose(encoder(x.flip(-1))[1], both), "which body comes first is not seen"
    x[..., 1] += 1
    assert not torch.allclose(encoder(x)[1], both), "how far they are apart is not seen"
    x[..., 1] = 0
    assert encoder(x)[1].isfinite().all() and encoder(torch.zeros_like(x))[1].isfinite().all()
    with pytest.raises(ValueError, match=r"x: expected clips of 2 bodies, found \(3, 3, 8, 15, 1\)"):
        encoder(x[..., :1])
    one.load_state_dict(alone.state_dict())
    assert torch.equal(alone(x[..., :1])[1], one(x[..., :1])[1])


@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_every_parameter_gets_a_gradient_and_a_copy_gives_the_same_numbers(name, sizes):
    make = lambda: create_encoder(name, layout="coco", bodies=2, num_classes=5, **sizes)  # noqa: E731
    encoder, x = make(), torch.randn(4, 3, 11, 17, 2)
    encoder(x)[0].square().sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []
    copy = make()
    copy.load_state_dict(encoder.state_dict())
    assert torch.equal(copy.eval()(x)[0], encoder.eval()(x)[0])


@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_every_encoder_computes_in_mixed_precision_and_in_any_dtype(name, sizes, monkeypatch):
    encoder = create_encoder(name, layout="coco", bodies=1, num_classes=5, **sizes).eval()
    x = torch.randn(4, 3, 11, 17, 1)
    expected = encoder(x)[1]
    for fast in (True, False):
        monkeypatch.setattr(convolution, "bfloat16_units", lambda fast=fast: fast)
        with torch.autocast("cpu", torch.bfloat16):
            output, feature = encoder(x)
            torch.testing.assert_close(feature.float(), expected, rtol=0.1, atol=0.1)
        output.float().sum().backward()
    torch.testing.assert_close(encoder.double()(x.double())[1].float(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["tcn", "transformer"])
def test_a_compiled_encoder_is_one_graph(name):
    encoder = create_encoder(name, layout="coco", bodies=2, num_classes=5, hidden_channels=12, dropout=0.0)
    x = torch.randn(4, 3, 11, 17, 2)
    torch._dynamo.reset()
    compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)
    gradients = []
    for module in (encoder, compiled):
        encoder.zero_grad()
        module(x)[0].square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "value"),
    [
        ("stgcn", "hidden_dim", 0), ("stgcn", "hidden_channels", -1), ("stgcn", "pooling", "max"),
        ("tcn", "blocks", 0), ("tcn", "segments", 1.5), ("tcn", "dropout", 1.0),
        ("tcn", "stride", 0), ("tcn", "smoothing", -1.0), ("tcn", "smoothing", float("nan")),
        ("tcn", "smoothing", "wide"), ("tcn", "together", 1),
        ("tcn", "hidden_channels", "a"),
        ("transformer", "layers", 0), ("transformer", "heads", 5), ("transformer", "frames", True),
    ],
)  # fmt: skip
def test_sizes_out_of_range_are_named(name, size, value):
    with pytest.raises(ValueError, match=f"{size}: expected .*found {value!r}"):
        create_encoder(name, layout="coco", num_classes=5, **{size: value})


@pytest.mark.parametrize("name", ENCODERS)
def test_a_run_takes_an_encoder_by_name_all_the_way(name, tiny_dataset, tmp_path):
    """Pretrained, distilled and evaluated, and gone on with though its defaults were not written out."""
    sizes = dict(next(sizes for case, sizes in reversed(CASES) if case == name))
    shared = {key: sizes.pop(key) for key in ("hidden_channels", "hidden_dim") if key in sizes}
    model = ModelConfig(
        feature_dim=4,
        queue_size=8,
        modalities=("joint", "bone"),
        encoder=base.EncoderConfig(name, sizes),
        **shared,
    )
    options = {"data": tiny_dataset, "device": "cpu", "batch_size": 8}
    settings = {**options, "out": tmp_path / "run", "exchange_from": 2, "model": model}
    pretrain(PretrainConfig(**settings, epochs=1))
    checkpoint = pretrain(PretrainConfig(**settings, epochs=2, resume=True))
    stored = load_checkpoint(checkpoint)["model_config"]
    assert stored["encoder"]["name"] == name and sizes.items() <= stored["encoder"]["sizes"].items()
    assert (stored["dropout"] is not None) is ("dropout" in base.defaults_of(name))
    student = distill(
        DistillConfig(**options, out=tmp_path / "student", teacher=checkpoint, students=("bone",), epochs=1)
    )
    for trained in (checkpoint, student):
        encoders = load_encoders(trained, open_dataset(tiny_dataset))
        assert type(encoders["bone"]) is ENCODERS[name]
        where = {"data": tiny_dataset, "checkpoint": trained, "out": tmp_path, "device": "cpu"}
        evaluate_knn(KnnConfig(**where, k=1, baselines=False))


@pytest.mark.parametrize("name", ENCODERS)
def test_estimated_statistics_are_those_of_the_clips(name, tiny_dataset):
    """In one batch they are what training would normalize by, whatever was there before."""
    dataset = open_dataset(tiny_dataset)
    chosen = {key: value for key, value in SMALL_AND_SURE.items() if key in base.defaults_of(name)}
    encoder = create_encoder(name, layout=dataset.layout, num_classes=5, **chosen)
    estimate_statistics(nn.ModuleDict({"joint": encoder}), dataset["train"], dataset.layout, device="cpu")
    clips, frames = torch.tensor(dataset["train"].clips), torch.tensor(dataset["train"].frames)
    (view,) = derive_modalities(clips, frames, modalities=("joint",), layout=dataset.layout)
    with torch.no_grad():
        torch.testing.assert_close(encoder(view)[1], encoder.train()(view)[1], rtol=0.02, atol=0.02)


def test_every_encoder_of_the_table_is_among_the_cases():
    assert {name for name, _ in CASES} == set(ENCODERS)


def test_settings_reach_the_encoder_and_unknown_ones_are_named():
    encoder = create_encoder("stgcn", layout="coco", num_classes=5, hidden_channels=4, strategy="distance")
    assert isinstance(encoder, STGCN) and encoder.st_gcn_networks[0].gcn.conv.out_channels == 12
    with pytest.raises(
        ValueError, match=r"encoder stgcn: expected settings out of .*hidden_channels.*'depth'"
    ):
        create_encoder("stgcn", layout="coco", num_classes=5, depth=3)
    with pytest.raises(ValueError, match=r"encoder: expected one of .*stgcn.*, found 'gcn'"):
        create_encoder("gcn", layout="coco", num_classes=5)


@pytest.mark.parametrize("bodies", [1, 3])
def test_models_are_made_with_any_encoder_of_the_table(pooled, bodies):
    chosen = base.EncoderConfig("pooled", {"depth": 2})
    model = IKEM(**SMALL, encoder=chosen, bodies=bodies, modalities=("joint", "bone"))
    assert len(model.query_encoders["bone"].hidden) == 2
    clips = torch.randn(4, 3, 9, 20, bodies)
    assert model(clips, clips, exchange=True).shape == (2,)
    options = {"encoder": chosen, "bodies": bodies, "modalities": ("joint", "bone")}
    for teacher in (None, model):
        student = RelationalDistiller(**SMALL, **options, teacher=teacher, students=("joint",))
        assert isinstance(student.teacher["joint"], Pooled) and isinstance(student.students["joint"], Pooled)
        assert student(clips, clips).shape == (1,)


def test_a_size_that_the_model_has_is_not_set_twice(pooled):
    with pytest.raises(ValueError, match=r"encoder.sizes: expected 'hidden_dim' as a setting of the model"):
        IKEM(**SMALL, encoder=base.EncoderConfig("pooled", {"hidden_dim": 4}))

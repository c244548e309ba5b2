"""Loss curves with every speed setting on and off, three seeds each: docs/loss_curves.png.

On: kernels, mixed precision. Off: plain torch in float32. Both on simulated people and, where a folder with
utd_mhad.npz (as `ikem-fast prepare npz` reads it) is given, on UTD-MHAD. Encoders are narrow, so that the
slow way ends. Prints the largest distance between the ways' means beside the spread of seeds.

usage: python tools/loss_curves.py OUT [FOLDER]
"""

import json
import sys
from pathlib import Path
from statistics import mean, stdev

from ikem_fast.data.formats.npz import prepare_npz
from ikem_fast.data.formats.synthetic import prepare_synthetic
from ikem_fast.nn.config import ModelConfig
from ikem_fast.train import PretrainConfig, pretrain

SEEDS = (0, 1, 2)
WAYS = {
    "kernels, mixed precision": {"impl": "auto", "amp": True},
    "plain torch, float32": {"impl": "reference", "amp": False},
}
EPOCHS, EXCHANGE_FROM = 12, 7


def curve(data, out, seed, impl, amp):
    """Sum of the losses over epochs. A run that is there already is not repeated."""
    config = PretrainConfig(
        data=data, out=out, seed=seed, amp=amp, epochs=EPOCHS, exchange_from=EXCHANGE_FROM, batch_size=32,
        lr=0.05, lr_milestones=(10,), resume=True,
        model=ModelConfig(
            queue_size=320, hidden_channels=4, hidden_dim=64, feature_dim=64, momentum=0.99, impl=impl
        ),
    )  # fmt: skip
    pretrain(config)
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def curves(data, out):
    """Way → [loss of each seed] of each epoch."""
    runs = {
        way: [curve(data, out / f"{number}-seed{seed}", seed, **settings) for seed in SEEDS]
        for number, (way, settings) in enumerate(WAYS.items())
    }
    return {way: list(zip(*seeds, strict=True)) for way, seeds in runs.items()}


def draw(axis, name, ways):
    epochs = range(1, EPOCHS + 1)
    for way, losses in ways.items():
        middle = [mean(of_epoch) for of_epoch in losses]
        (line,) = axis.plot(epochs, middle, label=way)
        low, high = zip(*((min(of_epoch), max(of_epoch)) for of_epoch in losses), strict=True)
        axis.fill_between(epochs, low, high, alpha=0.2, color=line.get_color())
    axis.axvline(EXCHANGE_FROM - 0.5, color="grey", linestyle=":")
    axis.set(title=name, xlabel="epoch (phase 2 after the dotted line)", ylabel="sum of the six losses")
    axis.legend()


def main():
    from matplotlib.figure import Figure

    out = Path(sys.argv[1])
    data = {"simulated people": out / "synthetic", "UTD-MHAD": out / "utd_mhad"}
    prepare_synthetic(data["simulated people"], clips_per_class=40, frames=25)
    if len(sys.argv) > 2:
        packed = Path(sys.argv[2]) / "utd_mhad.npz"
        prepare_npz(file=packed, layout="utd-mhad", train="subject=1,3,5,7", out=data["UTD-MHAD"])
    else:
        del data["UTD-MHAD"]
    figure = Figure(figsize=(6 * len(data), 4), layout="constrained")
    for axis, (name, folder) in zip(
        figure.subplots(1, len(data), squeeze=False)[0], data.items(), strict=True
    ):
        ways = curves(folder, out / f"{folder.name}-runs")
        draw(axis, name, ways)
        on, off = ways.values()
        apart = max(abs(mean(a) - mean(b)) for a, b in zip(on, off, strict=True))
        spread = max(stdev(of_epoch) for losses in ways.values() for of_epoch in losses)
        print(f"{name}: ways at most {apart:.2f} apart, seeds at most ± {spread:.2f}")
    figure.savefig(Path(__file__).resolve().parents[1] / "docs" / "loss_curves.png", dpi=110)


if __name__ == "__main__":
    main()

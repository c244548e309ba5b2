"""The picture of a linear evaluation: accuracy over epochs, and who is taken for whom."""

import numpy as np


def draw_linear(report, path):
    """Curves of every set, and the confusion matrix of the best one, as a PNG at `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    results, classes = report["sets"], report["classes"]
    best = max(results, key=lambda name: results[name]["top1"])
    figure = Figure(figsize=(15, 7), layout="constrained")
    FigureCanvasAgg(figure)
    curves, matrix = figure.subplots(1, 2, width_ratios=(1, 1.15))

    for name, result in results.items():
        accuracy = result["curves"]["top1"]
        label = f"{name.replace('_', ' ')}: {result['top1']:.1f}"
        curves.plot(range(1, len(accuracy) + 1), accuracy, label=label, linewidth=2.5 if "+" in name else 1.2)
    chance = 100 / len(classes)
    curves.axhline(chance, color="grey", linestyle=":", label=f"chance: {chance:.1f}")
    curves.set(xlabel="epoch", ylabel="top-1 accuracy on test clips, %", ylim=(0, 100))
    curves.set_title(f"Linear evaluation on {report['dataset']}")
    curves.grid(alpha=0.3)
    curves.legend(fontsize="small")

    confusion = np.array(results[best]["confusion"], dtype=float)
    share = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    image = matrix.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=matrix, label="% of the true class", shrink=0.8)
    matrix.set_title(f"Confusion, {best.replace('_', ' ')}", fontsize="medium")
    matrix.set(xlabel="predicted", ylabel="true")
    ticks = range(len(classes)) if len(classes) <= 60 else range(0, len(classes), 5)
    size = "small" if len(classes) <= 30 else "xx-small"
    matrix.set_xticks(ticks, [classes[i] for i in ticks], rotation=90, fontsize=size)
    matrix.set_yticks(ticks, [classes[i] for i in ticks], fontsize=size)

    beside = path.with_name(path.name + ".partial")
    figure.savefig(beside, format="png", dpi=110)
    beside.replace(path)

"""An evaluation for people: a table, and a picture of accuracy over epochs and of who is taken for whom."""

import numpy as np


def set_label(name):
    """A set's name for people: long ones by their number."""
    modalities = name.replace("_", " ").split("+")
    return " + ".join(modalities) if len(modalities) <= 3 else f"all {len(modalities)} modalities"


def result_table(report):
    """The report as a `rich` table."""
    from rich.table import Table

    table = Table(
        title=f"{report['evaluation']} on {report['dataset']}, {report['clips']['test']} test clips"
    )
    table.add_column("modalities")
    for column in ("top-1 %", "top-5 %", "mean of classes %"):
        table.add_column(column, justify="right")
    for name, result in report["sets"].items():
        seen = [accuracy for accuracy in result["per_class"].values() if accuracy is not None]
        figures = (result["top1"], result["top5"], sum(seen) / len(seen))
        table.add_row(set_label(name), *(f"{figure:.1f}" for figure in figures))
    return table


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
        label = f"{set_label(name)}: {result['top1']:.1f}"
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
    matrix.set_title(f"Confusion, {set_label(best)}", fontsize="medium")
    matrix.set(xlabel="predicted", ylabel="true")
    ticks = range(len(classes)) if len(classes) <= 60 else range(0, len(classes), 5)
    size = "small" if len(classes) <= 30 else "xx-small"
    matrix.set_xticks(ticks, [classes[i] for i in ticks], rotation=90, fontsize=size)
    matrix.set_yticks(ticks, [classes[i] for i in ticks], fontsize=size)

    beside = path.with_name(path.name + ".partial")
    figure.savefig(beside, format="png", dpi=110)
    beside.replace(path)

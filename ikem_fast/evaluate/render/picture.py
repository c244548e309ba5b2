"""Results of a probe as a picture: accuracy of each set beside its baselines, and who is taken for whom."""

from pathlib import Path

import numpy as np

from ikem_fast.errors import printable
from ikem_fast.evaluate.render import occurring, set_label
from ikem_fast.evaluate.results import Results
from ikem_fast.files import replacing


def draw(results: Results, path: Path) -> None:
    """Draw every set's accuracy and the confusion matrix of the best one, as a PNG at `path`.

    Accuracy is a curve over epochs, or a bar where the probe has none. Names are drawn as they are: a dollar
    sign in one begins no formula.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 7), layout="constrained")
    FigureCanvasAgg(figure)
    curves, matrix = figure.subplots(1, 2, width_ratios=(1, 1.15))
    if all(result.curves and result.curves.top1 for result in results.sets.values()):
        _draw_curves(curves, results)
    else:
        _draw_bars(curves, results)
    image = _draw_confusion(matrix, results)
    figure.colorbar(image, ax=matrix, label="% of the true class", shrink=0.8)
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def _draw_curves(axis, results):
    for name, result in results.sets.items():
        accuracy = result.curves.top1
        label = f"{set_label(name)}: {result.top1:.1f}" + (" (diverged)" if result.diverged else "")
        axis.plot(range(1, len(accuracy) + 1), accuracy, label=label, linewidth=2.5 if "+" in name else 1.2)
    chance = 100 / len(results.classes)
    axis.axhline(chance, color="grey", linestyle=":", label=f"chance: {chance:.1f}")
    axis.set(xlabel="epoch", ylabel="top-1 accuracy on test clips, %", ylim=(0, 100))
    axis.set_title(f"{results.evaluation} on {printable(results.dataset)}", parse_math=False)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def _draw_bars(axis, results):
    columns = {name: one.top1 for name, one in results.baselines.items()}
    columns[results.source] = {name: result.top1 for name, result in results.sets.items()}
    thick = 0.8 / len(columns)
    for i, (column, top1) in enumerate(columns.items()):
        places = [place + i * thick for place in range(len(results.sets))]
        shades = {"color": "tab:blue"} if column == results.source else {"color": str(0.85 - 0.15 * (i % 4))}
        axis.barh(places, [top1.get(name, 0) for name in results.sets], thick, label=column, **shades)
    middle = (len(columns) - 1) * thick / 2
    axis.set_yticks([place + middle for place in range(len(results.sets))], map(set_label, results.sets))
    axis.invert_yaxis()
    axis.set(xlabel="top-1 accuracy on test clips, %", xlim=(0, 100))
    axis.set_title(f"{results.evaluation} on {printable(results.dataset)}", parse_math=False)
    axis.grid(axis="x", alpha=0.3)
    axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.09), ncol=len(columns))


def _draw_confusion(axis, results):
    best = max(results.sets, key=lambda name: results.sets[name].top1)
    found, confusion = occurring(results.classes, np.array(results.sets[best].confusion, dtype=float))
    share = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axis.set_title(f"Confusion, {set_label(best)}", fontsize="medium")
    axis.set(xlabel="predicted", ylabel="true")
    classes = [printable(name, 40) for name in found]
    ticks = range(len(classes)) if len(classes) <= 60 else range(0, len(classes), 5)
    style = {"fontsize": "small" if len(classes) <= 30 else "xx-small", "parse_math": False}
    axis.set_xticks(ticks, [classes[i] for i in ticks], rotation=90, **style)
    axis.set_yticks(ticks, [classes[i] for i in ticks], **style)
    return image

"""Accuracy over minutes of pretraining: the recipe `small` beside the published one, a picture and a table.

DATA is a prepared dataset of one body and few clips, OUT holds the runs; what an interrupted call finished is
kept. The recipe's rate falls over its budget, so that each of its points is a run; the published recipe's are
checkpoints of one run, by the first seed. All six modalities side by side, ridge. The published recipe is
drawn twice: by the minutes that it takes here, and by those of the published formulation of its steps
(`benchmarks.published`), some of which are timed. Writes docs/accuracy_over_minutes.png, prints the table.

usage: python tools/accuracy_over_minutes.py DATA OUT   (with nothing else running; 5 GB in OUT meanwhile)
"""

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev

import torch

from benchmarks.published.step import PublishedStep
from benchmarks.subjects.step import make_model, timed
from ikem_fast import MODALITIES, augment
from ikem_fast.configs import read_section
from ikem_fast.data import open_dataset
from ikem_fast.evaluate.results import read_results

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "accuracy_over_minutes.png"
SIX = "+".join(MODALITIES)
SMALL, PUBLISHED, FORMULATION = "recipe small", "published recipe", "the same, in the published formulation"
SEEDS = (0, 1, 2)
BUDGETS = (20, 60, 150, 300)  # of the recipe, in steps; the last is its own
EPOCHS = (1, 5, 10, 25, 40, 50)  # of the published recipe, by the first seed alone
TIMED = 5  # steps of the published formulation


def ikem_fast(command, **options):
    given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    subprocess.run([sys.executable, "-m", "ikem_fast", *command.split(), *given], check=True)


def evaluated(data, checkpoint, out, baselines):
    """The results of all six; what is there already is taken."""
    if not (out / "linear.json").is_file():
        options = {"data": data, "checkpoint": checkpoint, "out": out, "sets": SIX, "probe": "ridge"}
        ikem_fast("evaluate linear", **options, baselines=str(baselines).lower())
    return read_results(out / "linear.json")


def minutes(run, steps):
    """How long the first steps of a run took, by its log."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return sum(line["seconds"] for line in lines if line["step"] <= steps) / 60


def small_runs(data, out, seed):
    """Steps → (minutes, results), a run each."""
    points = {}
    for steps in BUDGETS:
        run = out / f"small-{steps}-seed{seed}"
        if not (run / "linear" / "linear.json").is_file():
            ikem_fast("pretrain --resume", data=data, out=run, seed=seed, max_steps=steps, loggers="[]")
        baselines = (steps, seed) == (BUDGETS[-1], SEEDS[0])
        results = evaluated(data, run, run / "linear", baselines)
        points[steps] = minutes(run, steps), results
        forget(run)
    return points


def published_run(data, out):
    """Steps → (minutes, results), a checkpoint each."""
    run, config = out / f"published-seed{SEEDS[0]}", read_section("published_small", "pretrain")
    epoch = math.ceil(len(open_dataset(data)["train"]) / config["batch_size"])
    if not (run / f"linear-{EPOCHS[-1]}" / "linear.json").is_file():
        options = {"seed": SEEDS[0], "loggers": "[]", "keep_every": epoch, "checkpoint_steps": epoch}
        ikem_fast("pretrain --config published_small --resume", data=data, out=run, **options)
    points = {}
    for epochs in EPOCHS:
        steps, last = epochs * epoch, epochs == EPOCHS[-1]
        checkpoint = run / ("checkpoint.pt" if last else f"checkpoint-{steps:08}.pt")
        results = evaluated(data, checkpoint, run / f"linear-{epochs}", last)
        points[steps] = minutes(run, steps), results
    forget(run)
    return points


def forget(run):
    for checkpoint in run.glob("checkpoint*.pt"):
        checkpoint.unlink()


def formulation_minutes(data):
    """Steps → minutes of the published formulation: phase 1 and 2 each take what one of their steps does."""
    dataset, config = open_dataset(data), read_section("published_small", "pretrain")
    size, queue_size = config["batch_size"], config["model"]["queue_size"]
    first_phase = (config["exchange_from"] - 1) * math.ceil(len(dataset["train"]) / size)
    clips, frames = (torch.tensor(part[:size]) for part in (dataset["train"].clips, dataset["train"].frames))
    drawn = torch.Generator().manual_seed(0)
    views = [
        {
            "shear": augment.draw_shear(size, generator=drawn),
            "crop_start": augment.draw_crop_start(size, dataset.num_frames, generator=drawn),
        }
        for _ in range(2)
    ]
    seconds = {}
    for phase in ("contrast", "exchange"):
        shape = {"layout": dataset.skeleton, "bodies": dataset.num_bodies}
        step = PublishedStep(make_model(phase, queue_size, impl="reference", **shape))
        taken = [timed(partial(step, clips, frames, views, phase), "cpu") for _ in range(TIMED)]
        seconds[phase] = median(taken[1:])
        print(f"published formulation, {phase}: {seconds[phase]:.2f} s a step of {size} clips")
    return lambda steps: (
        (min(steps, first_phase) * seconds["contrast"] + max(0, steps - first_phase) * seconds["exchange"])
        / 60
    )


def summary(runs):
    """[(steps, minutes, accuracies of the seeds)], rising; minutes are the fastest seed's."""
    return [
        (steps, min(run[steps][0] for run in runs), [run[steps][1].sets[SIX].top1 for run in runs])
        for steps in runs[0]
    ]


def baseline(points, name):
    """What stands beside the last point of the first seed."""
    return list(points.values())[-1][1].baselines[name].top1[SIX]


def cell(top1):
    return f"{mean(top1):.1f}" + (f" ± {stdev(top1):.1f}" if len(top1) > 1 else "")


def draw(curves, lines):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axis = figure.subplots()
    for name, points in curves.items():
        _, x, top1 = zip(*points, strict=True)
        (line,) = axis.plot(x, [mean(each) for each in top1], marker="o", label=name)
        low, high = [min(each) for each in top1], [max(each) for each in top1]
        axis.fill_between(x, low, high, alpha=0.2, color=line.get_color())
    for (name, height), style in zip(lines.items(), (":", "--", "-."), strict=True):
        axis.axhline(height, color="grey", linestyle=style, label=f"{name}, {height:.1f}")
    axis.set(xscale="log", xlabel="minutes of pretraining", ylabel="top-1 of all six, ridge, %")
    axis.xaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(PICTURE, dpi=110)


def main():
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    small = [small_runs(data, out, seed) for seed in SEEDS]
    published = published_run(data, out)
    curves = {SMALL: summary(small), PUBLISHED: summary([published])}
    in_formulation = formulation_minutes(data)
    curves[FORMULATION] = [(steps, in_formulation(steps), top1) for steps, _, top1 in curves[PUBLISHED]]
    lines = {
        "coordinates": baseline(small[0], "raw"),
        "untrained, encoder of small": baseline(small[0], "untrained"),
        "untrained, published encoder": baseline(published, "untrained"),
    }
    draw(curves, lines)
    print("\n| | steps | minutes | top-1 |\n| --- | ---: | ---: | ---: |")
    for name, points in curves.items():
        for steps, x, top1 in points:
            print(f"| {name} | {steps} | {x:.1f} | {cell(top1)} |")
    print(", ".join(f"{name} {height:.1f}" for name, height in lines.items()))


if __name__ == "__main__":
    main()

"""The whole way on simulated people: prepare, pretrain, distil, evaluate, and one table of what came out."""

from pathlib import Path
from typing import Annotated

from ikem_fast.configs import read_section
from ikem_fast.data import Dataset
from ikem_fast.data.formats.synthetic import prepare_synthetic
from ikem_fast.evaluate import PROTOCOLS, LinearConfig, evaluate_linear
from ikem_fast.evaluate.render import set_label
from ikem_fast.report import write_report
from ikem_fast.runtime.checkpoint import NAME
from ikem_fast.settings import Allowed, checked
from ikem_fast.train import DistillConfig, ModelConfig, PretrainConfig, distill, pretrain
from ikem_fast.train.log import METRICS

CLEARLY = 5.0  # percentage points by which training must beat the coordinates


@checked
def demo(
    out: Path = Path("runs/demo"),
    seed: Annotated[int, Allowed(least=0, most=2**63 - 1)] = 0,
    device: str = "auto",
) -> int:
    """Show on simulated people that training works. Started again, it goes on where it was.

    Args:
        out: Folder for everything.
        seed: What the people, the weights and the training are drawn from.
        device: Where to compute: cpu, cuda, cuda:1, …; auto takes a GPU where there is one.

    Returns:
        Exit status: 0, or 1 if training did not clearly beat the raw coordinates, or random weights at all.
    """
    from rich.console import Console

    console = Console()
    data, common = out / "data", {"data": out / "data", "device": device, "seed": seed}

    console.rule("1. prepare")
    prepare_people(out, seed)

    console.rule("2. pretrain: contrast, then exchange between modalities")
    teacher = pretrain(teacher_config(out, seed, device))

    console.rule("3. distil six modalities into three")
    student = distill(student_config(out, seed, device, teacher))

    console.rule("4. evaluate")
    runs = {"trained": teacher, "student": student}
    results = {
        name: evaluate_linear(
            LinearConfig(
                checkpoint=checkpoint,
                baselines=name == "trained",
                untrained_seeds=1,
                out=out / f"linear_{name}",
                **common,
            )
        )
        for name, checkpoint in runs.items()
    }
    accuracy = {name: beside.top1 for name, beside in results["trained"].baselines.items()} | {
        name: {modalities: result.top1 for modalities, result in found.sets.items()}
        for name, found in results.items()
    }
    console.print(_table(accuracy, results["trained"].clips["test"]))
    for name, found in results.items():
        for warning in found.warnings:
            console.print(f"{name}: the probe of {warning}", style="red", highlight=False)

    console.rule("5. report")
    page = out / "report.html"
    write_report(
        [*(out / run for run in ("teacher", "student", *(f"linear_{name}" for name in runs)))],
        page,
        data,
        device,
    )
    console.print("left behind:")
    for path in (
        page,
        data,
        *(out / run / name for run in ("teacher", "student") for name in (NAME, METRICS)),
        *(out / f"linear_{name}" / file for name in runs for file in PROTOCOLS["linear"].files),
    ):
        console.print(f"  {path}", highlight=False)
    return _verdict(accuracy, console)


def prepare_people(out: Path, seed: int) -> Dataset:
    """Prepare the people that the demo is about."""
    return prepare_synthetic(out / "data", seed=seed, **read_section("demo", "synthetic"))


def teacher_config(out: Path, seed: int, device: str) -> PretrainConfig:
    """Give the settings of the demo's pretraining."""
    settings = read_section("demo", "pretrain")
    model = ModelConfig.of(settings.pop("model"))
    where = {"data": out / "data", "out": out / "teacher"}
    return PretrainConfig(model=model, resume=True, seed=seed, device=device, **where, **settings)


def student_config(out: Path, seed: int, device: str, teacher: Path) -> DistillConfig:
    """Give the settings of the demo's distillation."""
    where = {"data": out / "data", "out": out / "student", "teacher": teacher}
    return DistillConfig(resume=True, seed=seed, device=device, **where, **read_section("demo", "distill"))


def _table(accuracy, clips):
    from rich.table import Table

    table = Table(title=f"top-1 accuracy in % of a linear classifier, {clips} clips of people not trained on")
    table.add_column("modalities")
    for name in accuracy:
        table.add_column(name, justify="right")
    for modalities in accuracy["trained"]:
        figures = [accuracy[name].get(modalities) for name in accuracy]
        table.add_row(
            set_label(modalities), *("" if figure is None else f"{figure:.1f}" for figure in figures)
        )
    return table


def _verdict(accuracy, console):
    """Exit status: do all modalities together clearly beat the coordinates, and random weights at all?"""
    gains = {}
    for name in ("trained", "student"):
        modalities = max(accuracy[name], key=lambda together: together.count("+"))
        gains[name] = {
            simple: accuracy[name][modalities] - accuracy[simple][modalities]
            for simple in ("raw", "untrained")
        }
        over = ", ".join(f"{gain:+.1f} points over {simple}" for simple, gain in gains[name].items())
        console.print(f"{name}, {set_label(modalities)}: {over}")
    if gains["trained"]["raw"] >= CLEARLY and gains["trained"]["untrained"] > 0:
        return 0
    console.print(
        f"training did not beat the coordinates by {CLEARLY:.0f} points, and random weights at all",
        style="red",
    )
    return 1

"""What a day with a GPU (`benchmarks/day.py`) is to show, beside what was predicted for its card."""

import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from benchmarks import show
from benchmarks.harness import NEAREST, PHASE_2
from benchmarks.run import read_results
from benchmarks.subject import Results
from benchmarks.subjects import kernels, parts

# A time holds that is at most so many times the predicted one: the model knows rates, not stalls.
TOLERANCE = 1.25
# Of the step (H200) and of a derived view, what was asked of them.
ASKED, DERIVATION = 8000, 20e-6
BOTH = "+".join(PHASE_2)


@dataclass(frozen=True)
class Claim:
    """One line of the first page. holds: None where nothing was measured, or predicted for the card."""

    what: str
    predicted: str
    measured: str = "–"
    holds: bool | None = None

    @property
    def verdict(self):
        if self.holds is None:
            return "–" if self.measured == "–" else "no prediction"
        return "holds" if self.holds else "**fails**"


def claims(out):
    """The `Claim`s, ten of them, by the figures in the stages' folders under `out`."""
    found, tuned = results(out / "kernels", "kernels"), results(out / "autotune", "kernels")
    return [
        build(out / "build"),
        tests(out / "tests" / "tests.xml"),
        *(loss(found, names) for names in (BOTH, "relational_distillation", NEAREST)),
        plain(found),
        derivation(results(out / "kernels", "derivation")),
        step(results(out / "step", "step")),
        training(out / "training", results(out / "step", "step")),
        tiles(found, tuned),
    ]


def results(folder, subject):
    """`Results` of a subject in a stage's folder, unfinished ones too; without rows where there are none."""
    for end in ("jsonl", "part"):
        for path in sorted(folder.glob(f"{subject}-*.{end}")):
            return read_results(path)
    return Results({"gpu": None}, [])


def build(folder):
    done = folder / "done.json"
    what = "CUDA kernels build; every kernel of the self-test is the reference"
    if not done.is_file():
        return Claim(what, "yes")
    well = json.loads(done.read_text(encoding="utf-8"))["ended_well"]
    return Claim(what, "yes", "yes" if well else "no", well)


def tests(path):
    what = "tests that need a GPU"
    if not path.is_file():
        return Claim(what, "all pass")
    counts = [suite.attrib for suite in ElementTree.parse(path).iter("testsuite")]
    total, skipped, failed = (sum(int(c[n]) for c in counts) for n in ("tests", "skipped", "failures"))
    failed += sum(int(c["errors"]) for c in counts)
    measured = f"{total - skipped - failed} passed, {failed} failed, {skipped} skipped"
    return Claim(what, "all pass", measured, failed == 0 if total > skipped else None)


def loss(found, names):
    """The time of losses, beside that of the model."""
    what = f"{names.replace('+', ' + ')}, forward and backward, µs"
    model = kernels.predicted(kernels.card_of(found.about["gpu"]), names)
    predicted = "–" if model is None else show.written(model * 1e6)
    rows = show.pick(found.rows, losses=names, bank="bfloat16", way="fused")
    if not rows:
        return Claim(what, predicted)
    time = show.median(rows[0])
    holds = None if model is None else time <= TOLERANCE * model
    return Claim(what, predicted, show.written(time * 1e6), holds)


def plain(found):
    """How much longer plain torch takes, for the loss where that is least."""
    ratios = {}
    for row in show.pick(found.rows, way="fused"):
        other = show.pick(found.rows, way=kernels.TORCH, losses=row["losses"], bank=row["bank"])
        if other:
            ratios[row["losses"], row["bank"]] = show.median(other[0]) / show.median(row)
    what = "plain torch takes longer than each loss, times"
    if not ratios:
        return Claim(what, "> 1")
    losses, bank = min(ratios, key=ratios.get)
    least = ratios[losses, bank]
    return Claim(what, "> 1", f"{least:.1f} ({losses}, bank {bank})", least > 1)


def derivation(found):
    what = "a view of 128 clips with six modalities, µs"
    rows = [row for row in show.pick(found.rows, way="fused") if not row.get("scaling")]
    if not rows:
        return Claim(what, "≤ 20")
    time = show.median(rows[0])
    return Claim(what, "≤ 20", show.written(time * 1e6), time <= DERIVATION)


def speed(found):
    """(clips a second, way) of the fastest step of phase 2, or None."""
    rows = show.pick(found.rows, phase="exchange")
    return max(((row["N"] / show.median(row), row["way"]) for row in rows), default=None)


def step(found):
    """The fastest way, beside what the plainest would take as one graph."""
    what, fastest = f"a step of phase 2, clips/s ({ASKED:,} asked)", speed(found)
    model = parts.clips_per_second(kernels.card_of(found.about["gpu"]))
    predicted = "–" if model is None else show.written(model)
    if fastest is None:
        return Claim(what, predicted)
    holds = None if model is None else fastest[0] >= model / TOLERANCE
    return Claim(what, predicted, f"{show.written(fastest[0])} ({fastest[1]})", holds)


def training(folder, steps):
    """Whether reading, augmenting and logging keep up with the step, and losses stay finite."""
    what, fastest = "training in phase 2, clips/s, losses finite", speed(steps)
    predicted = "–" if fastest is None else f"≥ {show.written(0.9 * fastest[0])}"
    speeds, finite = [], True
    for path in folder.glob("*/metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        finite = finite and all(math.isfinite(row["loss"]) for row in rows)
        speeds += [row["clips_per_second"] for row in rows if row["phase"] == "exchange"]
    if not speeds:
        return Claim(what, predicted)
    holds = None if fastest is None else finite and max(speeds) >= 0.9 * fastest[0]
    return Claim(what, predicted, show.written(max(speeds)) + ("" if finite else ", not finite"), holds)


def tiles(found, tuned):
    """What the fastest tiles of the tables gain over the pinned ones, for the loss where that is most."""
    what = "pinned tiles take longer than the fastest, times"
    ratios = [
        show.median(row) / show.median(other)
        for row in show.pick(found.rows, way="fused")
        for other in show.pick(tuned.rows, way="fused", losses=row["losses"], bank=row["bank"])
    ]
    if not ratios:
        return Claim(what, "≤ 1.05")
    return Claim(what, "≤ 1.05", f"{max(ratios):.2f}", max(ratios) <= 1.05)

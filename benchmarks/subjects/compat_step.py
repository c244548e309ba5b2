"""A whole step of another codebase's loop, before and after our ops, and with our encoder too."""

import functools

import torch

from benchmarks import show
from benchmarks.published.loop_step import PHASES, WAYS, LoopStep
from benchmarks.subject import Subject
from ikem_fast.runtime.allocator import freed_memory_kept

N, K, SHAPE = 128, 32768, (3, 50, 25, 2)
SIZES = {"hidden_channels": 16, "hidden_dim": 256}  # as CrosSCLR publishes them
SMALL = {"hidden_channels": 4, "hidden_dim": 32}


def views(clips, seed=0):
    """Two views (N,3,T,V,M), half of the clips of one body."""
    x = torch.randn(2, clips, *SHAPE, generator=torch.Generator().manual_seed(seed)).cumsum(3) * 0.1
    x[:, ::2, ..., 1] = 0
    return x


def disagreement(phase, steps=3):
    """The largest difference from `before` of some steps' losses, over their mean; without dropout."""
    made = {way: LoopStep(way, 64, 0.01, dropout=0.0, **SMALL) for way in WAYS}
    losses = {
        way: torch.stack([step(*views(4, seed), phase) for seed in range(steps)])
        for way, step in made.items()
    }
    before = losses["before"]
    return max(((losses[way] - before).abs().max() / before.mean()).item() for way in WAYS)


def measure(run, clips=N, size=K, rounds=3):
    sizes = SIZES
    if run.settings.tiny:
        clips, size, sizes = 4, 512, SMALL
    with freed_memory_kept(torch.device("cpu")):
        for phase in PHASES:
            apart = disagreement(phase)
            assert apart < 1e-4, f"{phase}: {apart}"
            given = views(clips)
            calls = {way: functools.partial(LoopStep(way, size, **sizes), *given, phase) for way in WAYS}
            run.compare(calls, rounds, phase=phase, clips=clips, K=size, apart=apart)


def rows_of(results):
    """{way: row} of each phase."""
    return [{way: show.pick(results.rows, phase=phase, way=way)[0] for way in WAYS} for phase in PHASES]


def table(results):
    rows = [
        (
            rows["before"]["phase"],
            f"{rows['before']['clips']}, {rows['before']['K']}",
            *(show.spread(rows[way]) for way in WAYS),
            *(show.ratio(rows[way], rows["before"]) for way in WAYS[1:]),
            f"{rows['before']['apart']:.0e}",
        )
        for rows in rows_of(results)
    ]
    columns = (
        *("phase", "N, K", "before, ms|", "ops, ms|", "ops and encoder, ms|"),
        *("gain by ops|", "by both|", "apart|"),
    )
    return show.table(columns, rows)


def headline(results):
    gains = {
        way: [show.median(rows["before"]) / show.median(rows[way]) for rows in rows_of(results)]
        for way in WAYS[1:]
    }
    said = [f"{min(found):.2f} to {max(found):.2f} times by {way}" for way, found in gains.items()]
    return f"Gain in speed of a step of a loop such as CrosSCLR: {', '.join(said)}."


def calls():
    for way in WAYS:
        yield "step of CrosSCLR", way, functools.partial(_small, way)


def _small(way):
    step = LoopStep(way, 512, **SMALL)
    return functools.partial(step, *views(4), "contrast")


SUBJECT = Subject(
    devices=("cpu",),
    about=f"""A whole step as CrosSCLR has it, three streams of clips {SHAPE}, ST-GCN of
{SIZES["hidden_channels"]} channels, in our own words (`benchmarks/published/loop_step.py`): streams, encoders
of queries and keys, momentum, loss, queue, backward, SGD. Freed memory is kept on both sides; times are of
the clock. Apart is the largest difference of three steps' losses over their mean, of a smaller step.""",
    measure=measure,
    show=table,
    headline=headline,
    calls=calls,
)

"""From .skeleton files to prepared clips: processor time a clip, here and in the published formulation.

The files of a folder are read over and over. All ways run in this process, in turn, pass by pass, and what
counts is the processor's time, so the ratios hold on a busy machine. Then `ikem-fast prepare ntu` itself
prepares as many links to the files, on one core.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import show
from benchmarks.published import preparation as published
from benchmarks.run import ROOT
from benchmarks.subject import Subject
from ikem_fast import ops
from ikem_fast.data import preprocess_clips, read_skeleton
from ikem_fast.errors import InputError

CHUNK = 32  # clips that the command preprocesses at once


def our_read(path):
    return read_skeleton(path).clip()


def reference(raws):
    lengths = torch.tensor([raw.shape[1] for raw in raws])
    packed = torch.from_numpy(np.concatenate(raws, axis=1))
    return ops.preprocess_clips(packed, lengths, impl="reference")[0]


WAYS = {
    "published": (published.read, lambda raws: [published.preprocess(raw) for raw in raws]),
    "reference": (our_read, reference),
    "compiled": (our_read, lambda raws: [clip for clip, _ in preprocess_clips(raws)]),
}
LABELS = {
    "published": "published reader and preprocessing, in our words",
    "reference": 'our reader; preprocessing by `impl="reference"`, batched torch',
    "compiled": "our reader; preprocessing by the compiled pass",
}
COMMAND = "ikem-fast prepare ntu --workers 1"


def check_agreement(paths):
    """All ways give the same clip wherever there is one body to choose; returns how many files that were."""
    paths = [path for path in paths if len(np.unique(read_skeleton(path).tracking_id)) == 1]
    theirs, *ours = (preprocess([read(path) for path in paths]) for read, preprocess in WAYS.values())
    for clips in ours:
        np.testing.assert_allclose(np.stack(list(clips)), np.stack(theirs), atol=1e-4)
    return len(paths)


def in_chunks(preprocess, raws):
    for first in range(0, len(raws), CHUNK):
        preprocess(raws[first : first + CHUNK])


# Runs the command line and says last what the process took: processor seconds, and the highest point of its
# memory (which ru_maxrss is not: that is inherited from the parent).
CHILD = """
import sys, time
from ikem_fast.cli import main
code = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.process_time(), peak.split()[1], file=sys.stderr)
sys.exit(code)
"""


def run_command(paths, copies):
    """Prepare links to the files, each so often: (clips, processor seconds, peak memory in KB)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "skeletons"
        folder.mkdir()
        for place, path in enumerate(path for _ in range(copies) for path in paths):
            setup, subject, repetition = place // 212 % 32 + 1, place // 2 % 106 + 1, place % 2 + 1
            name = f"S{setup:03d}C001P{subject:03d}R{repetition:03d}{path.stem[-4:]}"  # the same action
            (folder / f"{name}.skeleton").symlink_to(path.resolve())
        command = [sys.executable, "-c", CHILD, "prepare", "ntu", "--skeletons", folder, "--workers", "1"]
        command += ["--protocol", "ntu120-xsub", "--out", Path(scratch) / "prepared"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    seconds, peak = done.stderr.split()[-2:]
    return copies * len(paths), float(seconds), int(peak)


def measure(run, clips=2000):
    folder = run.settings.skeletons
    if folder is None:
        raise InputError("--skeletons: expected a folder of .skeleton files, found none")
    paths = [path for path in sorted(folder.glob("*.skeleton")) if len(read_skeleton(path).frame)]
    if not paths:
        raise InputError(f"{folder}: expected .skeleton files with a body, found none")
    torch.set_num_threads(1)
    run.note(threads=1)
    print(f"{check_agreement(paths)} of {len(paths)} files have one body, and all ways agree on them")
    passes = -(-clips // len(paths))
    labels = {"rounds": passes, "clock": time.process_time, "files": len(paths)}
    raws = {way: [read(path) for path in paths] for way, (read, _) in WAYS.items()}
    run.compare(
        {w: lambda r=r: [r(p) for p in paths] for w, (r, _) in WAYS.items()}, part="reading", **labels
    )
    run.compare(
        {w: lambda w=w, p=p: in_chunks(p, raws[w]) for w, (_, p) in WAYS.items()},
        part="preprocessing",
        **labels,
    )
    few, start, _ = run_command(paths, 1)
    many, seconds, peak = run_command(paths, passes)
    each = (seconds - start) / (many - few)
    run.record(
        part="command",
        files=many,
        clip_ms=1e3 * each,
        start_ms=1e3 * (start - few * each),
        peak_mb=peak / 1024,
    )


def milliseconds(results, way, part):
    """Of a clip."""
    (row,) = show.pick(results.rows, way=way, part=part)
    return show.median(row, 1e3) / row["files"]


def both(results, way):
    return milliseconds(results, way, "reading") + milliseconds(results, way, "preprocessing")


def table(results):
    published_ms = both(results, "published")
    rows = []
    for way, label in LABELS.items():
        taken = [milliseconds(results, way, part) for part in ("reading", "preprocessing")]
        ratio = "1" if way == "published" else f"{published_ms / sum(taken):.1f}×"
        rows.append((label, *(f"{each:.3f}" for each in (*taken, sum(taken))), ratio))
    (command,) = show.pick(results.rows, part="command")
    spent = command["clip_ms"]
    rows.append((f"`{COMMAND}`, all but its start", "", "", f"{spent:.3f}", f"{published_ms / spent:.1f}×"))
    lines = show.table(
        ("processor time a clip", "reading, ms|", "preprocessing, ms|", "both, ms|", "ratio|"), rows
    )
    return [
        *lines,
        "",
        f"The command, on {command['files']} files: {command['start_ms']:.0f} ms to start, "
        f"at most {command['peak_mb']:.0f} MB of memory.",
    ]


def headline(results):
    (command,) = show.pick(results.rows, part="command")
    return (
        f"Preparing an NTU clip takes {command['clip_ms']:.2g} ms of one core, the published way "
        f"{both(results, 'published'):.2g}."
    )


SUBJECT = Subject(
    devices=("cpu",),
    about="""NTU RGB+D's raw files, processor time on one core, each way in turn. The compiled pass
preprocesses clips of any lengths in batches of 32 and needs no torch, so that a worker stays small.""",
    measure=measure,
    show=table,
    headline=headline,
)

"""A bundle as one file for another runtime: raw joints go in, probabilities come out.

Preprocessing, modalities, encoders and classifier are one graph, of the plain torch that defines them. It is
held to what the bundle answers for the same clips before anything is told of it.
"""

import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ikem_fast.data.preparation import Preprocessing
from ikem_fast.errors import InputError
from ikem_fast.files import replacing
from ikem_fast.nn.encoders.stgcn import STGCN
from ikem_fast.predict.bundle import Bundle
from ikem_fast.predict.prepared import preprocess_joints

Target = Literal["onnx", "torch-export"]
TARGETS: tuple[str, ...] = get_args(Target)
OUTPUTS = ("probabilities", "features", "frames")
TOLERANCE = 1e-4  # of a probability
BATCHES = (1, 32)  # that are timed
LENGTH, REPEATS = 60, 5  # frames of a timed clip, and how often it is asked
Run = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Exported:
    """What an export left.

    path: the file. size: its bytes.
    difference: the largest of a probability from the bundle's own.
    clips: how many were compared.
    milliseconds: clips at once → (the file's, the bundle's) median time for them.
    """

    path: Path
    size: int
    difference: float
    clips: int
    milliseconds: dict[int, tuple[float, float]]


def export(bundle: Bundle, out: Path, target: Target = "onnx", of: str | None = None) -> Exported:
    """Write a bundle as an ONNX file or a `torch.export` program, and hold it to the bundle.

    Its input `joints` (N,3,F,V,M) float32 has any number of clips and frames; shorter clips of a batch are
    filled up with zeros, as absent bodies are. Its outputs are `probabilities` (N,C), `features` (N,S,H) and
    `frames` (N,) int64: the true frame counts, 0 where nobody is there, −1 where a coordinate is no number;
    the rest of such a row means nothing. Names of the classes and what else a user needs stand in the file.

    Args:
        bundle: with a classifier.
        out: the file.
        target: of `TARGETS`.
        of: the set of modalities that answers; that of most, if not given.

    Raises InputError where there is no classifier, a package is missing, frames are drawn (sampling uniform),
    or the file does not give the bundle's probabilities to 1e-4 (then nothing is left at `out`).

    Example:
        export(ikem_fast.load("runs/student"), Path("student.onnx")).milliseconds[1]
    """
    name = bundle.answering(of)
    if Preprocessing.of(bundle.description.prepared).sampling == "uniform":
        raise InputError(
            f"{bundle.folder}: expected clips sampled linearly or not at all, found sampling 'uniform', "
            "which draws frames by a clip's length"
        )
    write, load = {"onnx": (_write_onnx, _load_onnx), "torch-export": (_write_program, _load_program)}[target]
    graph, clips = Graph(bundle, name).eval(), example_clips(bundle)
    batch = filled_up(clips[:3])
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as beside:
        with torch.no_grad(), _quiet():
            write(graph, torch.from_numpy(batch), facts(bundle, name), beside)
        run = load(beside)
        difference = compare(bundle, name, run, clips)
        if not difference <= TOLERANCE:
            raise InputError(
                f"{out}: expected the bundle's probabilities to {TOLERANCE:g}, found a difference of "
                f"{difference:.2g}; nothing was written"
            )
    milliseconds = {count: timed(bundle, name, run, count) for count in BATCHES}
    return Exported(out, out.stat().st_size, difference, len(clips), milliseconds)


class Graph(nn.Module):
    """Map raw clips to what a bundle answers, in operations that other runtimes have."""

    def __init__(self, bundle: Bundle, of: str) -> None:
        super().__init__()
        self.recognizer = bundle.recognizer
        self.of = of
        chosen = Preprocessing.of(bundle.description.prepared)
        self.preprocessing = replace(chosen, frames=bundle.description.frames)
        self.layout = bundle.description.layout

    def forward(self, joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map joints (N,3,F,V,M) to probabilities (N,C), features (N,S,H), frames (N,)."""
        clips, frames = preprocess_joints(joints, self.preprocessing, self.layout)
        probabilities, features = self.recognizer(clips, frames.clamp(min=1), self.of, impl="reference")
        return probabilities, features, frames


def facts(bundle: Bundle, of: str) -> dict[str, str]:
    """Say what a user of the file needs to know, as texts: JSON where it is more than a word."""
    description = bundle.description
    return {
        "format": "ikem-fast export",
        "classes": json.dumps(list(description.classes), ensure_ascii=False),
        "layout": description.layout.name,
        "joints": json.dumps(list(description.layout.joints)),
        "bodies": str(description.bodies),
        "modalities": of,
        "dataset": description.dataset,
    }


def example_clips(bundle: Bundle, count: int = 8) -> list[np.ndarray]:
    """Make raw clips (3,F,V,M) to compare by: drifting people, short and long, alone, late, away a while."""
    random = np.random.default_rng(0)
    V, M = bundle.description.layout.num_joints, bundle.description.bodies
    clips = []
    for number in range(count):
        F = (30, 7, 90, 1, 200, 50, 3, 64)[number % 8]
        pose = random.normal(0, 0.4, (3, 1, V, M))
        steps = random.normal(0, 0.02, (3, F, V, M)).cumsum(1)
        clip = (pose + steps + np.array([0, 0, 3.0])[:, None, None, None]).astype(np.float32)
        if number % 2:
            clip[..., 1:] = 0
        if F > 20:
            clip[:, : F // 10] = 0
            clip[:, F // 2 : F // 2 + 3] = 0
        clips.append(clip)
    return clips


def filled_up(clips: list[np.ndarray]) -> np.ndarray:
    """Put clips (3,F,V,M) of several lengths into a batch (N,3,F,V,M), with zeros behind the shorter ones."""
    longest = max(clip.shape[1] for clip in clips)
    return np.stack([np.pad(clip, [(0, 0), (0, longest - clip.shape[1]), (0, 0), (0, 0)]) for clip in clips])


def compare(bundle: Bundle, of: str, run: Run, clips: list[np.ndarray]) -> float:
    """Return the largest difference of a probability between a file and its bundle, alone and in a batch."""
    expected = bundle.predict(clips, of=of).probabilities
    together = run(filled_up(clips))[0]
    alone = np.concatenate([run(clip[None])[0] for clip in clips[:4]])
    return float(max(np.abs(together - expected).max(), np.abs(alone - expected[:4]).max()))


def timed(bundle: Bundle, of: str, run: Run, count: int) -> tuple[float, float]:
    """Measure a file and its bundle in turn: median milliseconds for so many clips at once."""
    random = np.random.default_rng(1)
    shape = (count, 3, LENGTH, bundle.description.layout.num_joints, bundle.description.bodies)
    clips = random.normal(0, 0.4, shape).astype(np.float32)
    ways: tuple[Callable[[], object], ...] = (lambda: run(clips), lambda: bundle.predict(clips, of=of))
    times: list[list[float]] = [[], []]
    for repeat in range(REPEATS + 1):
        for way, found in zip(ways, times, strict=True):
            start = time.perf_counter()
            way()
            if repeat:  # the first is for warming up
                found.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def _program(graph, joints):
    for encoder in graph.recognizer.encoders.values():
        if isinstance(encoder, STGCN):
            encoder.impl = "reference"
    dynamic = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    # Without this a graph is for two clips and two frames at least.
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        return torch.export.export(graph, (joints,), dynamic_shapes={"joints": dynamic})


def _write_onnx(graph, joints, metadata, path):
    for package in ("onnxscript", "onnxruntime"):
        _need(package)
    program = torch.onnx.export(
        _program(graph, joints), (joints,), dynamo=True, input_names=["joints"], output_names=list(OUTPUTS),
        verbose=False,
    )  # fmt: skip
    program.model.metadata_props.update(metadata)
    program.save(path)


def _load_onnx(path):
    runtime = _need("onnxruntime")
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda joints: session.run(None, {"joints": joints})


def _write_program(graph, joints, metadata, path):
    with path.open("wb") as file:
        torch.export.save(
            _program(graph, joints), file, extra_files={f"{k}.txt": v for k, v in metadata.items()}
        )


def _load_program(path):
    with path.open("rb") as file:
        module = torch.export.load(file).module(check_guards=False)  # they know no batch of one clip

    @torch.no_grad()
    def run(joints):
        return [output.numpy() for output in module(torch.from_numpy(joints))]

    return run


def _need(package):
    try:
        return import_module(package)
    except ImportError:
        raise InputError(
            f"{package}: expected it installed, found none: pip install 'ikem-fast[export]'"
        ) from None


class _quiet(warnings.catch_warnings):
    """What torch's exporter tells its own developers is not for users."""

    def __enter__(self):
        self._disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        super().__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *exception):
        logging.disable(self._disabled)
        return super().__exit__(*exception)

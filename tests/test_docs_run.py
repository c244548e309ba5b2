"""The commands of the documentation do what it says: run as they stand there, with less training."""

import re
from importlib.util import find_spec

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.data import open_dataset, synthetic
from ikem_fast.data.formats.sbu import FOLDS
from ikem_fast.evaluate.results import read_results
from tests.data import foreign
from tests.pages import ROOT, blocks, command_of, commands

DOCS = ROOT / "docs"
SMALL = (
    "--max-steps=2", "--batch-size=8", "--device=cpu", "--loggers=[]", "--model.queue-size=16",
    "--model.encoder.name=tcn", "--model.hidden-channels=4", "--model.hidden-dim=8", "--model.feature-dim=4",
)  # fmt: skip
LESS = {
    "pretrain": SMALL,
    "distill": ("--max-steps=2", "--batch-size=8", "--device=cpu", "--loggers=[]"),
    "evaluate linear": ("--untrained-seeds=1",),
    "prepare synthetic": ("--clips-per-class=3", "--frames=8"),
    "doctor": ("--quick",),
}  # what is added to commands


def run(words):
    """Run a command of the documentation with less work, and see that it succeeds."""
    name, options = command_of(words)
    assert main([*name.split(), *options, *LESS.get(name, ())]) == 0, words


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_files_to_an_accuracy(place):
    """A stranger with twenty joints in texts does what is said, word by word."""
    page = DOCS / "own_data.md"
    (layout,) = blocks(page, "yaml")
    (place / re.match(r"# (\S+\.yaml)", layout)[1]).write_text(layout)
    rng, packed = np.random.default_rng(0), []
    for label in ("clap", "sit down", "wave"):
        for person in ("anna", "bo", "cleo", "dan"):
            raw = rng.normal(size=(int(rng.integers(15, 25)), 20, 3)).astype(np.float32)
            packed.append(raw)
            rows = np.concatenate([raw, rng.uniform(size=(*raw.shape[:2], 1))], 2).reshape(-1, 4)
            path = place / "clips" / f"{label}_{person}_1.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(foreign.lines(rows, end="\r\n").encode())
    np.savez(
        place / "clips.npz",
        x=np.concatenate(packed),
        len=list(map(len, packed)),
        y=np.repeat(range(3), 4),
        subject=np.tile(range(4), 3),
    )
    for words in commands(page):
        run(words)
    dataset = open_dataset(place / "data" / "own")
    assert dataset.classes == ("clap", "sit down", "wave") and dataset.layout == "sensor"
    assert (len(dataset["train"]), len(dataset["test"])) == (9, 3), "nine clips: one more than a batch"
    assert len(set(dataset["train"].subjects)) == 3 and len(set(dataset["test"].subjects)) == 1
    results = read_results(place / "runs" / "own" / "linear" / "linear.json")
    assert 0 <= results.sets["joint+motion+bone"].top1 <= 100
    for name in ("sensor.png", "classes.png", "report.html"):
        assert (place / name).stat().st_size > 1000


def test_from_nothing_to_answers(place):
    """The tutorial, and what other pages make of its runs: one command behind another."""
    for words in commands(DOCS / "tutorial.md"):
        if words[1] != "export" or find_spec("onnxscript"):
            run(words)
    assert {path.name for path in place.iterdir()} >= {"clip.html", "report.html", "comparison.html"}
    raw = synthetic.generate_clip(synthetic.plan_clips(1)[0], 0)
    (place / "raw").mkdir()
    for name in ("a.npy", "b.npy", "raw/c.npy"):
        np.save(name, raw.transpose(1, 2, 0, 3))
    asked = "predict raw|predict a.skeleton|torch-export|data/synthetic --augmented|report runs/teacher "
    done = []
    for page in ("predict.md", "export.md", "report.md"):
        for words in commands(DOCS / page):
            if re.search(asked, " ".join(words)):  # of what there is here, and needs no other package
                run([word.replace(".skeleton", ".npy") for word in words])
                done.append(words[1])
    assert sorted(done) == ["export", "predict", "predict", "report", "view"]
    assert (place / "student.pt2").stat().st_size > 1000 and (place / "views.html").stat().st_size > 1000


def test_the_five_folds_of_sbu(place, capsys):
    """From the packed file to the mean over its folds, by the loop on its page."""
    pairs = [fold[0] for fold in FOLDS for _ in range(4)]
    x = np.random.default_rng(0).normal(size=(8 * len(pairs), 15, 3, 2)).astype(np.float32)
    np.savez(place / "sbu.npz", x=x, len=[8] * len(pairs), y=list(range(4)) * len(FOLDS), subject=pairs)
    page = [words for words in commands(DOCS / "formats" / "sbu.md") if words[0] == "ikem-fast"]
    loop = [words for words in page if any("$n" in word for word in words)]
    assert [command_of(words)[0] for words in loop] == ["prepare sbu", "pretrain", "evaluate linear"]
    for fold in range(1, 6):
        for words in loop:
            run([word.replace("$n", str(fold)) for word in words])
    capsys.readouterr()
    run(next(words for words in page if words[1] == "compare"))
    (joint,) = re.findall(r"^joint +([\d.]+) ± [\d.]+ *$", capsys.readouterr().out, re.MULTILINE)
    each = [read_results(place / f"runs/sbu{fold}/linear/linear.json").sets["joint"] for fold in range(1, 6)]
    assert float(joint) == pytest.approx(np.mean([one.top1 for one in each]), abs=0.05)
    assert [open_dataset(place / f"data/sbu{fold}")["test"].subjects[0] for fold in range(1, 6)] == [
        fold[0] for fold in FOLDS
    ]

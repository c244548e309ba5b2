"""`prepare` with workers, and after an end that was not its own: the folder comes out alike."""

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ikem_fast.data import DatasetWriter, pipeline
from ikem_fast.data.formats.ntu import prepare_ntu
from ikem_fast.data.formats.synthetic import prepare_synthetic
from ikem_fast.data.sources import find_files
from ikem_fast.errors import InputError
from tests.helpers import contents


def test_worker_processes_change_nothing(skeletons, tmp_path, monkeypatch):
    one = prepare_ntu(tmp_path / "one", skeletons, "ntu60-xsub", workers=1)
    monkeypatch.setattr(pipeline, "CHUNK", 5)
    two = prepare_ntu(tmp_path / "two", skeletons, "ntu60-xsub", workers=2)
    assert contents(one.folder) == contents(two.folder)


def test_interrupted_with_workers(skeletons, tmp_path, monkeypatch):
    whole = prepare_ntu(tmp_path / "whole", skeletons, "ntu60-xsub")
    monkeypatch.setattr(pipeline, "CHUNK", 5)

    def interrupted(writer, split, *clip):
        if writer.done == 20:
            raise KeyboardInterrupt
        add(writer, split, *clip)

    add = DatasetWriter.add
    monkeypatch.setattr(DatasetWriter, "add", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:  # as a caller may, and with it all frames it passed
        prepare_ntu(tmp_path / "out", skeletons, "ntu60-xsub", workers=2)
    assert not multiprocessing.active_children() and kept.value
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out.partial"]
    monkeypatch.undo()
    prepare_ntu(tmp_path / "out", skeletons, "ntu60-xsub")
    assert contents(tmp_path / "out") == contents(whole.folder)


def parse_or_hang(content):
    """A worker given a path says so there, and neither goes on nor ends when told to."""
    if content:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(content.decode()).touch()
        time.sleep(60)
    return np.random.default_rng(0).normal(size=(3, 2, 20, 1)).astype(np.float32)


def test_a_worker_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "CHUNK", 1)
    monkeypatch.setattr(pipeline, "GRACE", 0.1)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "1.clip").touch()
    (tmp_path / "clips" / "2.clip").write_text(str(tmp_path / "hangs"))

    def interrupted(*_):
        while not (tmp_path / "hangs").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(DatasetWriter, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.prepare_files(
            find_files(tmp_path / "clips", ".clip"),
            lambda file: pipeline.PlannedClip(file.stem, "train"),
            parse_or_hang,
            limit=1000,
            workers=2,
            layout="kinect-v1",
            prepared={},
            out=tmp_path / "out",
            name="some",
            classes=["one"],
            num_bodies=1,
        )
    assert not multiprocessing.active_children()


KILLED = """
import os, sys
from pathlib import Path
from ikem_fast.data import writer as module
from ikem_fast.data.formats.synthetic import prepare_synthetic
module.CHECKPOINT_EVERY = 10
add = module.DatasetWriter.add
def die(writer, *clip):
    add(writer, *clip)
    if writer.done == 25:
        os._exit(9)
module.DatasetWriter.add = die
prepare_synthetic(Path(sys.argv[1]), clips_per_class=3)
"""


def test_killed(tmp_path):
    """A process that ends at once, without a chance to tidy up."""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], cwd=root, check=False)
    assert run.returncode == 9 and not (tmp_path / "out").exists()
    assert json.loads((tmp_path / "out.partial" / "progress.json").read_text())["done"] == 20
    prepare_synthetic(tmp_path / "out", clips_per_class=3)
    prepare_synthetic(tmp_path / "whole", clips_per_class=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def kill_workers(*_):
    for child in multiprocessing.active_children():
        child.kill()


def test_a_worker_that_dies_is_told_of(skeletons, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "CHUNK", 5)
    monkeypatch.setattr(DatasetWriter, "add", kill_workers)
    with pytest.raises(InputError, match=r"a worker process died .* start the command again"):
        prepare_ntu(tmp_path / "out", skeletons, "ntu60-xsub", workers=2)

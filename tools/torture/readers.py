"""Every reader of files that strangers write, as a function of bytes, with small files that are right."""

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from ikem_fast.data import FORMATS, DatasetWriter, open_dataset
from ikem_fast.data.formats import nw_ucla, text
from ikem_fast.data.formats.pickles import load_pickle
from ikem_fast.data.skeletons import _skeleton_io, parse_in_python
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError
from ikem_fast.nn.build import build_encoders
from ikem_fast.nn.config import ModelConfig
from ikem_fast.nn.recognizer import LinearHead, Recognizer
from ikem_fast.plain_yaml import load_yaml
from ikem_fast.predict import load
from ikem_fast.runtime.bundle import Description, write_bundle
from ikem_fast.runtime.checkpoint import FORMAT, load_checkpoint
from ikem_fast.skeleton import get_layout
from ikem_fast.skeleton.files import layout_of
from tests.data.test_formats import FOLDERS, MAKERS
from tests.faults.runs import ROOT, TINY

FAMILIES = {  # of readers that share a process of the fuzzer
    "texts": ("sbu", "msr-action3d", "pku-mmd", "uav-human", "bvh", "skeleton", "ntu", "table"),
    "json": ("nw-ucla", "nested", "smarthome", "openpose", "mediapipe", "coco"),
    "arrays": ("npz", "arrays", "agcn", "crossclr", "ctrgcn"),
    "pickles": ("pickle", "pyskl"),
    "binary": ("utd-mhad", "c3d"),
    "yaml": ("yaml", "layout"),
    "checkpoints": ("checkpoint", "state"),
    "bundles": ("bundle", "weights"),
    "folders": ("dataset", "progress", "numbers"),
}


@dataclass(frozen=True)
class Reader:
    """read: of bytes; raises InputError or ValueError for what is not right. samples: that are."""

    read: Callable[[bytes], object]
    samples: list[bytes]


def every_reader(folder: Path) -> dict[str, Reader]:
    """Make the readers; they write what they are given below `folder`."""
    found = {name: _of_format(name, folder / name) for name in FORMATS if name in MAKERS}
    found["skeleton"] = Reader(_both_alike, _skeletons())
    found["table"] = Reader(partial(_slowly_alike, text, text.as_rows), [b"1 -2.5\n+3e-1;4\r\n\n5,nan\n"])
    found["nested"] = Reader(partial(_slowly_alike, nw_ucla, nw_ucla.parse_clip), found["nw-ucla"].samples)
    found["pickle"] = Reader(partial(_written, folder / "a.pkl", lambda path: load_pickle(SourceFile(path))),
                             [*found["pyskl"].samples, *_labels(folder)])  # fmt: skip
    layout = b"name: a\njoints: [hip, spine, head]\nparents: [-1, hip, spine]\nswap: [[hip, head]]\n"
    config = b"pretrain:\n  lr: 0.1\n  model: {queue_size: 8, modalities: [joint]}\n"
    found["yaml"] = Reader(lambda content: load_yaml(content.decode("utf-8")), [layout, config])
    found["layout"] = Reader(lambda content: layout_of(load_yaml(content.decode("utf-8"))), [layout])
    state = _state()
    found["checkpoint"] = Reader(partial(_written, folder / "checkpoint.pt", load_checkpoint), [state])
    with zipfile.ZipFile(io.BytesIO(state)) as archive:
        inside = archive.read("archive/data.pkl")
        others = {name: archive.read(name) for name in archive.namelist() if not name.endswith("data.pkl")}
    found["state"] = Reader(partial(_state_of, folder / "state.pt", others), [inside])
    return found | _of_bundle(folder / "bundle") | _of_folder(folder / "prepared")


def _of_format(name, folder):
    """What `predict` and `prepare` read a file of the format by; of several files, each is tried."""
    folder.mkdir(parents=True)
    MAKERS[name](folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = folder if name in FOLDERS else files[0]
    whole = {file: file.read_bytes() for file in files}

    def read(content):
        file = files[content[0] % len(files)] if len(files) > 1 and content else files[0]
        file.write_bytes(content[len(files) > 1 :])
        try:
            FORMATS[name].detect(path)
            for _ in FORMATS[name].read(path):
                pass
        finally:
            file.write_bytes(whole[file])

    if len(files) == 1:
        return Reader(read, [whole[files[0]]])
    return Reader(read, [bytes([place]) + whole[file] for place, file in enumerate(files)])


def _written(path, read, content):
    path.write_bytes(content)
    return read(path)


def _both_alike(content):
    """The C++ and the Python reader of .skeleton answer alike: the same bits, or the same words."""
    answers = []
    for read in (_skeleton_io.parse, parse_in_python):
        try:
            frames, *arrays = read(content)
            answers.append([frames, *(np.asarray(array).tobytes() for array in arrays)])
        except ValueError as error:
            answers.append(str(error))
    if answers[0] != answers[1]:
        raise AssertionError(f"the two readers of .skeleton differ: {str(answers)[:300]}")


def _slowly_alike(module, read, content):
    """A reader answers alike with the extension and without it: the same bits, or the same words."""
    answers, extension = [], module._skeleton_io
    for module._skeleton_io in (None, extension):
        try:
            answers.append(read(content).tobytes())
        except ValueError as error:
            answers.append(str(error))
    if answers[0] != answers[1]:
        raise AssertionError(f"the two readers of numbers differ: {str(answers)[:300]}")


def _skeletons():
    with zipfile.ZipFile(ROOT / "tests" / "data" / "skeleton_corpus.zip") as archive:
        return [archive.read(name) for name in archive.namelist() if archive.getinfo(name).file_size]


def _labels(folder):
    return [path.read_bytes() for path in (folder / "agcn").glob("*.pkl")]


def _state():
    """A checkpoint without its digest, which whoever writes one can write, too."""
    state = {
        "format": FORMAT, "version": 2, "kind": "pretrain", "config": {}, "model_config": {}, "epoch": 1,
        "dataset": {"layout": "sbu"}, "model": {"a": torch.ones(2)}, "optimizer": {}, "step": 1,
    }  # fmt: skip
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def _state_of(path, others, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for name, other in others.items():
            archive.writestr(name, other)
    load_checkpoint(path)


def _write_bundle(folder):
    layout, model = get_layout("sbu"), ModelConfig(feature_dim=2, hidden_channels=1, hidden_dim=2)
    encoders = build_encoders(model, layout, ("joint",), bodies=1)
    head = LinearHead(torch.ones(2, 2), torch.zeros(2))
    description = Description("tiny", layout, 1, 4, ("a", "b"), ("joint",), model)
    write_bundle(folder, Recognizer(encoders, layout, {"joint": head}), description)


def _of_bundle(folder):
    _write_bundle(folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    description, tensors = config.read_bytes(), weights.read_bytes()

    def read_config(content):
        weights.write_bytes(tensors)
        _written(config, lambda path: load(path.parent), content)

    def read_weights(content):
        right = json.loads(description)
        right["weights"] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        config.write_text(json.dumps(right))
        _written(weights, lambda path: load(path.parent), content)

    return {"bundle": Reader(read_config, [description]), "weights": Reader(read_weights, [tensors])}


def _of_folder(folder):
    shutil.copytree(TINY, folder)

    def reader(name):
        path = folder / name
        whole = path.read_bytes()

        def read(content):
            path.write_bytes(content)
            try:
                open_dataset(folder)
            finally:
                path.write_bytes(whole)

        return Reader(read, [whole])

    settings = {
        "name": "tiny", "layout": "sbu", "classes": ["a"], "num_frames": 4, "num_bodies": 1, "prepared": {},
        "sources": ["1", "2", "3", "4"], "name_length": 1,
    }  # fmt: skip
    with DatasetWriter(folder.with_name("half"), **settings) as writer:
        writer.add("train", np.ones((3, 4, 15, 1), np.float32), 4, 0, "1")
    progress = folder.with_name("half.partial") / "progress.json"
    begun = progress.read_bytes()

    def read_progress(content):
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            out = Path(scratch) / "half"
            shutil.copytree(progress.parent, out.with_name("half.partial"))
            (out.with_name("half.partial") / "progress.json").write_bytes(content)
            DatasetWriter(out, **settings).close()

    return {
        "dataset": reader("dataset.json"),
        "numbers": reader("train_labels.npy"),
        "progress": Reader(read_progress, [begun]),
    }


def answered(read: Callable[[bytes], object], content: bytes) -> bool:
    """Whether bytes were read; False where they were refused with a message that says something."""
    try:
        read(content)
    except (InputError, ValueError) as error:
        if not str(error):
            raise AssertionError("refused without a word") from error
        return False
    return True
